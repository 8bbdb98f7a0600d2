"""CLIPs that others wrote: open_clip's folders and checkpoints, and OpenAI's TorchScript files.

A file of weights alone does not say which network it is of: two networks with one set of shapes may
differ in their activation (QuickGELU or GELU), and so do their means and tokenizers. It is read
with the ``open_clip_config.json`` beside it, or as the architecture that ``clip.arch`` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dclip.errors import DclipError, need, one_line
from dclip.models.clip import ClipModel, Resize, build_clip
from dclip.models.foreign import read_foreign
from dclip.models.tokens import CONTEXT, tokenizer_of
from dclip.models.torchscript import is_torchscript, read_torchscript

CONFIG = "open_clip_config.json"
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_MODES = ("shortest", "squash", "longest")


def published_config(arch: str) -> dict[str, Any]:
    """open_clip's configuration of a published network, activation included.

    OpenAI's networks were trained with QuickGELU; their names end in ``-quickgelu``. The plain
    names load the same weights without a word, and compute something else.
    """
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        some = ", ".join(open_clip.list_models()[:5])
        raise DclipError(f"open_clip has no network {arch!r}; it has {some}, ...")
    return dict(config)


def published_preprocess(arch: str, weights: str | None = None) -> dict[str, Any]:
    """How images become the input of the published weights of an architecture.

    ``weights`` names some of them; without it they must agree. Empty for an architecture without
    published weights.

    Raises:
        DclipError: there are no such weights, or they do not agree.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    quick = bool(published_config(arch).get("quick_gelu"))
    described = {}
    for tag in list_pretrained_tags_by_model(arch):
        told = get_pretrained_cfg(arch, tag)
        if bool(told.get("quick_gelu")) == quick:  # the others are of the other activation
            described[tag] = told
    tags = list(described)
    if weights is not None:
        need(weights in tags, f"clip.arch={arch}/{weights}: open_clip has {', '.join(tags)}")
        tags = [weights]
    kinds: dict[str, dict[str, Any]] = {}
    for tag in tags:
        told = described[tag]
        names = ("mean", "std", "interpolation", "resize_mode")
        kind = {name: told[name] for name in names if told.get(name) is not None}
        kinds[json.dumps(kind)] = kind
    need(
        len(kinds) <= 1,
        f"clip.arch={arch}: its published weights prepare images in several ways; say whose: "
        f"clip.arch={arch}/{tags[0] if tags else ''} ({', '.join(tags)})",
    )
    return next(iter(kinds.values()), {})


# ------------------------------------------------------------ folders and files


def read_clip_folder(folder: Path, antialias: bool) -> ClipModel:
    """A CLIP in a folder as open_clip writes it for the Hugging Face hub.

    The weights lie beside their ``open_clip_config.json``, and a tokenizer of their own.
    """
    other = _settings(folder / "config.json").get("model_type")
    need(
        other is None or (folder / CONFIG).is_file(),
        f"{folder} is a {other} in transformers' format; give the folder of open_clip's format, "
        f"with {CONFIG}",
    )
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _described(folder / name, folder.name, antialias)
    _config_beside(folder / CONFIG)
    raise DclipError(f"{folder} holds no {WEIGHTS[0]}; put the weights beside their {CONFIG}")


def read_clip_file(file: Path, antialias: bool, arch: str | None = None) -> ClipModel:
    """A CLIP from a file: OpenAI's TorchScript, or weights (also open_clip's training checkpoint).

    ``arch`` is a name of open_clip's, or ``NAME/WEIGHTS`` where its published weights prepare
    images in several ways.
    """
    if is_torchscript(file):
        need(arch is None, f"clip.arch={arch}: {file.name} says itself which network it is")
        state = read_torchscript(file)
        return _built(file, state, openai_config(state, file), {}, file.stem, antialias)
    if arch is not None:
        name, _, weights = arch.partition("/")
        config = published_config(name)
        preprocess = published_preprocess(name, weights or None)
        return read_open_clip(file, config, file.stem, antialias, preprocess, name)
    if file.with_name(CONFIG).is_file():
        return _described(file, file.stem, antialias)
    state = read_foreign(file)
    need(
        "logit_scale" in state,
        f"{file} was not written by dclip, nor does it hold the weights of a CLIP",
    )
    names = fitting(state)
    like = "clip.arch=NAME, one of open_clip's"
    if names:
        like = " or ".join(f"clip.arch={name}" for name in names)
    raise DclipError(
        f"{file} holds weights of a CLIP, not which one: say it with {like}, or put its {CONFIG} "
        "beside it (two networks of the same shapes may differ in their activation)"
    )


def _described(file: Path, name: str, antialias: bool) -> ClipModel:
    config, preprocess = _config_beside(file.with_name(CONFIG))
    return read_open_clip(file, config, name, antialias, preprocess)


