import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dclip.errors import DclipError
from dclip.models import convert as c
from dclip.models import foreign
from dclip.models.checkpoints import load_model
from dclip.models.recognise import recognise
from helpers.published_networks import Evil, built, difference

# ---------------------------------------------------------------------------------------------------- files


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "ema": {}},
        lambda s: {"module." + k: v for k, v in s.items()},
        lambda s: {"state_dict": {"module.module." + k: v for k, v in s.items()}},
        lambda s: [
            {"module." + k: v for k, v in s.items()},
            {"lr": 0.1},
            3,
            1000,
        ],  # as the ddim code saves it
    ],
)
@pytest.mark.parametrize("suffix", [".ckpt", ".pth", ".pt"])
def test_wrappers_and_prefixes_are_taken_off(adm, tmp_path, wrap, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save(wrap(adm.state_dict()), path)
    assert same(foreign.read_foreign(path), adm.state_dict())


def test_files_of_the_old_torch_format_are_read(adm, tmp_path):
    torch.save(adm.state_dict(), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert same(foreign.read_foreign(str(tmp_path / "old.ckpt")), adm.state_dict())


def test_of_weights_and_their_running_average_the_weights_are_read(tmp_path):
    raw, average = {"a": torch.zeros(2)}, {"a": torch.ones(2)}
    for name, content in (
        ("dict", {"state_dict": raw, "ema": average}),
        ("list", [raw, {}, 0, 0, average]),
    ):
        torch.save(content, tmp_path / name)
        assert same(foreign.read_foreign(tmp_path / name), raw)
    torch.save({"ema": average}, tmp_path / "only")
    with pytest.raises(DclipError, match=r"more than weights: ema \(ema is a running average\)"):
        foreign.read_foreign(tmp_path / "only")


@pytest.mark.parametrize("how", ["zip", "old", "nested", 0, 2, 4])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, how):
    mark, path = tmp_path / "executed", tmp_path / "net.ckpt"
    if isinstance(how, int):
        path.write_bytes(pickle.dumps(Evil(mark), protocol=how))
    else:
        content = (
            {"state_dict": {"a": torch.zeros(2)}, "x": Evil(mark)}
            if how == "nested"
            else {"a": Evil(mark)}
        )
        torch.save(content, path, _use_new_zipfile_serialization=how != "old")
    with pytest.raises(
        DclipError,
        match=r"carries code or other objects.*convert it to safetensors on a machine where you trust it",
    ) as caught:
        foreign.read_foreign(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    pickle.loads(pickle.dumps(Evil(mark)))  # the trap does work
    assert mark.exists()


def test_a_whole_module_is_refused_with_the_name_of_its_class(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(DclipError, match=r"\(torch\.nn\.modules\.linear\.Linear\)"):
        foreign.read_foreign(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "content",
    [{"a": torch.zeros(1), "epoch": 3}, {"state_dict": {}}, {}, [1, 2], torch.zeros(3), []],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(DclipError, match=r"net\.pth"):
        foreign.read_foreign(tmp_path / "net.pth")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("part", [0.001, 0.2, 0.5, 0.99])
def test_a_truncated_pickle_is_refused(adm, tmp_path, part, old):
    path = tmp_path / "net.ckpt"
    torch.save(adm.state_dict(), path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(DclipError, match="truncated, damaged or no checkpoint") as caught:
        foreign.read_foreign(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"hello, this is no checkpoint",
        bytes(range(256)) * 4,
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"PK\x03\x04",
    ],
)
@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors"])
def test_foreign_files_are_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DclipError, match="truncated, damaged or no checkpoint"):
        foreign.read_foreign(tmp_path / name)


@pytest.mark.parametrize("name", ["net.ckpt", "net.safetensors"])
@pytest.mark.parametrize(
    "page",
    [
        "<!DOCTYPE html><html>Google Drive - Virus scan warning",
        "\n <html>",
        "\ufeff<?xml version='1.0'?><Error><Code>AccessDenied",
    ],
)
def test_a_page_saved_as_weights_is_named_as_such(tmp_path, page, name):
    (tmp_path / name).write_text(page, encoding="utf-8")
    with pytest.raises(
        DclipError, match=r"is a web page \(HTML or XML\), not weights.*fetch it again"
    ):
        foreign.read_foreign(tmp_path / name)


def test_pointers_empty_files_and_missing_files_are_named_as_such(tmp_path):
    (tmp_path / "pointer.pth").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    )
    (tmp_path / "empty.pth").write_bytes(b"")
    for name, said in (
        ("pointer.pth", "Git LFS pointer"),
        ("empty.pth", "is empty"),
        ("none.pth", "does not exist"),
        ("", "holds no diff"),
    ):
        with pytest.raises(DclipError, match=said):
            foreign.read_foreign(tmp_path / name)


def test_safetensors_are_read_and_truncated_ones_refused(adm, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(adm.state_dict(), path)
    assert same(foreign.read_foreign(path), adm.state_dict())
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DclipError, match="truncated"):
        foreign.read_foreign(path)


# ---------------------------------------------------------------------------------------------------- diffusers folders


def old_names(state):
    for new, old in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ):
        state = {k.replace(f".{new}.", f".{old}."): v for k, v in state.items()}
    return state


@pytest.mark.parametrize("where", ["", "unet"])
@pytest.mark.parametrize("old", [False, True])
def test_a_diffusers_folder_loads_as_saved(ddim, tmp_path, where, old):
    unet = built(ddim.state_dict())
    unet.save_pretrained(tmp_path / where, safe_serialization=not old)
    if old:  # .bin, and attention as it was called before
        torch.save(old_names(unet.state_dict()), tmp_path / where / "diffusion_pytorch_model.bin")
    net, info = c.load_foreign(tmp_path)
    assert difference(ddim, net) < 1e-5
    assert (info.notes["format"], info.variance, info.unet["sample_size"]) == (
        "diffusers",
        "fixed_small",
        32,
    )
    assert difference(ddim, load_model(str(c.converted(tmp_path))).unet) < 1e-5
    file = next((tmp_path / where).glob("diffusion_pytorch_model.*"))
    assert (
        difference(ddim, c.load_foreign(file)[0]) < 1e-5
    )  # the file alone, its config.json beside it


@pytest.fixture
def folder(ddim, tmp_path):
    built(ddim.state_dict()).save_pretrained(tmp_path)
    return tmp_path


def change(path, **settings):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **settings}))


