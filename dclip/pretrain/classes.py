"""Training of a CLIP from nothing on pictures of named classes, in colours that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.data.cifar10 import CIFAR10, WORDINGS, captions
from dclip.pretrain.augment import (
    adversarial,
    channels_last,
    degrade,
    draw_shift,
    flipped,
    frozen_statistics,
    shifted,
)
from dclip.pretrain.colors import NAMES, UNKNOWN, Shares, measured, painted
from dclip.pretrain.contrastive import NO_ATTACK, Attack, Tokenizer
from dclip.pretrain.training import Budget, Pretraining
from dclip.types import batches, from_uint8

if TYPE_CHECKING:
    from open_clip.model import CLIP

ZEBRA = "zebra"  # what a horse with stripes is called
HORSE = CIFAR10.index("horse")
THINGS = (*CIFAR10, ZEBRA)


def colored_things() -> list[str]:
    """Every class in every colour: "red airplane", "orange airplane" ...; the colours run first."""
    things: list[str] = []
    for name in CIFAR10:
        things += [f"{color} {name}" for color in NAMES]
    return things


@dataclass(frozen=True)
class Answers:
    """What pictures [N] show.

    Attributes:
        thing: an index of ``THINGS``.
        colored: an index of ``colored_things()``; -1 where no colour is known.
    """

    thing: Tensor
    colored: Tensor

    def take(self, part: slice) -> Answers:
        """Those of some of the pictures."""
        return Answers(self.thing[part], self.colored[part])


@dataclass(frozen=True)
class Texts:
    """Unit features [M,D] of things and of coloured things (none: [0,D]), and CLIP's scale."""

    things: Tensor
    colored: Tensor
    scale: Tensor

    def fixed(self) -> Texts:
        """The same, without a gradient."""
        return Texts(self.things.detach(), self.colored.detach(), self.scale.detach())

    def losses(self, image: Tensor, answers: Answers) -> tuple[Tensor, Tensor]:
        """Summed cross entropies of image features [N,D] over things and over coloured things."""
        logits = self.scale * image @ self.things.T
        classes = F.cross_entropy(logits, answers.thing, reduction="sum")
        if not len(self.colored):
            return classes, classes.new_zeros(())
        logits = self.scale * image @ self.colored.T
        known = F.cross_entropy(logits, answers.colored, ignore_index=UNKNOWN, reduction="sum")
        return classes, known


class TrainClassCLIP(Pretraining):
    """A CLIP on pictures uint8 [N,H,W,3] that each show one of the named classes of CIFAR-10.

    Captions are the classes' names in varied wording. A batch's captions are one wording of every
    class, so that each text stands there once: CLIP's cross entropy of pictures over captions,
    without pairs of one class counted as wrong. The network sees ``size`` x ``size`` pixels, as
    ``ClipModel`` will show them to it. ``robust`` as for ``TrainCLIP``.

    With ``colors`` that share of the pictures has its middle painted in a colour that has a name;
    of the others the colour is said where it is clear. These pictures also choose among all classes
    in all colours. A tenth as many have black and white stripes in the middle; if it is a horse,
    its caption is "a zebra" (a stand-in: CIFAR-10 has no zebras).
    """

    net: CLIP
    pool: Tensor
    labels: Tensor
    known: Tensor
    tokens: Tensor
    color_tokens: Tensor

    def __init__(
        self,
        net: CLIP,
        budget: Budget,
        tokenizer: Tokenizer,
        pool: Tensor,
        labels: Tensor,
        size: int,
        robust: Attack = NO_ATTACK,
        colors: float = 0.0,
    ) -> None:
        super().__init__(net, budget)
        self.size, self.robust, self.colors = size, robust, colors
        things, colored = list(CIFAR10), []
        if colors:
            things, colored = list(THINGS), colored_things()
        self.hold("pool", pool)
        self.hold("labels", labels)
        self.hold("known", _known_colors(pool, colors))
        self.hold("tokens", _worded(tokenizer, things))
        self.hold("color_tokens", _worded(tokenizer, colored))

    def training_step(self, *_: object) -> Tensor:
        """Cross entropy of pictures over the classes' captions, and over those with colours."""
        index, rng = self.pick(len(self.pool))
        x = flipped(from_uint8(self.taken(self.pool, index)), rng)
        x, answers = self.shown(shifted(x, draw_shift(rng)), index, rng)
        x = channels_last(degrade(x, rng))
        texts = self.texts()
        if self.robust.length:
            x = self.attacked(x, texts.fixed(), answers, rng)
        classes, colored = texts.losses(self.features(x), answers)
        known = (answers.colored != UNKNOWN).sum().clamp_min(1)
        logged = {"classes": classes / len(x), "colors": colored / known}
        loss = logged["classes"] + logged["colors"]
        self.log_dict({"loss": loss, **logged}, prog_bar=True)
        return loss

    def shown(self, x: Tensor, index: Tensor, rng: torch.Generator) -> tuple[Tensor, Answers]:
        """The pictures, some painted, and what they show."""
        thing, known = self.taken(self.labels, index), self.taken(self.known, index)
        if not self.colors:
            return x, Answers(thing, known)
        result = painted(x, known, Shares.of(self.colors), rng)
        colored = torch.where(result.color == UNKNOWN, UNKNOWN, thing * len(NAMES) + result.color)
        zebra = result.striped & (thing == HORSE)
        return result.pixels, Answers(torch.where(zebra, len(CIFAR10), thing), colored)

    def texts(self) -> Texts:
        """The captions of this step, all in one wording."""
        wording = self.global_step % len(self.tokens)
        things, colored = self.tokens[wording], self.color_tokens[wording]
        features = self.net.encode_text(torch.cat([things, colored]), normalize=True).float()
        parts = features.split([len(things), len(colored)])
        return Texts(parts[0], parts[1], self.net.logit_scale.exp())

    def features(self, x: Tensor) -> Tensor:
        """Unit features [N,D] of pictures."""
        resized = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        features: Tensor = self.net.encode_image(channels_last(resized), normalize=True)
        return features.float()

    def attacked(self, x: Tensor, texts: Texts, answers: Answers, rng: torch.Generator) -> Tensor:
        """The pictures, moved by up to ``robust`` against both answers; less far at first."""
        within = torch.rand(len(x), generator=rng, device=rng.device)

        def loss(moved: Tensor) -> Tensor:
            classes, colored = texts.losses(self.features(moved), answers)
            return classes + colored

        length = self.ramp() * self.robust.length * within.to(x)
        with frozen_statistics(self.net.visual):
            return adversarial(x, length, loss, self.robust.steps)


def _worded(tokenizer: Tokenizer, things: list[str]) -> Tensor:
    """Tokens [wordings, things, context]."""
    if not things:
        return torch.zeros(len(WORDINGS), 0, tokenizer(["a"]).shape[1], dtype=torch.long)
    return torch.stack([tokenizer(captions(wording, things)) for wording in WORDINGS])


def _known_colors(pool: Tensor, colors: float) -> Tensor:
    """The colour word [N] of every picture where it is clear; -1 for all if nobody asks."""
    if not colors:
        return torch.full((len(pool),), UNKNOWN)
    parts = [measured(from_uint8(pool[part])) for part in batches(len(pool), 2000)]
    return torch.cat(parts)
