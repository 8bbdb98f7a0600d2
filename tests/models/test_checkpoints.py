import ast
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dclip.data.toonfaces.domain import LOOKS
from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError
from dclip.models.checkpoints import (
    load_clip,
    load_identity,
    load_judge,
    load_model,
    locate,
)
from dclip.models.header import read_header
from dclip.models.judge import Judge
from dclip.models.registry import TABLE, package_folder
from dclip.models.saved import model_header, read_weights, save_weights
from dclip.models.unet import ModelInfo, build_unet
from helpers.networks import SMALL_IDENTITY, identity_net, tiny_unet, write_tiny_model
from helpers.runs import ROOT

SHIPPED = [entry.name for entry in TABLE.values() if entry.shipped]
LOADERS = {"ddpm": load_model, "clip": load_clip, "identity": load_identity, "judge": load_judge}


@pytest.fixture
def files(tmp_path, nets):
    save_weights(
        tmp_path / "identity.safetensors",
        identity_net(),
        {"kind": "identity", "config": SMALL_IDENTITY},
    )
    save_weights(
        tmp_path / "judge.safetensors", Judge(LOOKS, 4), {"kind": "judge", "config": {"width": 4}}
    )
    return {
        "ddpm": nets["model16"],
        "clip": nets["clip"],
        "identity": tmp_path / "identity.safetensors",
        "judge": tmp_path / "judge.safetensors",
    }


def state_of(loaded):
    net = (
        getattr(loaded, "unet", None)
        or getattr(loaded, "clip", None)
        or getattr(loaded, "net", None)
        or loaded
    )
    return net.state_dict()


def test_a_diffusion_model_survives_the_way_to_disk(tmp_path):
    info = ModelInfo(
        "mine", tiny_unet(), "fixed_large", Schedule(100, 1e-3, 0.1), {"source": "a test"}
    )
    net = build_unet(info.unet)
    save_weights(tmp_path / "a.safetensors", net, model_header(info))
    loaded = load_model(str(tmp_path / "a.safetensors"))
    for key, value in net.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[key], value)
    assert loaded.info.name == "mine"
    assert loaded.info.variance == "fixed_large"
    assert loaded.schedule == Schedule(100, 1e-3, 0.1)
    assert loaded.info.notes == {"source": "a test"}
    assert (loaded.image_size, loaded.channels) == (16, 3)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 99])
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.eps(x, t), net.eval()(x, t, return_dict=False)[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", LOADERS)
def test_every_network_is_loaded_whole_frozen_and_in_eval_mode(kind, files):
    loaded = LOADERS[kind](str(files[kind]))
    saved = read_weights(files[kind])
    state = state_of(loaded)
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[k], saved[k]) for k in saved)
    assert not loaded.unet.training if kind == "ddpm" else not state_owner(loaded).training
    assert not any(p.requires_grad for p in loaded.parameters())


def state_owner(loaded):
    return getattr(loaded, "clip", None) or getattr(loaded, "net", None) or loaded


def test_a_header_survives_and_half_precision_halves_the_file(tmp_path):
    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    header = {"kind": "toy", "config": {"a": [1, 2], "b": "ü"}}
    save_weights(tmp_path / "full.safetensors", net, header)
    save_weights(tmp_path / "half.safetensors", net, header, torch.float16)
    assert read_header(tmp_path / "full.safetensors") == header
    assert read_header(tmp_path / "half.safetensors") == header
    half, full = (
        read_weights(tmp_path / "half.safetensors"),
        read_weights(tmp_path / "full.safetensors"),
    )
    assert half["0.weight"].dtype == torch.float32
    assert half["1.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(half["0.weight"], full["0.weight"], rtol=1e-3, atol=1e-4)
    assert not torch.equal(half["0.weight"], full["0.weight"])
    assert (tmp_path / "half.safetensors").stat().st_size < 0.7 * (
        tmp_path / "full.safetensors"
    ).stat().st_size


def refused(load, path):
    with pytest.raises(DclipError) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, files, kind, keep):
    content = files[kind].read_bytes()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    assert "cut.safetensors" in refused(LOADERS[kind], cut)