def _config_beside(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network and its preprocessing, of an open_clip_config.json."""
    try:
        described = json.loads(file.read_text("utf-8"))
        config, preprocess = described["model_cfg"], described.get("preprocess_cfg") or {}
        return dict(config), dict(preprocess)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DclipError(
            f"{file.parent} has no usable {CONFIG} ({type(error).__name__}); "
            "give a folder of open_clip"
        ) from error


def _settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def read_open_clip(
    file: Path,
    config: dict[str, Any],
    name: str,
    antialias: bool,
    preprocess: Mapping[str, Any] | None = None,
    arch: str = "",
) -> ClipModel:
    """A CLIP of a configuration with a file's weights, and with mean, std and size of its own.

    ``arch`` is the configuration's name, where the file was said to be of it.
    """
    return _built(file, read_foreign(file), config, preprocess or {}, name, antialias, arch)


def _built(
    file: Path,
    state: Mapping[str, Tensor],
    config: dict[str, Any],
    preprocess: Mapping[str, Any],
    name: str,
    antialias: bool,
    arch: str = "",
) -> ClipModel:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    clip = build_clip(config)
    tokenizer = tokenizer_of(config, file.parent)
    try:
        clip.load_state_dict(_fitted(state, clip.state_dict()))
    except RuntimeError as error:
        remedy = "give the published file"
        if arch:
            remedy = "give the clip.arch that it is of"
        raise DclipError(
            f"{file} is not the CLIP {arch or name}: {one_line(error)}; {remedy}"
        ) from error
    model = ClipModel(
        clip.eval().requires_grad_(False),
        tokenizer,
        preprocess.get("mean", OPENAI_DATASET_MEAN),
        preprocess.get("std", OPENAI_DATASET_STD),
        _side(config["vision_cfg"].get("image_size", 224)),
        antialias,
        name,
        _resize(preprocess),
    )
    return model.eval()


def _side(size: int | list[int] | tuple[int, ...]) -> int:
    sides = [size] if isinstance(size, int) else list(size)
    need(len(set(sides)) == 1, f"this CLIP sees images of {sides}; one that sees squares is needed")
    return sides[0]


def _resize(preprocess: Mapping[str, Any]) -> Resize:
    mode = preprocess.get("resize_mode") or "shortest"
    need(mode in _MODES, f"{CONFIG}: resize_mode={mode} is not known; known: {', '.join(_MODES)}")
    interpolation = "bicubic"  # open_clip's also for "random", which is of training
    if preprocess.get("interpolation") == "bilinear":
        interpolation = "bilinear"
    return Resize(mode, interpolation, int(preprocess.get("fill_color") or 0))


# ------------------------------------------------------------ tensors


_OF_TEXTS = (
    "text_projection",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
)


def _fitted(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under today's names: early CLIPs had no tower of their own for texts.

    A scale may be a number or a list of one; what is no weight is left out.
    """
    own_tower = "text.token_embedding.weight" in wanted
    fitted = {}
    for key, value in state.items():
        if own_tower and key.startswith(_OF_TEXTS):
            key = f"text.{key}"
        if key in ("logit_scale", "logit_bias") and key in wanted:
            value = value.reshape(wanted[key].shape)
        if not key.endswith(_NO_WEIGHTS) or key in wanted:
            fitted[key] = value
    return fitted


_NO_WEIGHTS = ("attn_mask", "position_ids", "input_resolution", "context_length", "vocab_size")


def openai_config(state: Mapping[str, Tensor], file: Path) -> dict[str, Any]:
    """The network of OpenAI's weights, from their shapes: it has QuickGELU, and heads of 64.

    Raises:
        DclipError: these are no weights of a CLIP.
    """
    described = shape_of(state)
    if described is None:
        raise DclipError(f"{file} is a TorchScript archive of something else than OpenAI's CLIP")
    vision, text = described["vision_cfg"], described["text_cfg"]
    heads = {"heads": text["width"] // 64}
    return {**described, "quick_gelu": True, "text_cfg": {**text, **heads}, "vision_cfg": vision}


def shape_of(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """What shapes tell of a CLIP with OpenAI's towers; None for other towers."""
    texts = {key.removeprefix("text."): value for key, value in state.items()}
    try:
        width = len(texts["ln_final.weight"])
        text = {
            "context_length": len(texts["positional_embedding"]),
            "vocab_size": len(texts["token_embedding.weight"]),
            "width": width,
            "layers": _count(texts, "transformer.resblocks."),
        }
        vision = _vision_shape(state)
        return {
            "embed_dim": texts["text_projection"].shape[1],
            "vision_cfg": vision,
            "text_cfg": text,
        }
    except KeyError:
        return None


def _vision_shape(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if "visual.proj" in state:
        first = state["visual.conv1.weight"]
        patch = int(first.shape[-1])
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        return {
            "layers": _count(state, "visual.transformer.resblocks."),
            "width": len(first),
            "patch_size": patch,
            "image_size": grid * patch,
        }
    grid = round((len(state["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    return {
        "layers": [_count(state, f"visual.layer{level}.") for level in (1, 2, 3, 4)],
        "width": len(state["visual.layer1.0.conv1.weight"]),
        "image_size": 32 * grid,
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts follow a name."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def fitting(state: Mapping[str, Tensor]) -> list[str]:
    """Architectures of open_clip with these shapes."""
    import open_clip

    found = shape_of(state)
    if found is None:
        return []
    names = []
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        usable = "multimodal_cfg" not in config and "hf_model_name" not in config["text_cfg"]
        if usable and _told(config) == found:
            names.append(name)
    return names


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's share of what shapes tell."""
    from open_clip.model import CLIPTextCfg

    vision, text = config["vision_cfg"], config["text_cfg"]
    keys = ("layers", "width", "patch_size", "image_size")
    default = CLIPTextCfg()
    return {
        "embed_dim": config["embed_dim"],
        "vision_cfg": {key: vision[key] for key in keys if vision.get(key) is not None},
        "text_cfg": {
            "context_length": text.get("context_length", CONTEXT),
            "vocab_size": text.get("vocab_size", default.vocab_size),
            "width": text.get("width", default.width),
            "layers": text.get("layers", default.layers),
        },
    }
