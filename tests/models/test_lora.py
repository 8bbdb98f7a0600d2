"""Low-rank updates: what they add, what they cost, how they travel."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import dclip
from dclip.config import Lora, Loss
from dclip.diffusion.timesteps import pairs_down
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.methods.diffusionclip import fit
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.module import DiffusionClipTuning
from dclip.models.checkpoints import load_model
from dclip.models.lora import LowRankUpdates, target_layers
from dclip.models.memory import saved_for_backward
from dclip.models.unet import TOONFACES_UNET, build_unet
from dclip.record.record import Record
from dclip.types import Images
from helpers.networks import a_run, put_on, save_edit
from helpers.runs import configure, words

TIMES = torch.tensor([10, 400])


def pictures(n=2, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def trained(net, rank=2, alpha=None, seed=0, **layers):
    """Updates that are not zero any more."""
    lora = LowRankUpdates(net, Lora(rank, alpha, **layers), seed)
    with torch.no_grad():
        for i, update in enumerate(lora.updates.values()):
            update.up.copy_(
                0.1
                * torch.randn(
                    update.up.shape, generator=torch.Generator().manual_seed(100 * seed + i)
                )
            )
    return lora


@pytest.fixture(scope="module")
def attentive():
    """A small U-Net with attention and a time embedding, random weights."""
    small = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "attention_head_dim": 16,
    }
    types = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    torch.manual_seed(0)
    return build_unet({**small, **types, "layers_per_block": 1}).eval()


def output(net, x=None):
    with torch.no_grad():
        return net(pictures() if x is None else x, TIMES, return_dict=False)[0]


# ------------------------------------------------------------------------------------------- what it adds


def test_an_untrained_update_is_the_identity(attentive):
    before = output(attentive)
    net = copy.deepcopy(attentive)
    LowRankUpdates(net, Lora(4)).attach(net)
    assert torch.equal(output(net), before)


def test_attached_and_merged_agree_and_a_merge_can_be_taken_back(attentive):
    net, before = copy.deepcopy(attentive), output(attentive)
    lora = trained(net)
    lora.attach(net)
    attached = output(net)
    lora.detach()
    assert torch.equal(output(net), before)
    lora.merge(net)
    assert float((attached - before).abs().max()) > 0.01
    torch.testing.assert_close(output(net), attached, rtol=0, atol=1e-5)
    lora.merge(net, -1.0)
    torch.testing.assert_close(output(net), before, rtol=0, atol=1e-5)


def test_several_updates_stack_with_their_weights(attentive):
    net = copy.deepcopy(attentive)
    one, other = trained(net, seed=1), trained(net, rank=3, seed=2)
    one.merge(net, 0.3)
    other.merge(net, 0.7)
    layer, name = net.conv_in.weight, "conv_in"
    expected = (
        attentive.conv_in.weight
        + 0.3 * one.updates[name].delta()
        + 0.7 * other.updates[name].delta()
    )
    torch.testing.assert_close(layer, expected, rtol=0, atol=1e-6)


def test_alpha_scales_the_update(attentive):
    one, half = trained(attentive, rank=4), trained(attentive, rank=4, alpha=2.0)
    torch.testing.assert_close(
        half.updates["conv_out"].delta() * 2, one.updates["conv_out"].delta()
    )


def test_the_layers_that_get_an_update_can_be_chosen(attentive):
    names = {
        kind: {
            n
            for n, _ in target_layers(
                attentive,
                Lora(1, attention=kind == "attention", conv=kind == "conv", time=kind == "time"),
            )
        }
        for kind in ("attention", "conv", "time")
    }
    assert all(".attentions." in n for n in names["attention"])
    assert {n.rsplit(".", 1)[-1] for n in names["attention"]} == {"to_q", "to_k", "to_v", "0"}
    assert {
        "conv_in",
        "conv_out",
        "down_blocks.0.resnets.0.conv1",
        "down_blocks.0.downsamplers.0.conv",
    } <= names["conv"]
    assert "time_embedding.linear_1" in names["time"]
    assert any("time_emb_proj" in n for n in names["time"])
    weighty = {
        n for n, m in attentive.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)
    }
    assert set.union(*names.values()) == weighty
    assert sum(map(len, names.values())) == len(weighty)


def test_updates_may_be_kept_to_the_end_of_the_network(attentive):
    names = [n for n, _ in target_layers(attentive, Lora(1, decoder_from=1))]
    assert "conv_out" in names
    assert all(n == "conv_out" or n.startswith("up_blocks.1.") for n in names)
    assert len(names) > 5
    whole = [n for n, _ in target_layers(attentive, Lora(1, decoder_from=0))]
    assert {n.split(".")[0] for n in whole} == {"up_blocks", "conv_out"}
    with pytest.raises(
        DclipError, match=r"decoder_from=2 is none of this network's decoder blocks; choose 0 to 1"
    ):
        list(target_layers(attentive, Lora(1, decoder_from=2)))


@pytest.mark.parametrize(
    "settings", [{"rank": 0, "decoder_from": 1}, {"rank": 2, "decoder_from": -1}]
)
def test_a_place_without_a_rank_or_before_the_first_block_is_refused(settings):
    with pytest.raises(DclipError, match=r"method\.lora\.decoder_from"):
        Lora(**settings)


def test_what_comes_before_the_updates_needs_no_graph(attentive):
    kept = []
    for first in (None, 1):
        net = copy.deepcopy(attentive)
        lora = LowRankUpdates(net, Lora(2, decoder_from=first))
        lora.attach(net)
        with saved_for_backward([*net.parameters(), *lora.parameters()]) as saved:
            net(pictures(), TIMES, return_dict=False)
        kept.append(saved.total)
    assert kept[1] < 0.75 * kept[0]


def test_only_the_updates_are_trained(attentive):
    net = copy.deepcopy(attentive).requires_grad_(True)
    lora = LowRankUpdates(net, Lora(2))
    lora.attach(net)
    net(pictures(), TIMES, return_dict=False)[0].square().mean().backward()
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert all(float(u.up.grad.abs().max()) > 0 for u in lora.updates.values())
    assert {k for k, _ in lora.named_parameters()} == {
        f"updates.{n.replace('.', '/')}.{part}" for n in lora.names for part in ("up", "down")
    }


# ------------------------------------------------------------------------------------------- what it costs


def published(widths, layers, attention, resnets, out, **own):
    kind = "Resnet{}sampleBlock2D" if resnets else "{}Block2D"
    kinds = ["Attn{}Block2D" if level in attention else kind for level in range(len(widths))]
    return {
        "sample_size": 256, "out_channels": out, "block_out_channels": widths, "layers_per_block": layers, "norm_num_groups": 32,
        "down_block_types": tuple(k.format("Down") for k in kinds),
        "up_block_types": tuple(k.format("Up") for k in reversed(kinds)), **own,
    }  # fmt: skip


ADM = {
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
    "downsample_type": "resnet",
    "upsample_type": "resnet",
}
SIX = (128, 128, 256, 256, 512, 512)
CELEBA = published(SIX, 2, (4,), False, 3, attention_head_dim=None, downsample_padding=0)
AFHQ = published(SIX, 1, (4,), True, 6, attn_norm_num_groups=32, **ADM)


@pytest.mark.parametrize(
    ("config", "base", "rank", "most"),
    [
        (CELEBA, 113_673_219, 4, 0.02),
        (AFHQ, 93_563_910, 4, 0.02),
        (TOONFACES_UNET, 3_682_083, 8, 0.10),
    ],
    ids=["celeba_hq", "afhq", "toonfaces"],
)
def test_an_update_is_a_small_part_of_the_real_networks(config, base, rank, most):
    with torch.device("meta"):
        net = build_unet(config)
    assert sum(p.numel() for p in net.parameters()) == base
    assert (
        sum(min(rank, len(w), w[0].numel()) * (len(w) + w[0].numel()) for w in weights_of(net))
        <= most * base
    )


def weights_of(net):
    return [layer.weight for _, layer in target_layers(net, Lora(1))]


def test_the_count_is_that_of_the_updates_themselves(attentive):
    counted = sum(
        min(4, len(w), w[0].numel()) * (len(w) + w[0].numel()) for w in weights_of(attentive)
    )
    assert sum(p.numel() for p in LowRankUpdates(attentive, Lora(4)).parameters()) == counted


def test_the_file_of_a_toonfaces_update_is_a_tenth_of_the_base(tmp_path):
    from dclip.models.checkpoints import locate
    from dclip.models.saved import save_weights

    save_weights(
        tmp_path / "a.safetensors",
        LowRankUpdates(build_unet(TOONFACES_UNET), Lora(8)),
        {"kind": "edit"},
        torch.float16,
    )
    assert (tmp_path / "a.safetensors").stat().st_size <= 0.10 * locate("toonfaces").stat().st_size


# ------------------------------------------------------------------------------------------- how it travels


@pytest.fixture
def tuned(nets, clip, tiny, tmp_path):
    """A fine-tuning of low-rank updates, and what it left."""
    overrides = words(
        {**tiny, "checkpoint.name": nets["model16"]},
        method__lora__rank=2,
        method__lr=0.01,
        method__batch=2,
    )
    cfg = configure(*overrides, "method.epochs=2")
    record = Record(tmp_path / "run", cfg, False)
    record.folder.mkdir()
    model, images = load_model(str(nets["model16"])), Images(pictures(4), tuple("abcd"))
    base = {k: v.clone() for k, v in model.unet.state_dict().items()}
    lora = LowRankUpdates(model.unet, cfg.method.lora, cfg.seed)
    lora.attach(model.unet)
    objective = EditLoss.prepare(
        Loss(clip=1.0, l1=0.3, id=0), clip, None, images, ("person", "zombie")
    )
    tuning = DiffusionClipTuning(
        model, objective, pictures(4, seed=3), pairs_down(500, 3), cfg.method, cfg.seed, change=lora
    )  # fmt: skip
    fit.fit(replace(a_run(cfg, model), record=record), cfg.method, tuning, False)
    return SimpleNamespace(
        cfg=cfg, folder=record.folder, model=model, lora=lora, base=base, tuning=tuning
    )


def test_fine_tuning_changes_the_updates_and_leaves_the_base_alone(tuned):
    assert all(torch.equal(v, tuned.base[k]) for k, v in tuned.model.unet.state_dict().items())
    assert max(float(u.up.abs().max()) for u in tuned.lora.updates.values()) > 1e-3


def test_the_checkpoint_holds_the_updates_only(tuned):
    saved = torch.load(tuned.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"change.{k}" for k in tuned.lora.state_dict()}
    assert sum(len(g["params"]) for g in saved["optimizer_states"][0]["param_groups"]) == len(
        saved["state_dict"]
    )


def test_an_update_survives_the_way_to_disk(tuned, nets):
    tuned.lora.detach()
    tuned.lora.round().merge(tuned.model.unet)
    path = tuned.folder / "adapter.safetensors"
    save_edit(path, tuned.cfg, tuned.model, 3.0, tuned.lora)
    saved = read_edit(str(path))
    fresh = put_on(saved, load_model(str(nets["model16"])))
    assert torch.equal(output(fresh.unet), output(tuned.model.unet))
    assert saved.header["kind_of_weights"] == "lora"
    assert saved.header["lora"]["rank"] == 2
    assert path.stat().st_size < 0.35 * nets["model16"].stat().st_size  # tiny layers have few ranks
    edited = dclip.edit(load_model(str(nets["model16"])), pictures(), str(path))
    assert (
        float(
            (
                edited
                - dclip.edit(load_model(str(nets["model16"])), pictures(), str(path), gamma=0.0)
            )
            .abs()
            .max()
        )
        > 1e-3
    )


def test_an_update_for_another_base_is_refused_and_the_base_is_as_it_was(tuned, nets):
    save_edit(tuned.folder / "adapter.safetensors", tuned.cfg, tuned.model, 0.0, tuned.lora)
    other = load_model(str(nets["other16"]))
    before = output(other.unet)
    with pytest.raises(DclipError, match="choose its own checkpoint") as caught:
        put_on(read_edit(str(tuned.folder)), other)
    assert "\n" not in str(caught.value)
    assert torch.equal(output(other.unet), before)


def test_an_update_alone_is_no_model(tuned):
    save_edit(tuned.folder / "adapter.safetensors", tuned.cfg, tuned.model, 0.0, tuned.lora)
    with pytest.raises(DclipError, match="only the low-rank updates"):
        load_model(str(tuned.folder / "adapter.safetensors"))


def test_a_run_with_low_rank_updates_leaves_a_small_edit_that_can_be_applied(tiny, tmp_path):
    from dclip.files import read_json
    from dclip.pipeline import run

    folder = run(
        configure(
            *words(
                {**tiny, "dataset.train": 2, "dataset.validation": 0, "degrees": "[]"},
                method__lora__rank=2,
                method__lr=0.02,
                output=tmp_path,
                metric="none",
            )
        )
    )
    assert read_edit(str(folder)).header["kind_of_weights"] == "lora"
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "checkpoint", "clip", "dataset")
    }
    again = run(
        configure(
            *words(
                keep,
                task="edit",
                edit__adapter=folder,
                output=tmp_path,
                metric="default",
                metric__judge="false",
            )
        )
    )
    assert read_json(again / "metrics.json")["images"] == 4


def test_a_block_that_the_network_does_not_have_is_refused_before_anything_is_inverted(
    tiny, tmp_path, monkeypatch
):
    from dclip import pipeline

    monkeypatch.setattr("dclip.encode.invert._invert", lambda *_: pytest.fail("it was inverted"))
    cfg = configure(
        *words(
            tiny, method__lora__rank=2, method__lora__decoder_from=9, output=tmp_path, metric="none"
        )
    )
    with pytest.raises(
        DclipError, match=r"decoder_from=9 is none of this network's decoder blocks; choose 0 to 1"
    ):
        pipeline.run(cfg)
