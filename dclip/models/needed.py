"""Names of the networks that go with a run's images. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Config, ParserName
from dclip.data.domains import networks_of
from dclip.models import registry


@dataclass(frozen=True)
class NetworkNames:
    """Names (or paths) of the networks of a run; None for what it does not need."""

    model: str | None = None
    clip: str | None = None
    heldout: str | None = None
    identity: str | None = None
    judge: str | None = None
    parser: str | None = None
    guides: tuple[str, ...] = ()  # CLIPs that guide samples together


def domain_of(cfg: Config) -> str | None:
    """The domain of the images: as set, else the checkpoint's in the registry, else the data set's."""
    entry = registry.entry_of(cfg.checkpoint.name)
    if cfg.checkpoint.domain is not None:
        return cfg.checkpoint.domain.value
    if entry is not None and entry.domain is not None:
        return entry.domain
    return cfg.dataset.shows or None


def identity_of(domain: str | None) -> str | None:
    """The network that tells persons apart in images of this domain."""
    return networks_of(domain).identity


def judge_of(domain: str | None) -> str | None:
    """The network that names attributes and parts of images of this domain."""
    return networks_of(domain).judge


def clip_of(name: str) -> str:
    """The CLIP that ``clip.name`` means: a domain's, or the name itself."""
    return networks_of(name).clip or name


def parser_of(choice: ParserName, domain: str | None) -> str | None:
    """The network that finds the parts of images of this domain."""
    if choice is ParserName.auto:
        return networks_of(domain).parser
    return None if choice is ParserName.none else choice.value
