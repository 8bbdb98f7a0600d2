"""Cartoon faces with parts in colours that have no name."""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from dclip.data.toonfaces.faces import COLORS, Face, labels

CHANCE = 0.25  # of every part, to be painted


@dataclass(frozen=True)
class Repainted:
    """A face, and the attributes of which its picture no longer shows the value."""

    face: Face
    painted: Collection[str] = ()

    def labels(self) -> Mapping[str, int]:
        """Class index of every attribute; -1 where the picture does not show it."""
        classes = dict(labels(self.face))
        classes.update(dict.fromkeys(self.painted, -1))
        return classes


def repainted(face: Face, rng: np.random.Generator) -> Repainted:
    """A cartoon whose hair, skin, clothes and background are each painted with odds of 1 to 3.

    Any colour may come: whoever learns from such faces cannot take green hair for a zombie, or a
    red face for red hair. Other styles stay as they are.
    """
    painted = [name for name in COLORS if rng.random() < CHANCE]
    if face["style"] != "toon":
        return Repainted(face)
    jitter = list(face.jitter)
    for name in painted:
        at = 3 * list(COLORS).index(name)
        base = bytes.fromhex(COLORS[name][face[name]][1:])
        color = _any_color(rng)
        jitter[at : at + 3] = [new - old for new, old in zip(color, base, strict=True)]
    return Repainted(replace(face, jitter=tuple(jitter)), tuple(painted))


def _any_color(rng: np.random.Generator) -> tuple[int, int, int]:
    """Red, green, blue in 0..255: hues alike, from pale to full and from dark to bright."""
    hue, saturation, value = rng.random(), rng.uniform(0.1, 1), rng.uniform(0.15, 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
