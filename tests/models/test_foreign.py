import inspect
import json
import pickle
import tracemalloc
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dclip.errors import DclipError
from dclip.models import convert as c
from dclip.models import foreign
from dclip.models.checkpoints import load_model
from dclip.models.recognise import recognise
from dclip.models.scheduler import KNOWN
from dclip.models.torchscript import read_torchscript
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
        ("scheduler_config.json", {"beta_schedule": "laplace"}, "beta_schedule=laplace"),
        ("scheduler_config.json", {"prediction_type": "flow"}, "prediction_type=flow"),
        ("scheduler_config.json", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
        ("scheduler_config.json", {"timestep_type": "continuous"}, "timestep_type=continuous"),
        ("scheduler_config.json", {"variance_type": "learned"}, "variance_type=learned"),
        (
            "scheduler_config.json",
            {"beta_start": "x" * 999},
            r"beta_start=x+\.\.\., where a number",
        ),
        ("scheduler_config.json", {"num_train_timesteps": 1}, "num_train_timesteps=1,"),
        ("config.json", {"class_embed_type": "timestep"}, "class_embed_type=timestep"),
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


@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchEulerDiscreteScheduler",
        "CMStochasticIterativeScheduler",
        "EDMEulerScheduler",
        "ScoreSdeVeScheduler",
        "KarrasVeScheduler",
        "IPNDMScheduler",
        "SomethingNewScheduler",
    ],
)
def test_schedulers_of_other_training_are_refused_by_name(folder, name):
    change(folder / "scheduler_config.json", _class_name=name, num_train_timesteps=1000)
    with pytest.raises(DclipError, match=f"describes a {name}; networks of flow matching"):
        c.load_foreign(folder)


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"DPMSolverSDEScheduler"}))  # needs torchsde
def test_every_known_scheduler_is_one_of_diffusers_with_these_betas(name):
    import diffusers

    kinds = inspect.signature(getattr(diffusers, name).__init__).parameters
    assert (kinds["beta_start"].default, kinds["beta_end"].default) == KNOWN[name]
    assert kinds["beta_schedule"].default == "linear"


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
@pytest.mark.parametrize("steps", [1000, 50])
def test_betas_are_those_of_diffusers(folder, kind, steps):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(steps, beta_end=0.03, beta_schedule=kind)
    theirs.save_pretrained(folder)
    schedule = c.load_foreign(folder)[1].schedule
    assert torch.allclose(schedule.alpha_bars.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-8)
    # the same as a table
    change(folder / "scheduler_config.json", trained_betas=theirs.betas.tolist())
    assert c.load_foreign(folder)[1].schedule.kind == schedule.kind


def test_betas_of_no_known_schedule_are_refused_without_a_thousand_numbers(folder):
    change(
        folder / "scheduler_config.json", trained_betas=[0.001 * (i % 7 + 1) for i in range(1000)]
    )
    with pytest.raises(DclipError, match=r"trained_betas=\(1000 entries\)") as caught:
        c.load_foreign(folder)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("settings", "prediction"),
    [
        ({"predict_epsilon": False}, "x0"),
        ({"predict_epsilon": True}, "epsilon"),
        ({"prediction_type": "sample"}, "x0"),
        ({"prediction_type": "v_prediction"}, "v"),
    ],
)
def test_what_a_network_predicts_becomes_noise(ddim, folder, settings, prediction):
    change(folder / "scheduler_config.json", beta_schedule="squaredcos_cap_v2", **settings)
    model = load_model(str(folder))
    assert model.info.prediction == prediction
    clean, noise = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 3, 16, 16)
    t = torch.tensor([20, 900])
    a = model.schedule.alpha_bars.float()[t][:, None, None, None]
    x = a.sqrt() * clean + (1 - a).sqrt() * noise
    answers = {"epsilon": noise, "x0": clean, "v": a.sqrt() * noise - (1 - a).sqrt() * clean}
    model.unet = Answering(answers[prediction])
    assert torch.allclose(model.eps(x, t), noise, atol=1e-4)


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, t, return_dict):
        return (self.answer,)


# ------------------------------------------------------------ where things lie


def saved(unet, folder, **options):
    unet.save_pretrained(folder, **options)
    return folder


@pytest.mark.parametrize(
    ("weights", "scheduler", "given"),
    [
        ("", "", ""),
        ("", "scheduler", ""),
        ("unet", "scheduler", ""),
        ("unet_ema", "scheduler", ""),
        ("unet_ema", "scheduler", "unet_ema"),
        ("unet_ema", "scheduler", "unet_ema/diffusion_pytorch_model.safetensors"),
        ("checkpoint-5/unet_ema", "scheduler", "checkpoint-5"),
        ("checkpoint-5/unet_ema", "scheduler", "checkpoint-5/unet_ema"),
    ],
)
def test_the_scheduler_is_found_wherever_diffusers_puts_it(
    ddim, tmp_path, weights, scheduler, given
):
    built(ddim.state_dict()).save_pretrained(tmp_path / weights)
    (tmp_path / scheduler).mkdir(exist_ok=True)
    change(
        tmp_path / scheduler / "scheduler_config.json",
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_large",
    )
    change(tmp_path / "model_index.json", _class_name="DDPMPipeline")
    model = load_model(str(tmp_path / given))
    assert difference(ddim, model.unet) < 1e-5
    assert (model.schedule.kind, model.info.variance) == ("cosine", "fixed_large")


