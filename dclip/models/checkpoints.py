"""From a name or a path to a network. Our own weights are safetensors that know their configuration.

A file's header holds one JSON document under ``dclip``: what kind of network it is, how to build it, how it was made.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dclip.diffusion.schedule import Schedule
from dclip.errors import DclipError
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
from dclip.models.fetch import ensure
from dclip.models.header import read_header
from dclip.models.identity import CELEBA_CROP, IdentityModel, IrSe, IrSeConfig, ir_se_config
from dclip.models.judge import Judge
from dclip.models.parser import Parser, read_parser
from dclip.models.registry import SHIPPED
from dclip.models.saved import file_digest, read_weights
from dclip.models.unet import DiffusionModel, ModelInfo, build_unet


def weights_dir() -> Path:
    """The package's folder of embedded weights."""
    return Path(str(resources.files("dclip"))) / "weights"


def locate(name: str) -> Path:
    """The file behind a shipped name or a path. DclipError naming the choices if there is none."""
    if name in SHIPPED:
        path = weights_dir() / f"{name}.safetensors"
        if not path.is_file():
            raise DclipError(
                f"{path.name} is not in the package; train it with experiment=pretrain_toonfaces_... task.publish=true"
            )
        return path
    path = Path(name).expanduser()
    if path.is_file():
        return path
    raise DclipError(
        f"{name!r} is neither a file nor a known name; known: {', '.join([*SHIPPED, *registry.TABLE])}"
    )


def _expect(path: Path, *kinds: str) -> dict[str, Any]:
    header = read_header(path)
    if header.get("kind") not in kinds:
        raise DclipError(
            f"{path} holds a network of kind {header.get('kind')!r}; here {' or '.join(kinds)} is needed"
        )
    return header


def _fill(net: nn.Module, path: Path) -> nn.Module:
    try:
        net.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise DclipError(
            f"{path} does not fit the network its header describes: {' '.join(str(error).split())[:200]}"
        ) from error
    return net.eval().requires_grad_(False)


def load_model(
    name_or_path: str = "toonfaces", head_dim: int = 64, image_size: int | None = None
) -> DiffusionModel:
    """A diffusion model, frozen, in eval mode: an object with ``eps(x, t)``, ``schedule`` and ``to(device)``.

    ``name_or_path`` is a shipped name, a known one (``dclip weights list``; fetched if it may be), one of our safetensors
    files, a fine-tuned edit's file (then the fine-tuned model comes back), or a foreign checkpoint (ddim style, ADM style, a
    diffusers folder): that one is recognised by its keys, converted once and kept in the cache. ``head_dim`` and
    ``image_size`` are what keys cannot tell of an unknown model. DclipError for anything else.
    """
    entry = _entry(name_or_path, "ddpm")
    source = str(ensure(entry.name)) if entry else name_or_path
    path = locate(_ours(source, head_dim, image_size))
    header = _expect(path, "ddpm", "edit")
    if header.get("kind_of_weights") == "lora":
        raise DclipError(
            f"{path} holds only the low-rank updates of an edit; load its base ({header['base']!r}) and use dclip.edit, "
            "or edit.adapter= on the command line"
        )
    known = header["model"] if header["kind"] == "edit" else header
    variance = entry.variance if entry and entry.variance else known["variance"]
    info = ModelInfo(
        known["name"],
        known["unet"],
        variance,
        Schedule(**known["schedule"]),
        known.get("notes", {}),
    )
    unet = _fill(build_unet(info.unet), path)
    if entry is not None:
        _check_architecture(entry, source, info, unet)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return DiffusionModel(unet, info, file_digest(path)).eval()


def _check_architecture(
    entry: registry.Weights, source: str, info: ModelInfo, unet: nn.Module
) -> None:
    """Refuse another network under a known name, for what is known of the name would be wrong of it."""
    found, count = str(info.notes.get("format")), sum(p.numel() for p in unet.parameters())
    whole = entry.parameters is not None and not info.notes.get("unused")
    if found != entry.format or (whole and count != entry.parameters):
        raise DclipError(
            f"{source} is not {entry.name}: it holds a {found} network of {count:,} parameters, where a {entry.format} one"
            f"{f' of {entry.parameters:,}' if whole else ''} is published; give your own file by its path"
        )


