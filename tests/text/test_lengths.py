"""The edit's texts must fit into the CLIPs that read them."""

import pytest

from dclip.errors import DclipError
from dclip.text.lengths import check_texts
from helpers.networks import a_run
from helpers.runs import configure, run, words

LONG = "a person with " + " and ".join(["red hair"] * 12)


def networks(cfg, model, clip, heldout=None):
    return a_run(cfg, model, clip=clip, heldout=heldout).networks


@pytest.mark.parametrize("setting", ["edit.source", "edit.target"])
@pytest.mark.parametrize("task", ["finetune", "sample task.start=images"])
def test_a_text_longer_than_a_clips_context_is_refused_by_its_setting(clip, model, setting, task):
    cfg = configure(f"task={task.split()[0]}", *task.split()[1:], f"{setting}='{LONG}'")
    for guiding, heldout in ((clip, None), (None, clip)):
        with pytest.raises(DclipError, match=f"{setting} is too long for the CLIP") as caught:
            check_texts(cfg, networks(cfg, model, guiding, heldout))
        assert "it reads 32" in str(caught.value) and "\n" not in str(caught.value)
    check_texts(cfg, networks(cfg, model, None))


def test_prompt_templates_count(clip, model):
    text = "a " * 28
    short = configure(f"edit.target='{text}'")
    check_texts(short, networks(short, model, clip))
    long = configure(f"edit.target='{text}'", "loss.templates=imagenet79")
    with pytest.raises(DclipError, match=r"edit\.target is too long"):
        check_texts(long, networks(long, model, clip))


def test_texts_that_nobody_reads_may_be_long(clip, model, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    examples = configure(f"edit.examples={tmp_path}", f"edit.target='{LONG}'")
    check_texts(examples, networks(examples, model, clip))
    noise = configure("task=sample", f"edit.target='{LONG}'", "guidance.targets=zombie")
    check_texts(noise, networks(noise, model, clip))


def test_a_run_is_refused_before_anything_is_encoded(tiny, tmp_path):
    settings = {k: v for k, v in tiny.items() if k != "experiment"}
    with pytest.raises(DclipError, match=r"edit\.target is too long"):
        run(*words(settings, output=tmp_path, **{"edit.target": LONG}))
    assert not list(tmp_path.rglob("samples"))