@pytest.mark.parametrize("kind", LOADERS)
def test_a_foreign_file_is_refused(tmp_path, kind):
    save_file({"x": torch.zeros(3)}, str(tmp_path / "foreign.safetensors"))
    words = (
        "no known diffusion format" if kind == "ddpm" else "not written by dclip"
    )  # a diffusion model may be a foreign one
    assert words in refused(LOADERS[kind], tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, I am a text and not a tensor")
    assert "text.safetensors" in refused(LOADERS[kind], tmp_path / "text.safetensors")
    torch.save({"x": torch.zeros(3)}, tmp_path / "pickle.pt")
    assert "pickle.pt" in refused(LOADERS[kind], tmp_path / "pickle.pt")


@pytest.mark.parametrize("kind", LOADERS)
def test_a_network_of_another_kind_is_refused_by_name(files, kind):
    for other in LOADERS:
        if other != kind:
            message = refused(LOADERS[kind], files[other])
            assert repr(other) in message
            assert kind in message


def test_weights_that_do_not_fit_their_header_are_refused(tmp_path):
    info = ModelInfo("mine", {**tiny_unet(), "block_out_channels": (16, 32)})
    save_weights(tmp_path / "a.safetensors", build_unet(tiny_unet()), model_header(info))
    assert "does not fit" in refused(load_model, tmp_path / "a.safetensors")
    net = build_unet(tiny_unet())
    del net.conv_out
    save_weights(tmp_path / "b.safetensors", net, model_header(ModelInfo("mine", tiny_unet())))
    assert "does not fit" in refused(load_model, tmp_path / "b.safetensors")


def test_an_unknown_name_is_refused_with_the_known_ones():
    message = refused(load_model, "celeba")
    assert all(name in message for name in TABLE)


def test_two_models_have_two_digests(tmp_path):
    digests = {
        load_model(str(write_tiny_model(tmp_path / f"{s}.safetensors", seed=s))).digest
        for s in (0, 1)
    }
    assert len(digests) == 2
    again = load_model(str(write_tiny_model(tmp_path / "again.safetensors", seed=0)))
    assert again.digest in digests


def test_shipped_weights_are_small():
    sizes = {name: (package_folder() / f"{name}.safetensors").stat().st_size for name in SHIPPED}
    assert sum(sizes.values()) < 25e6


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_by_name(name):
    loaded = LOADERS[TABLE[name].kind](name)
    assert locate(name).parent == package_folder()
    assert all(bool(torch.isfinite(p).all()) for p in loaded.parameters())


def test_no_file_is_unpickled_anywhere():
    """``torch.load`` and Lightning's loaders run code from a file unless ``weights_only=True``; numpy's unless told not to."""
    calls = []
    for path in sorted((ROOT / "dclip").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                called = ast.unparse(node.func)
                calls.append(called)
                if (
                    called == "torch.load"
                    or node.func.attr == "load_from_checkpoint"
                    or "ckpt_path" in given
                ):
                    assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
                assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
                assert not called.startswith(("pickle.load", "joblib.load", "dill.load")), (
                    f"{path}:{node.lineno}"
                )
    assert "trainer.fit" in calls


def test_a_header_is_plain_json(nets):
    content = nets["model16"].read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["dclip"])["kind"] == "ddpm"


def test_the_header_of_a_model_as_all_were_is_as_it_was():
    """Edits know their model by the hash of its file: a new field in every header would change it."""
    plain = model_header(ModelInfo("mine", tiny_unet()))
    assert set(plain["schedule"]) == {"steps", "beta_start", "beta_end"}
    assert "prediction" not in plain
    other = model_header(ModelInfo("mine", {}, schedule=Schedule(kind="cosine"), prediction="v"))
    assert (other["schedule"]["kind"], other["prediction"]) == ("cosine", "v")


def test_what_a_file_of_ours_says_cannot_be_said_otherwise(nets):
    with pytest.raises(DclipError, match=r"checkpoint\.label=3, checkpoint\.prediction=v: model16"):
        load_model(str(nets["model16"]), label=3, prediction="v")
    load_model(str(nets["model16"]), head_dim=32, image_size=64)
