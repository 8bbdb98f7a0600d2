"""From a name or a path to a network. Our own weights know their configuration.

A file's header holds one JSON document under ``dclip``: what kind of network it is, how to build
it, how it was made.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dclip.data.domains import looks_of
from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError, one_line
from dclip.models import registry
from dclip.models.clip import (
    MERGES_FILE,
    ClipModel,
    build_clip,
    published_config,
    read_clip_folder,
    read_open_clip,
    small_tokenizer,
)
from dclip.models.convert import converted
from dclip.models.fetch import ensure
from dclip.models.foreign import is_foreign, read_foreign
from dclip.models.header import read_header
from dclip.models.identity import CELEBA_CROP, IdentityModel, IrSe, IrSeConfig, ir_se_config
from dclip.models.judge import Judge
from dclip.models.parser import Parser, read_parser
from dclip.models.registry import KnownWeights, package_folder
from dclip.models.saved import file_digest, read_weights
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet


def locate(name: str, kind: str | None = None) -> Path:
    """The file or folder of a known name, fetched if it may be, or of a path.

    DclipError naming the choices if there is none, or if the name belongs to another kind of
    network.
    """
    entry = known(name, kind)
    if entry is not None:
        return ensure(entry.name)
    path = Path(name).expanduser()
    if path.exists():
        return path
    names = ", ".join(registry.TABLE)
    raise DclipError(f"{name!r} is neither a file nor a known name; known: {names}")


def known(name: str, kind: str | None = None) -> KnownWeights | None:
    """The registry's entry of a name. DclipError if it is a network of another kind."""
    entry = registry.find(name, kind)
    if entry is not None and kind not in (None, entry.kind):
        raise DclipError(f"{name} is a network of kind {entry.kind!r}; here {kind} is needed")
    return entry


def _expect(path: Path, *kinds: str) -> dict[str, Any]:
    header = read_header(path)
    kind = header.get("kind")
    if kind not in kinds:
        needed = " or ".join(kinds)
        raise DclipError(f"{path} holds a network of kind {kind!r}; here {needed} is needed")
    return header


def _fill(net: nn.Module, path: Path) -> nn.Module:
    try:
        net.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise DclipError(
            f"{path} does not fit the network its header describes: {one_line(error)}"
        ) from error
    return net.eval().requires_grad_(False)


def load_model(
    name_or_path: str = "toonfaces", head_dim: int = 64, image_size: int | None = None
) -> DiffusionModel:
    """A diffusion model, frozen, in eval mode, with ``eps(x, t)``, ``schedule`` and ``to(device)``.

    ``name_or_path`` is a known name (``dclip weights list``; fetched if it may be), one of our
    safetensors files, a fine-tuned edit's file (then the fine-tuned model comes back), or a foreign
    checkpoint (ddim style, ADM style, a diffusers folder): that one is recognised by its keys,
    converted once and kept in the cache. ``head_dim`` and ``image_size`` are what keys cannot tell
    of an unknown model. DclipError for anything else.
    """
    entry = known(name_or_path, "ddpm")
    source = locate(name_or_path, "ddpm")
    path = _ours(source, head_dim, image_size)
    header = _expect(path, "ddpm", "edit")
    if header.get("kind_of_weights") == "lora":
        raise DclipError(
            f"{path} holds only the low-rank updates of an edit; load its base ({header['base']!r}) "
            "and use dclip.edit, or edit.adapter= on the command line"
        )
    info = _info(header)
    if entry is not None and entry.variance is not None:
        info = replace(info, variance=entry.variance)
    unet = _fill(build_unet(info.unet), path)
    if entry is not None:
        _check_architecture(entry, source, info, unet)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return DiffusionModel(unet, info, file_digest(path)).eval()


