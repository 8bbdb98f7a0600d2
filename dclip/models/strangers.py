"""Checkpoints of other projects that cannot be used, known by the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stranger:
    """A kind of network, how to know it, and why it will not do.

    Attributes:
        marks: patterns of tensor names that it has, all of them.
        without: the beginning of a name that it lacks.
    """

    name: str
    why: str
    marks: tuple[str, ...]
    without: str | None = None

    def matches(self, keys: Iterable[str]) -> bool:
        """Whether these are its tensors."""
        names = list(keys)
        if self.without is not None and any(name.startswith(self.without) for name in names):
            return False
        return all(any(re.search(mark, name) for name in names) for mark in self.marks)


_KARRAS = "it is trained on sigmas and preconditioned (Karras et al. 2022), not on betas"
_LATENT = "it works on an autoencoder's latents, not on pixels"

STRANGERS = (
    Stranger("k-diffusion network", _KARRAS, (r"u_net\.[du]_blocks\.", r"timestep_embed\.weight")),
    Stranger("k-diffusion transformer (HDiT)", _KARRAS, (r"time_in_proj\.", r"aug_in_proj\.")),
    Stranger("EDM network (NVlabs)", _KARRAS, (r"\d+x\d+_(conv|block0)\.", r"map_layer0\.weight")),
    Stranger("EDM2 network (NVlabs)", _KARRAS, (r"\d+x\d+_(conv|block0)\.", r"emb_fourier\.")),
    Stranger(
        "score SDE network (yang-song)",
        "it is a continuous-time score model",
        (r"(^|\.)all_modules\.0\.",),
    ),
    Stranger("latent diffusion model", _LATENT, (r"^model\.diffusion_model\.",)),
    Stranger("latent autoencoder", _LATENT, (r"^(first_stage_model|encoder\.down|decoder\.up)\.",)),
    Stranger("diffusion transformer (DiT)", _LATENT, (r"x_embedder\.proj\.", r"t_embedder\.mlp\.")),
    Stranger(
        "classifier of guided diffusion",
        "it classifies noisy images and draws none",
        (r"^time_embed\.0\.weight", r"^input_blocks\."),
        without="output_blocks.",
    ),
    Stranger("CLIP", "give it as clip.name", (r"(^|\.)visual\.", r"logit_scale$")),
    Stranger(
        "DDPM of an early version of lucidrains' package",
        "its blocks are not those of later versions",
        (r"(^|\.)downs\.0\.0\.(block1\.block|net|ds_conv)\.",),
    ),
)


def stranger(keys: Iterable[str]) -> Stranger | None:
    """What is known of a network that cannot be used; None if nothing is."""
    names = list(keys)
    for one in STRANGERS:
        if one.matches(names):
            return one
    return None
