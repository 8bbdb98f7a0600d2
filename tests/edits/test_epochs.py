"""The edits of single epochs: kept while learning, and applied with ``epoch=N``."""

import pytest
import torch
from safetensors.torch import load_file

import dclip
from dclip.edits.header import read_edit_header
from dclip.edits.saved import described, read_edit
from dclip.errors import DclipError
from dclip.files import read_json
from helpers.runs import configure, refusal, run, words

LOW = {
    "method.lora.rank": 2,
    "method.epochs": 3,
    "dataset.train": 2,
    "dataset.validation": 0,
    "dataset.test": 1,
    "degrees": "[]",
}


@pytest.fixture(scope="module")
def settings(tiny):
    return {**tiny, **LOW, "metric": "none"}


@pytest.fixture(scope="module")
def learned(settings, tmp_path_factory):
    return run(*words(settings, output=tmp_path_factory.mktemp("learned")))


def epochs_of(folder):
    return sorted(int(path.stem[-2:]) for path in (folder / "epochs").glob("*.safetensors"))


def test_every_epoch_of_a_small_edit_is_kept_and_the_last_is_the_runs_own(learned):
    assert epochs_of(learned) == [1, 2, 3]
    own = load_file(learned / "adapter.safetensors")
    parts = [load_file(learned / "epochs" / f"epoch_0{epoch}.safetensors") for epoch in (2, 3)]
    assert all(torch.equal(own[key], parts[1][key]) for key in own)
    assert not all(torch.equal(own[key], parts[0][key]) for key in own)
    assert sum(path.stat().st_size for path in (learned / "epochs").iterdir()) < 300_000


def test_an_epochs_edit_is_applied_as_the_runs_own_is(settings, learned, tmp_path):
    chosen = {"task": "edit", "edit.adapter": learned, "output": tmp_path}
    groups = ("checkpoint", "clip", "metric", "trainer", "logger", "dataset")
    keep = {key: value for key, value in settings.items() if key.split(".")[0] in groups}
    one = configure(*words(keep, **chosen, epoch=1))
    assert one.edit.adapters == [f"{learned}/epochs/epoch_01.safetensors"] and one.epoch is None
    assert one.edit.name == "red_hair"
    assert configure(*words(keep, **chosen, epoch=3)).edit.adapters == [str(learned)]
    folder = run(*words(keep, **chosen, epoch=1))
    [card] = read_json(folder / "status.json")["edits"]
    assert card["epoch"] == 1 and ", of epoch 1, learned" in described(card)


def test_an_epoch_that_is_not_there_is_answered_with_those_which_are(settings, learned, tmp_path):
    told = [
        "task=edit",
        f"edit.adapter={learned}",
        f"checkpoint.name={settings['checkpoint.name']}",
    ]
    message = refusal(*told, "epoch=7")
    assert message.startswith(f"epoch=7 of edit.adapter={learned} is not there; its run has")
    assert "epochs 1, 2, 3" in message
    assert "epoch=0 of edit.adapter" in refusal(*told, "epoch=0")
    assert "epoch=0 must be 1 or more" in refusal("task=demo", "epoch=0")
    assert "is for the edits of edit.adapter" in refusal("epoch=2")
    (tmp_path / "mine.safetensors").write_bytes((learned / "adapter.safetensors").read_bytes())
    told[1] = f"edit.adapter={tmp_path / 'mine.safetensors'}"
    assert "no edit in the folder of the run that learned it" in refusal(*told, "epoch=2")


def test_the_notebook_takes_an_epoch_too(settings, learned):
    model = dclip.load_model(str(settings["checkpoint.name"]))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, last = (
        dclip.edit(model, images, learned, epoch=epoch, region="none") for epoch in (1, 3)
    )
    assert torch.equal(last, dclip.edit(model, images, learned, region="none"))
    assert not torch.equal(first, last)
    with pytest.raises(DclipError, match=r"epoch=9 of edit\.adapter"):
        dclip.edit(model, images, learned, epoch=9)


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"method__keep_epochs": 1}, [3]),
        ({"method__keep_epochs": 0}, []),
        ({"method__lora__rank": 0}, []),  # full weights are large
        ({"method__lora__rank": 0, "method__keep_epochs": 2}, [2, 3]),
    ],
)
def test_how_many_are_kept_can_be_set(settings, tmp_path, more, kept):
    folder = run(*words(settings, output=tmp_path, dataset__validation=0, **more))
    assert epochs_of(folder) == kept


def test_edits_in_h_space_are_kept_too(settings, tmp_path):
    groups = ("method.objective", "method.lora.rank")
    hspace = {key: value for key, value in settings.items() if key not in groups}
    hspace |= {"experiment": "toonfaces_beard", "method.epochs": 2}
    folder = run(*words(hspace, output=tmp_path, dataset__validation=0))
    assert epochs_of(folder) == [1, 2]
    assert read_edit_header(str(folder / "epochs" / "epoch_01.safetensors"))[1]["epoch"] == 1
    assert read_edit(str(folder / "epochs" / "epoch_01.safetensors")).method == "asyrp"


def test_the_page_offers_the_edits_of_an_epoch(learned):
    from dclip.pages import demo

    paths = demo.of_epoch([str(learned / "adapter.safetensors"), "nowhere.safetensors"], 2)
    assert paths == [f"{learned}/epochs/epoch_02.safetensors"]
    assert list(demo.labelled(paths)) == ["red hair, epoch 2"]