def _info(header: dict[str, Any]) -> ModelInfo:
    """What the header of a model, or of an edit of one, says of the model."""
    model = header
    if header["kind"] == "edit":
        model = header["model"]
    schedule = Schedule(**model["schedule"])
    notes = model.get("notes", {})
    return ModelInfo(model["name"], model["unet"], model["variance"], schedule, notes)


def _check_architecture(
    entry: KnownWeights, source: Path, info: ModelInfo, unet: nn.Module
) -> None:
    """Refuse another network under a known name: what is known of the name would be wrong of it."""
    form = info.notes.get("format", "dclip")
    count = sum(parameter.numel() for parameter in unet.parameters())
    published = entry.parameters
    if info.notes.get("unused"):
        published = None  # part of what is published was left out
    if form == entry.format and published in (None, count):
        return
    expected = f"a {entry.format} one"
    if published is not None:
        expected += f" of {published:,}"
    raise DclipError(
        f"{source} is not {entry.name}: it holds a {form} network of {count:,} parameters, "
        f"where {expected} is published; give your own file by its path"
    )


def _ours(source: Path, head_dim: int, image_size: int | None) -> Path:
    """A file of ours: what is given, or the converted copy of a foreign checkpoint."""
    if not is_foreign(source):
        return source
    try:
        return converted(source, head_dim=head_dim, image_size=image_size)
    except DclipError as error:
        if str(source) in str(error):
            raise
        raise DclipError(f"{source}: {error}") from error


def load_clip(name_or_path: str = "toonfaces_clip", antialias: bool = True) -> ClipModel:
    """A CLIP with its own preprocessing and tokenizer, frozen, in eval mode.

    ``name_or_path`` is a known name (``openai_vit_b_16``; fetched if it may be), a file of ours, or
    a folder as open_clip writes it for the Hugging Face hub.
    """
    entry = known(name_or_path, "clip")
    path = locate(name_or_path, "clip")
    if entry is not None and not entry.shipped:
        return read_open_clip(path, published_config(entry.format), entry.name, antialias)
    if path.is_dir():
        return read_clip_folder(path, antialias)
    config = _expect(path, "clip")["config"]
    clip = _fill(build_clip(config), path)
    size = config["vision_cfg"]["image_size"]
    tokenizer = small_tokenizer(package_folder() / MERGES_FILE)
    return ClipModel(clip, tokenizer, size=size, antialias=antialias, name=path.stem).eval()


def load_identity(name_or_path: str = "toonfaces_identity") -> IdentityModel:
    """The identity network, frozen, in eval mode: a known one (``arcface``) or a file.

    Published networks see faces aligned as in CelebA-HQ, so their crop is CelebA-HQ's.
    """
    path = locate(name_or_path, "identity")
    if is_foreign(path):
        return _published_identity(path)
    config = _expect(path, "identity")["config"]
    stages = tuple((int(channels), int(blocks)) for channels, blocks in config.pop("stages"))
    net = _fill(IrSe(IrSeConfig(stages=stages, **config)), path)
    assert isinstance(net, IrSe)
    return IdentityModel(net).eval()


def _published_identity(path: Path) -> IdentityModel:
    state = read_foreign(path)
    try:
        net = IrSe(ir_se_config(state))
        net.load_state_dict(state)
    except (DclipError, RuntimeError) as error:
        raise DclipError(
            f"{path} was not written by dclip, nor is it the published ArcFace: {one_line(error)}"
        ) from error
    return IdentityModel(net.requires_grad_(False), CELEBA_CROP).eval()


def load_parser(name_or_path: str) -> Parser:
    """A frozen segmenter of photographs: ``bisenet``, ``ade20k``, or published files."""
    return read_parser(locate(name_or_path, "parser"))


def load_judge(name_or_path: str = "toonfaces_judge") -> Judge:
    """A judge of drawn pictures, frozen, in eval mode."""
    path = locate(name_or_path, "judge")
    judge = _fill(Judge(looks_of(name_or_path), **_expect(path, "judge")["config"]), path)
    assert isinstance(judge, Judge)
    return judge
