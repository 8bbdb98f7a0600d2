"""Tokenizers of CLIPs that do not use OpenAI's: from the tokenizer.json that lies with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.errors import DclipError, need, one_line

CONTEXT = 77  # of texts, where a configuration does not say it
_SETTINGS = {"clean", "strip_sep_token"}


def tokenizer_of(config: Mapping[str, Any], folder: Path) -> Any:
    """The tokenizer of a CLIP: texts -> int64 [N, context_length].

    Raises:
        DclipError: it has one of its own that is not in the folder, or one that cannot be used.
    """
    text = config["text_cfg"]
    context = int(text.get("context_length", CONTEXT))
    name, settings = text.get("hf_tokenizer_name"), dict(text.get("tokenizer_kwargs") or {})
    need(
        not text.get("tokenizer_mode"),
        f"this CLIP's tokenizer_mode={text.get('tokenizer_mode')} is not known to dclip",
    )
    if name is None:
        return _openais(int(text.get("vocab_size", 49408)), context, settings)
    other = sorted(set(settings) - _SETTINGS)
    need(not other, f"this CLIP's tokenizer has settings that dclip does not know: {other}")
    file = folder / "tokenizer.json"
    need(
        file.is_file(),
        f"this CLIP has a tokenizer of its own ({name}); put its tokenizer.json and "
        f"tokenizer_config.json into {folder}",
    )
    return FileTokenizer(file, context, **settings)


def _openais(vocabulary: int, context: int, settings: Mapping[str, Any]) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    other = sorted(set(settings) - {"clean"})
    need(not other, f"this CLIP's tokenizer has settings that dclip does not know: {other}")
    tokenizer = SimpleTokenizer(context_length=context, **settings)
    need(
        tokenizer.vocab_size <= vocabulary,
        f"this CLIP knows {vocabulary:,} tokens, OpenAI's tokenizer has {tokenizer.vocab_size:,}: "
        "its open_clip_config.json must name its own (hf_tokenizer_name)",
    )
    return tokenizer


class FileTokenizer:
    """A tokenizer of Hugging Face's format, as open_clip uses it.

    Args:
        file: a tokenizer.json; a tokenizer_config.json beside it names the padding.
        context_length: tokens of a text, padded or cut to it.
        clean: what is done to a text before, a name of open_clip's.
        strip_sep_token: whether the separator at the end becomes 0 (CLIPA).
    """

    def __init__(
        self,
        file: Path,
        context_length: int,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
    ) -> None:
        from open_clip.tokenizer import get_clean_fn
        from tokenizers import Tokenizer

        try:
            self._tokens = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing more exact
            raise DclipError(f"{file} is no tokenizer ({one_line(error, 120)})") from error
        self.context_length = context_length
        self._clean = get_clean_fn(clean)
        config = _config(file.with_name("tokenizer_config.json"))
        pad = _token(config.get("pad_token")) or "[PAD]"
        pad_id = self._tokens.token_to_id(pad)
        need(
            pad_id is not None,
            f"{file} has no token {pad!r} to pad with; put its tokenizer_config.json beside it",
        )
        self._whole = Tokenizer.from_file(str(file))
        self._whole.no_truncation()
        self._whole.no_padding()
        self._tokens.enable_truncation(context_length)
        self._tokens.enable_padding(
            direction=config.get("padding_side", "right"),
            pad_id=pad_id,
            pad_token=pad,
            length=context_length,
        )
        self._separator: int | None = None
        if strip_sep_token:
            separator = _token(config.get("sep_token")) or "[SEP]"
            self._separator = self._tokens.token_to_id(separator)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> int64 [N, context_length]."""
        cleaned = [self._clean(text) for text in texts]
        rows = [found.ids for found in self._tokens.encode_batch(cleaned)]
        tokens = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.context_length)
        if self._separator is not None:
            tokens = tokens.masked_fill(tokens == self._separator, 0)
        return tokens

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, without its start and its end, cut off nowhere."""
        return list(self._whole.encode(self._clean(text), add_special_tokens=False).ids)


def _config(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise DclipError(f"{file} is not JSON ({error}); fetch it again") from error


def _token(value: object) -> str | None:
    """A special token, which may be written with its settings."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return None if value is None else str(value)
