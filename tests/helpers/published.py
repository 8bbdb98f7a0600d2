"""Random weights in the published formats, at tiny widths, under the registry's names."""

from __future__ import annotations

import json
from dataclasses import replace

import open_clip
import torch
from safetensors.torch import save_file

from dclip.models import registry
from dclip.models.clip import build_clip
from dclip.models.identity import IrSe, IrSeConfig
from dclip.models.parser import BiSeNet, SceneSegmenter
from helpers.published_networks import ADM, DDIM, AdmNet, DdimNet, built, random_net

TINY_IR_SE = IrSeConfig(input_size=8, stem=4, stages=((4, 2), (8, 1)), embedding=6)
TINY_CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def randomised(net, seed=0):
    """A network whose norms have seen something, and whose convolutions keep the signal's size."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            kept = noise * (2 / value[0].numel()) ** 0.5 if value.ndim == 4 else value + 0.1 * noise
            value.copy_(noise.abs() + 0.5 if "running_var" in name else kept)
    return net.eval().requires_grad_(False)


def write_ddim(path):
    torch.save(random_net(DdimNet, **DDIM).state_dict(), path)


def write_adm(path):
    torch.save(random_net(AdmNet, **{**ADM, "mult": (1, 1, 2), "head_dim": 64}).state_dict(), path)


def write_diffusers(folder):
    built(random_net(DdimNet, **DDIM).state_dict()).save_pretrained(folder)


def write_clip(path):
    save_file(randomised(build_clip(TINY_CLIP)).state_dict(), str(path))


def write_identity(path):
    torch.save(randomised(IrSe(TINY_IR_SE)).state_dict(), path)


def write_bisenet(path):
    torch.save(randomised(BiSeNet(width=4)).state_dict(), path)


def write_ade20k(folder):
    folder.mkdir(parents=True, exist_ok=True)
    net = randomised(SceneSegmenter(width=2))
    for part in ("encoder", "decoder"):
        torch.save(getattr(net, part).state_dict(), folder / f"{part}_epoch_20.pth")


WRITERS = {
    "ddim": write_ddim,
    "adm": write_adm,
    "diffusers": write_diffusers,
    "ir_se": write_identity,
    "bisenet": write_bisenet,
    "ade20k": write_ade20k,
}


def plant(folder, monkeypatch, *names):
    """Put random weights where published ones are looked for, and forget hashes and sizes."""
    config = folder / "arch" / "tiny-clip.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(config)
    monkeypatch.setenv("DCLIP_WEIGHTS", str(folder))
    for name in names:
        entry = without_hashes(registry.TABLE[name])
        if entry.kind == "clip":
            entry = replace(entry, format="tiny-clip")
        monkeypatch.setitem(registry.TABLE, name, entry)
        place = entry.place(folder)
        target = place if len(entry.files) > 1 else place / entry.files[0].name
        WRITERS.get(entry.format, write_clip)(target)


def without_hashes(entry):
    """The entry as if nothing were known about its files."""
    files = (
        replace(f, sources=tuple(replace(s, size=None, sha256=None, md5=None) for s in f.sources))
        for f in entry.files
    )
    return replace(entry, files=tuple(files), parameters=None)
