import pytest
import torch

from dclip.runtime import trainer


def test_a_checkpoint_is_whole_or_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    trainer.WholeCheckpoints().save_checkpoint({"step": 1}, path)

    def half(_, target):
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        trainer.WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