def test_the_schedule_and_the_variance_come_from_the_folder(folder):
    change(
        folder / "scheduler_config.json",
        num_train_timesteps=500,
        beta_end=0.03,
        variance_type="fixed_large",
    )
    _, info = c.load_foreign(folder)
    assert (info.schedule.steps, info.schedule.beta_start, info.schedule.beta_end) == (
        500,
        1e-4,
        0.03,
    )
    assert info.variance == "fixed_large"


@pytest.mark.parametrize(
    ("file", "settings", "said"),
    [
        (
            "scheduler_config.json",
            {"beta_schedule": "squaredcos_cap_v2"},
            "beta_schedule=squaredcos",
        ),
        (
            "scheduler_config.json",
            {"prediction_type": "v_prediction"},
            "prediction_type=v_prediction",
        ),
        (
            "config.json",
            {"_class_name": "UNet2DConditionModel"},
            "describes a UNet2DConditionModel",
        ),
        ("config.json", {"num_head_channels": 8}, "does not take .num_head_channels"),
        ("config.json", {"time_embedding_type": "fourier"}, "time_embedding_type=fourier"),
        ("config.json", {"sample_size": None}, "sample_size=None is no square; give image_size"),
        ("config.json", {"sample_size": [16, 32]}, "is no square"),
        ("config.json", {"layers_per_block": 1}, "unknown down_blocks.0.resnets.1"),
        (
            "config.json",
            {"down_block_types": ["DownBlock2D"]},
            "UNet2DModel refuses this configuration",
        ),
    ],
)
def test_a_folder_that_describes_something_else_is_refused(folder, file, settings, said):
    change(folder / file, **settings)
    with pytest.raises(DclipError, match=said):
        c.load_foreign(folder)


def test_diffusers_weights_without_their_configuration_are_recognised_but_not_converted(folder):
    state = foreign.read_foreign(folder)
    found = recognise(state)
    assert (found.format, found.unet) == ("diffusers", {})
    with pytest.raises(DclipError, match=r"need the config\.json"):
        c.convert(state, found)
    (folder / "config.json").write_text("<html>")
    with pytest.raises(DclipError, match="is not JSON"):
        c.load_foreign(folder)


def test_ours_are_told_from_foreign_ones(nets, folder, tmp_path):
    assert not foreign.is_foreign(nets["model16"])
    assert not foreign.is_foreign("toonfaces")
    assert foreign.is_foreign(folder)
    assert foreign.is_foreign(folder / "diffusion_pytorch_model.safetensors")
    (tmp_path / "net.pth").write_bytes(b"x")
    assert foreign.is_foreign(tmp_path / "net.pth")
    damaged = tmp_path / "ours.safetensors"
    damaged.write_bytes(nets["model16"].read_bytes()[:-3])
    assert not foreign.is_foreign(damaged)  # load_model says what is wrong with it
