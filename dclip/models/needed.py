"""Names of the networks that go with a run's images. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from dclip.config import Config, ParserName
from dclip.data.domain import Domain
from dclip.data.domains import domain_named, networks_of
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


def shown_domain(cfg: Config) -> Domain:
    """What the images show: as set, else the checkpoint's in the registry, else the data set's."""
    entry = registry.entry_of(cfg.checkpoint.name)
    if cfg.checkpoint.domain is not None:
        return domain_named(cfg.checkpoint.domain.value)
    if entry is not None and entry.domain is not None:
        return domain_named(entry.domain)
    return domain_named(cfg.dataset.shows)


def clip_of(name: str) -> str:
    """The CLIP that ``clip.name`` means: a domain's, or the name itself."""
    return networks_of(name).clip or name


def parser_of(choice: ParserName, domain: Domain) -> str | None:
    """The network that finds the parts of images."""
    if choice is ParserName.auto:
        return domain.networks.parser
    return None if choice is ParserName.none else choice.value