def test_of_weights_and_their_average_in_a_folder_the_other_is_named(ddim, tmp_path, caplog):
    for name in ("unet", "unet_ema"):
        built(ddim.state_dict()).save_pretrained(tmp_path / name)
    with caplog.at_level("INFO", logger="dclip"):
        load_model(str(tmp_path))
    assert f"read is unet/; its running average is {tmp_path / 'unet_ema'}" in caplog.text


def test_a_folder_without_a_scheduler_says_what_is_assumed(folder, caplog):
    with caplog.at_level("INFO", logger="dclip"):
        load_model(str(folder))
    assert "schedule=linear" in caplog.text


def test_settings_of_a_running_average_are_idle(ddim, folder):
    from diffusers.training_utils import EMAModel

    average = EMAModel(built(ddim.state_dict()).parameters())
    idle = {key: value for key, value in average.state_dict().items() if key != "shadow_params"}
    change(folder / "config.json", **idle)
    assert difference(ddim, load_model(str(folder)).unet) < 1e-5


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("shards", [False, True])
def test_variants_and_shards_load(ddim, tmp_path, safe, variant, shards):
    unet = built(ddim.state_dict())
    if variant:
        unet.half()
    size = "300KB" if shards else "10GB"
    unet.save_pretrained(tmp_path, safe_serialization=safe, variant=variant, max_shard_size=size)
    assert len(list(tmp_path.glob("*-of-*"))) > 1 or not shards
    model = load_model(str(tmp_path))
    assert difference(ddim, model.unet) < (5e-3 if variant else 1e-5)
    assert next(model.parameters()).dtype == torch.float32


def test_shards_that_are_missing_are_named_and_others_are_converted_anew(ddim, tmp_path):
    built(ddim.state_dict()).save_pretrained(tmp_path, max_shard_size="300KB")
    first = c.converted(tmp_path)
    shard = sorted(tmp_path.glob("*-of-*"))[1]
    other = {key: value + 1 for key, value in load_file(shard).items()}
    save_file(other, shard)
    assert c.converted(tmp_path) != first
    with pytest.raises(DclipError, match="is one of several shards; give its folder"):
        load_model(str(shard))
    shard.unlink()
    with pytest.raises(DclipError, match=f"lacks {shard.name}; fetch the whole folder"):
        load_model(str(tmp_path))


def test_several_variants_are_not_chosen_among(ddim, tmp_path):
    for variant in ("fp16", "non_ema"):
        built(ddim.state_dict()).save_pretrained(tmp_path, variant=variant)
    with pytest.raises(DclipError, match=r"several variants .*fp16.*non_ema.*give one by its path"):
        load_model(str(tmp_path))
    file = tmp_path / "diffusion_pytorch_model.fp16.safetensors"
    assert difference(ddim, load_model(str(file)).unet) < 1e-5


def test_a_class_conditional_folder_needs_its_class(ddim, tmp_path):
    from diffusers import UNet2DModel

    plain = built(ddim.state_dict())
    net = UNet2DModel(**{**plain.config, "num_class_embeds": 3})
    net.load_state_dict(plain.state_dict(), strict=False)
    net.eval().save_pretrained(tmp_path)
    with pytest.raises(DclipError, match=r"3 classes.*checkpoint\.label=N, 0 to 2"):
        load_model(str(tmp_path))
    model, x, t = (
        load_model(str(tmp_path), label=1),
        torch.randn(2, 3, 16, 16),
        torch.tensor([1, 9]),
    )
    theirs = net(x, t, class_labels=torch.tensor([1, 1]), return_dict=False)[0]
    assert torch.allclose(model.eps(x, t), theirs, atol=1e-4)
    assert not torch.allclose(load_model(str(tmp_path), label=2).eps(x, t), theirs, atol=1e-2)


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


@pytest.mark.parametrize("extra", [{}, {"evil/constants.pkl": b""}])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, extra):
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"evil/data.pkl": b"\x80\x02}.", **extra}.items():
            archive.writestr(name, content)
        with archive.open("evil/data/0", "w") as stream:
            for _ in range(100):
                stream.write(bytes(2**20))
    read = read_torchscript if extra else foreign.read_foreign
    tracemalloc.start()
    with pytest.raises(DclipError, match=r"0\.1 MB and would unpack to 105 MB"):
        read(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**22