def _entry(name: str, kind: str) -> registry.Weights | None:
    """The registry's entry of a name. DclipError if it is a network of another kind."""
    entry = None if name in SHIPPED else registry.find(name)
    if entry is not None and entry.kind != kind:
        raise DclipError(f"{name} is a network of kind {entry.kind!r}; here {kind} is needed")
    return entry


def _ours(source: str, head_dim: int, image_size: int | None) -> str:
    """A name or path of ours: what is given, or the converted copy of a foreign checkpoint."""
    from dclip.models.convert import converted
    from dclip.models.foreign import is_foreign  # convert writes with this module's functions

    if source in SHIPPED or not is_foreign(source):
        return source
    try:
        return str(converted(source, head_dim=head_dim, image_size=image_size))
    except DclipError as error:
        raise error if source in str(error) else DclipError(f"{source}: {error}") from error


def load_clip(name_or_path: str = "toonfaces_clip", antialias: bool = True) -> ClipModel:
    """A CLIP with its own preprocessing and tokenizer, frozen, in eval mode.

    ``name_or_path`` is a shipped name, a known one (``openai_vit_b_16``; fetched if it may be), a file of ours, or a folder as
    open_clip writes it for the Hugging Face hub.
    """
    entry = _entry(name_or_path, "clip")
    if entry is not None:
        return read_open_clip(
            ensure(entry.name), published_config(entry.format), entry.name, antialias
        )
    if Path(name_or_path).expanduser().is_dir() and name_or_path not in SHIPPED:
        return read_clip_folder(Path(name_or_path).expanduser(), antialias)
    path = locate({"toonfaces": "toonfaces_clip"}.get(name_or_path, name_or_path))
    header = _expect(path, "clip")
    clip = _fill(build_clip(header["config"]), path)
    size = header["config"]["vision_cfg"]["image_size"]
    tokenizer = small_tokenizer(weights_dir() / MERGES_FILE)
    return ClipModel(clip, tokenizer, size=size, antialias=antialias, name=path.stem).eval()


def load_identity(name_or_path: str = "toonfaces_identity") -> IdentityModel:
    """The identity network, frozen, in eval mode: the shipped one, ``arcface``, or a file (ours, or a published IR-SE).

    Published networks see faces aligned as in CelebA-HQ, so their crop is CelebA-HQ's.
    """
    from dclip.models.foreign import is_foreign

    entry = _entry(name_or_path, "identity")
    path = ensure(entry.name) if entry else locate(name_or_path)
    if is_foreign(path):
        return _published_identity(path)
    config = _expect(path, "identity")["config"]
    stages = tuple((int(c), int(n)) for c, n in config.pop("stages"))
    net = _fill(IrSe(IrSeConfig(stages=stages, **config)), path)
    assert isinstance(net, IrSe)
    return IdentityModel(net).eval()


def _published_identity(path: Path) -> IdentityModel:
    from dclip.models.foreign import read_foreign

    state = read_foreign(path)
    try:
        net = IrSe(ir_se_config(state))
        net.load_state_dict(state)
    except (DclipError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        raise DclipError(
            f"{path} was not written by dclip, nor is it the published ArcFace: {said}"
        ) from error
    return IdentityModel(net.requires_grad_(False), CELEBA_CROP).eval()


def load_parser(name_or_path: str) -> Parser:
    """A segmenter of photographs, frozen, in eval mode: ``bisenet``, ``ade20k``, or a published file or folder."""
    entry = _entry(name_or_path, "parser")
    path = ensure(entry.name) if entry else Path(name_or_path).expanduser()
    return read_parser(path if path.is_dir() else locate(str(path)))


def load_judge(name_or_path: str = "toonfaces_judge") -> Judge:
    """The ToonFaces judge, frozen, in eval mode."""
    path = locate(name_or_path)
    judge = _fill(Judge(**_expect(path, "judge")["config"]), path)
    assert isinstance(judge, Judge)
    return judge
