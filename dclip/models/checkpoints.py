"""From a name or a path to a network. Our own weights know their configuration.

A file's header holds one JSON document under ``dclip``: what kind of network it is, how to build
it, how it was made.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dclip.data.domains import looks_of
from dclip.diffusion.schedule import KINDS, Schedule
from dclip.errors import DclipError, need, one_line
from dclip.models import registry
from dclip.models.clip import MERGES_FILE, ClipModel, build_clip, small_tokenizer
from dclip.models.clip_files import (
    published_config,
    read_clip_file,
    read_clip_folder,
    read_open_clip,
)
from dclip.models.convert import converted
from dclip.models.fetch import ensure
from dclip.models.folders import scheduler_file, weights_file
from dclip.models.foreign import is_foreign, read_foreign
from dclip.models.header import is_ours, read_header
from dclip.models.hints import Hints
from dclip.models.identity import CELEBA_CROP, IdentityModel, IrSe, IrSeConfig, ir_se_config
from dclip.models.judge import Judge
from dclip.models.parser import Parser, read_parser
from dclip.models.registry import KnownWeights, package_folder
from dclip.models.saved import file_digest, read_weights
from dclip.models.unet import (
    PREDICTIONS,
    DiffusionModel,
    ModelInfo,
    build_unet,
    check_channels,
)

log = logging.getLogger("dclip")


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
    name_or_path: str = "toonfaces",
    head_dim: int = 64,
    image_size: int | None = None,
    *,
    heads: int | None = None,
    label: int | None = None,
    prediction: str | None = None,
    schedule: str | None = None,
    timesteps: int | None = None,
) -> DiffusionModel:
    """A diffusion model, frozen, in eval mode, with ``eps(x, t)``, ``schedule`` and ``to(device)``.

    ``name_or_path`` is a known name (``dclip weights list``; fetched if it may be), one of our
    safetensors files, a fine-tuned edit's file (then the fine-tuned model comes back), or a foreign
    checkpoint (ddim style, ADM style, rosinality's, lucidrains', a diffusers folder): that one is
    recognised by its keys, converted once and kept in the cache. All other arguments are what the
    keys of a foreign checkpoint may not tell (``dclip.models.hints.Hints``). DclipError for
    anything else.
    """
    hints = Hints(head_dim, image_size, heads, label, prediction, schedule, timesteps)
    return load_hinted(name_or_path, hints)


def load_hinted(name_or_path: str, hints: Hints) -> DiffusionModel:
    """As :func:`load_model`."""
    _check_hints(hints)
    entry = known(name_or_path, "ddpm")
    source = locate(name_or_path, "ddpm")
    path = _ours(source, hints)
    header = _expect(path, "ddpm", "edit")
    if path == source:
        _refuse_hints(source, hints)
    if header.get("kind_of_weights") == "lora":
        raise DclipError(
            f"{path} holds only the low-rank updates of an edit; load its base ({header['base']!r}) "
            "and use dclip.edit, or edit.adapter= on the command line"
        )
    info = _info(header)
    check_channels(info.unet, str(source))
    if entry is not None and entry.variance is not None:
        info = replace(info, variance=entry.variance)
    unet = _fill(build_unet(info.unet), path)
    if entry is not None:
        _check_architecture(entry, source, info, unet)
    if path != source:
        _say_what_was_assumed(source, info)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return DiffusionModel(unet, info, file_digest(path)).eval()


def _check_hints(hints: Hints) -> None:
    """DclipError for a schedule or prediction that there is not."""
    kinds, predictions = ", ".join(KINDS), ", ".join(PREDICTIONS)
    need(
        hints.schedule is None or hints.schedule in KINDS,
        f"schedule={hints.schedule!r} is not known; known: {kinds}",
    )
    need(
        hints.prediction is None or hints.prediction in PREDICTIONS,
        f"prediction={hints.prediction!r} is not known; known: {predictions}",
    )


def _refuse_hints(source: Path, hints: Hints) -> None:
    """DclipError for what would be said of a file that says it itself."""
    said = hints.given()
    for name in ("head_dim", "image_size"):  # presets of published models have them
        said.pop(name, None)
    settings = ", ".join(f"checkpoint.{name}={value}" for name, value in said.items())
    need(
        not said,
        f"{settings}: {source.name} is dclip's own and says itself how it was trained; leave it out",
    )


def _say_what_was_assumed(source: Path, info: ModelInfo) -> None:
    """Of a foreign model: what its file did not tell, and that its classes were left out."""
    if info.notes.get("unused") and "label" not in info.notes.get("hints", {}):
        embeddings = [key for key in info.notes["unused"] if key.startswith("label_emb")]
        if embeddings:
            log.info("%s: its class embedding is left out, as published", source.name)
    if (source / "unet").is_dir() and (source / "unet_ema").is_dir():
        log.info("%s: read is unet/; its running average is %s", source.name, source / "unet_ema")
    if info.notes.get("model") != "unknown" and not _lacks_scheduler(source, info):
        return
    read = info.notes.get("assumed", {}) | {
        "schedule": info.schedule.kind,
        "timesteps": info.schedule.steps,
        "prediction": info.prediction,
        "dropout": None,  # of training only
    }
    said = ", ".join(f"{name}={value}" for name, value in read.items() if value is not None)
    log.info("%s: not a known model, read with %s; checkpoint.* say otherwise", source.name, said)


def _lacks_scheduler(source: Path, info: ModelInfo) -> bool:
    file = weights_file(source)
    return info.notes.get("format") == "diffusers" and scheduler_file(file) is None


def _info(header: dict[str, Any]) -> ModelInfo:
    """What the header of a model, or of an edit of one, says of the model.

    Raises:
        DclipError: it was written by a later version, with noise that this one does not know.
    """
    model = header
    if header["kind"] == "edit":
        model = header["model"]
    try:
        schedule = Schedule(**model["schedule"])
    except TypeError as error:
        raise DclipError(
            f"this file's schedule is of a later version ({one_line(error)})"
        ) from error
    prediction = model.get("prediction", "epsilon")
    need(
        schedule.kind in KINDS and prediction in PREDICTIONS,
        f"this file's noise is of a later version ({schedule.kind}, {prediction}); upgrade dclip",
    )
    notes = model.get("notes", {})
    return ModelInfo(model["name"], model["unet"], model["variance"], schedule, notes, prediction)


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


def _ours(source: Path, hints: Hints) -> Path:
    """A file of ours: what is given, or the converted copy of a foreign checkpoint."""
    if not is_foreign(source):
        return source
    try:
        return converted(source, hints)
    except DclipError as error:
        if str(source) in str(error):
            raise
        raise DclipError(f"{source}: {error}") from error


def load_clip(
    name_or_path: str = "toonfaces_clip", antialias: bool = True, arch: str | None = None
) -> ClipModel:
    """A CLIP with its own preprocessing and tokenizer, frozen, in eval mode.

    ``name_or_path`` is a known name (``openai_vit_b_16``; fetched if it may be), a file of ours, a
    folder as open_clip writes it for the Hugging Face hub, OpenAI's TorchScript file, or weights of
    open_clip, whose architecture ``arch`` names unless their open_clip_config.json lies beside them.
    """
    entry = known(name_or_path, "clip")
    path = locate(name_or_path, "clip")
    need(
        arch is None or (entry is None and path.is_file() and not is_ours(path)),
        f"clip.arch={arch}: {name_or_path} says itself which network it is; leave clip.arch out",
    )
    if entry is not None and not entry.shipped:
        return read_open_clip(path, published_config(entry.format), entry.name, antialias)
    if path.is_dir():
        return read_clip_folder(path, antialias)
    if not is_ours(path):
        return read_clip_file(path, antialias, arch)
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
