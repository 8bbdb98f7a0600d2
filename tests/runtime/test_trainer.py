import pytest
import torch

from dclip.config import Trainer
from dclip.errors import DclipError
from dclip.pipeline import run
from dclip.runtime import trainer
from dclip.runtime.device import device_of
from helpers.runs import configure


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


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_here_is_refused_where_it_was_asked_for(name, tmp_path, monkeypatch):
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)
    cfg = configure(f"trainer.accelerator={name}", f"output={tmp_path / 'out'}")
    with pytest.raises(DclipError, match=f"trainer.accelerator={name}: torch finds none here"):
        run(cfg)
    assert not (tmp_path / "out").exists()
    assert device_of(Trainer()).type == device_of(Trainer("cpu")).type == "cpu"
