"""The domains there are, and which one a run's pictures belong to. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dclip.config import Config, Dataset
from dclip.data.domain import Domain, DomainNetworks, Looks, Truth
from dclip.data.toonfaces.domain import GRAMMAR, LOOKS, TOONFACES

if TYPE_CHECKING:
    from torch import Tensor

    from dclip.types import Images


FACES_KEEP = (
    "smiling face",
    "angry face",
    "old face",
    "young face",
    "face with tanned skin",
    "face with pale skin",
    "face with makeup",
    "face with a beard",
    "face with glasses",
    "face with long hair",
    "face with black hair",
    "face with blond hair",
    "face on a bright background",
    "blurred face",
)
SCENES_KEEP = ("night", "fog", "snow", "people", "trees", "blurred photo", "sunset")
DOGS_KEEP = ("sleeping dog", "dog with open mouth", "dog on grass", "blurred photo of a dog")


def _photographs(
    name: str,
    identity: str | None = None,
    parser: str | None = None,
    keep: Sequence[str] = (),
    **notes: str,
) -> Domain:
    """A domain of photographs.

    Its prompts are read as ToonFaces' are: for words about a person's looks.
    """
    networks = DomainNetworks(identity=identity, parser=parser)
    return Domain(name, networks, GRAMMAR, notes=notes, keep=keep)


UNKNOWN = _photographs("")
DOMAINS = {
    "toonfaces": TOONFACES,
    "faces": _photographs("faces", identity="arcface", parser="bisenet", keep=FACES_KEEP),
    "scenes": _photographs(
        "scenes", parser="ade20k", keep=SCENES_KEEP, parts="ade20k, 150 classes at 512x512"
    ),
    "dogs": _photographs("dogs", keep=DOGS_KEEP),
    "objects": _photographs("objects"),
}


def domain_named(name: str | None) -> Domain:
    """The domain of this name; ``UNKNOWN`` for any other."""
    return DOMAINS.get(name or "", UNKNOWN)


def networks_of(name: str | None) -> DomainNetworks:
    """The networks that know a domain."""
    return domain_named(name).networks


def words_of(clip: str) -> frozenset[str]:
    """The words that a domain's own CLIP was trained on, by its name; empty for all other CLIPs."""
    for domain in DOMAINS.values():
        if clip in (domain.name, domain.networks.clip, domain.networks.heldout):
            return domain.words
    return frozenset()


def looks_of(judge: str) -> Looks:
    """What a judge tells apart, by its name; a file of one's own is taken for ToonFaces'."""
    for domain in DOMAINS.values():
        if domain.networks.judge == judge and domain.looks is not None:
            return domain.looks
    return LOOKS


def domain_of(data: Dataset) -> Domain:
    """What a data set's pictures show."""
    return domain_named(data.shows)


def truth_of(cfg: Config) -> Truth | None:
    """What the run's edit truly means on its data set, where that is known."""
    return domain_of(cfg.dataset).truth(cfg.edit.name)


def true_images(images: Images, truth: Truth | None) -> Tensor | None:
    """The true edited pictures [N,3,H,W] in [-1, 1]; None where they are not known."""
    if truth is None or not images.facts:
        return None
    return truth.pictures(images)
