"""Tiny real networks and edits on disk, with random weights."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from dclip.models.checkpoints import (
    load_model,
)
from dclip.models.clip import build_clip
from dclip.models.identity import IrSe, IrSeConfig
from dclip.models.saved import model_header, save_weights
from dclip.models.unet import ModelInfo, build_unet
from helpers.runs import configure, words

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 2050, "width": 16, "heads": 2, "layers": 1},
}


def tiny_unet(size=16, out_channels=3):
    return {
        "sample_size": size,
        "out_channels": out_channels,
        "block_out_channels": (16, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
        "add_attention": False,
    }


def write_tiny_model(path, size=16, seed=0, variance="fixed_small"):
    """A diffusion model with random weights, on disk as ours are."""

    info = ModelInfo("tiny", tiny_unet(size, 6 if variance == "learned_range" else 3), variance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_unet(info.unet)
    save_weights(path, net, model_header(info))
    return path


def write_tiny_clip(path, seed=0):

    from dclip.models.saved import save_weights

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_clip(TINY_CLIP)
        for (
            name,
            parameter,
        ) in (
            net.visual.named_parameters()
        ):  # a fresh ResNet sees almost no difference between pictures
            if "bn" in name and name.endswith("weight"):
                torch.nn.init.constant_(parameter, 2.0)
    save_weights(path, net, {"kind": "clip", "config": TINY_CLIP})
    return path


def write_edit(
    folder, tiny, net, name, bias=0.0, lora=False, decoder_from=None, usual=None, **settings
):
    """A fine-tuned edit of a tiny network; returns its folder.

    It is a shifted bias, or low-rank updates (``lora``: their seed).
    """

    from dclip.config import Lora
    from dclip.models.lora import LowRankUpdates

    cfg = configure(
        *words({**tiny, "experiment": f"toonfaces_{name}", "checkpoint.name": net}, **settings)
    )
    tuned, updates = load_model(str(net)), None
    if lora:
        updates = LowRankUpdates(tuned.unet, Lora(2, decoder_from=decoder_from), 0)
        with torch.no_grad():
            for i, update in enumerate(updates.updates.values(), 1000 * (int(lora) - 1)):
                update.up.copy_(
                    0.2 * torch.randn(update.up.shape, generator=torch.Generator().manual_seed(i))
                )
        updates.round().merge(tuned.unet)
    with torch.no_grad():
        tuned.unet.conv_out.bias += bias
        if not lora:
            tuned.unet.conv_in.weight *= 1 - bias
    folder.mkdir(parents=True, exist_ok=True)
    save_edit(folder / "adapter.safetensors", cfg, tuned, 1.0, updates, usual)
    return str(folder)


SMALL_IDENTITY = {
    "input_size": 64,
    "stem": 8,
    "stages": [[8, 1], [12, 1], [8, 1]],
    "embedding": 16,
    "dropout": 0.2,
}


def identity_net():
    return IrSe(IrSeConfig(64, 8, ((8, 1), (12, 1), (8, 1)), 16, 0.2))


def a_run(cfg, model, **networks):
    """A run of these settings with a model at hand, which writes nothing."""
    from dclip.models.networks import Networks
    from dclip.record.record import Record
    from dclip.run import Run

    others = dict.fromkeys(("clip", "heldout", "identity", "judge")) | networks
    return Run(cfg, Networks(model, **others), Record.quiet(cfg))


def save_edit(path, cfg, tuned, seconds, lora=None, usual=None):
    """A tuned model as the file of its edit, with what that usually does."""
    from dclip.edits.network import NetworkEdit
    from dclip.edits.saved import edit_header
    from dclip.edits.usual import written

    run = a_run(cfg, tuned)
    run.record.seconds["seconds_adapt"] = seconds
    NetworkEdit(tuned, tuned, lora).save(
        path, {**edit_header(run), **(written(usual) if usual else {})}
    )


def put_on(saved, model):
    """The edit of a file on a copy of ``model``."""
    from dclip.edits.network import NetworkEdit

    saved.check_base(model)
    return NetworkEdit.load(saved, model).network


def start_at(images):
    """Images whose latents are their pixels."""
    from dclip.encode.encoded import Encoded

    return Encoded(images.ids, images.pixels, images)


def latents_of(cfg, model, images):
    """What images are encoded to under these settings."""
    from dclip.encode.invert import encode

    return encode(a_run(cfg, model), images).latents


def drawn(cfg, model, split):
    """The images that the model draws itself (``dataset=sampled``)."""
    from dclip.encode.source import drawn_images

    return drawn_images(a_run(cfg, model), cfg.dataset, split)


def supervised_edit(cfg, model, folder):
    """An edit learned from three faces and their true edited pictures, and what it came from."""
    from dclip.data.toonfaces.images import toonfaces
    from dclip.data.toonfaces.truths import TRUTHS
    from dclip.encode.invert import encode
    from dclip.record.record import Record

    record = Record(folder / "run", cfg, False)
    record.folder.mkdir()
    run = replace(a_run(cfg, load_model(str(model))), record=record)
    faces = toonfaces("train", 3, TRUTHS["red_hair"])
    start = encode(run, faces)
    edit = cfg.method.adapt(run, {"train": start})
    return SimpleNamespace(run=run, cfg=cfg, faces=faces, start=start, edit=edit)
