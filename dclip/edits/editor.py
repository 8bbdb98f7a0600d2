"""Edits ready to be applied: one or several fine-tuned networks, mixed or merged, at any degree of change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dclip.config import Config, Encode, Mix
from dclip.diffusion.mix import degree, degrees, mix
from dclip.diffusion.sampler import EpsFn
from dclip.diffusion.solvers import pairs_of, solver_of
from dclip.edits.saved import SavedEdit, read_edit
from dclip.edits.weights import constant_weights, weights_of
from dclip.encode.invert import encode
from dclip.encode.walk import Walk, run_walk
from dclip.errors import DclipError
from dclip.models.shared import common_beginning, share
from dclip.models.unet import DiffusionModel
from dclip.types import Images


@dataclass(frozen=True)
class Editor:
    """The original network and an edit of it.

    Attributes:
        tuned: the edit's denoiser, possibly a mixture.
        parts: the networks behind it.
        reached: the degree of change that ``tuned`` itself stands for (a soup is merged at the degree asked for).
    """

    original: DiffusionModel
    tuned: EpsFn
    parts: tuple[nn.Module, ...]
    reached: float = 1.0

    def at(self, gamma: float) -> EpsFn:
        """The denoiser at a degree of change: 0 the original, 1 the edit (DiffusionCLIP, Fig. 9). Calls no network in vain."""
        return (
            self.tuned
            if gamma == self.reached
            else degree(self.original.predict, self.tuned, self._share(gamma))
        )

    def strip(self, gammas: Sequence[float]) -> EpsFn:
        """Several degrees in one pass, for a walk of that many copies."""
        return degrees(self.original.predict, self.tuned, [self._share(gamma) for gamma in gammas])

    def _share(self, gamma: float) -> float:
        return gamma / self.reached if self.reached else 0.0


def editor_of(original: DiffusionModel, tuned: DiffusionModel) -> Editor:
    """A single fine-tuned network."""
    tuned.eval().requires_grad_(False)
    return Editor(original, tuned.predict, (tuned,))


def read_editor(cfg: Config, model: DiffusionModel) -> Editor:
    """The saved edits of a configuration, ready to be applied. DclipError for an edit of another base."""
    edits = [read_edit(name, cfg.sampler.t0) for name in cfg.edit.adapters]
    return editor_from(model, edits, cfg.mix, cfg.sampler.t0, cfg.gamma)


def editor_from(
    model: DiffusionModel, edits: Sequence[SavedEdit], options: Mix, t0: int, gamma: float = 1.0
) -> Editor:
    """Edits of ``model``, mixed or merged as ``options`` say. DclipError for an edit of another base."""
    for edit in edits:
        edit.check_base(model)
    if options.soup:
        merged = soup(
            model,
            edits,
            [gamma * weight for weight in constant_weights(options.weights, len(edits))],
        )
        return Editor(model, merged.predict, (merged,), gamma)
    networks = [on_top(model, edit) for edit in edits]
    if alike := common_beginning([model.unet, *(network.unet for network in networks)]):
        model = copy.deepcopy(model)  # the caller's may change one day
        share([model.unet, *(network.unet for network in networks)], alike)
    if len(networks) == 1:
        return editor_of(model, networks[0])
    weights = weights_of(options.weights, len(edits), t0)
    return Editor(model, mix([network.predict for network in networks], weights), tuple(networks))


def on_top(model: DiffusionModel, edit: SavedEdit) -> DiffusionModel:
    """A copy of the model with the edit on it."""
    tuned = copy.deepcopy(model)
    edit.put_on(tuned)
    return tuned.eval().requires_grad_(False)


@torch.no_grad()
def soup(
    model: DiffusionModel, edits: Sequence[SavedEdit], weights: Sequence[float]
) -> DiffusionModel:
    """One network with the weighted sum of the edits' changes of the weights, full or low-rank."""
    merged = copy.deepcopy(model).eval().requires_grad_(False)
    for edit, weight in zip(edits, weights, strict=True):
        edit.add_to(merged, model, weight)
    return merged


def generate(
    cfg: Config,
    model: DiffusionModel,
    eps_fn: Any,
    images: Images,
    latents: Tensor,
    what: str = "generating",
    parts: Sequence[nn.Module] = (),
    copies: int = 1,
) -> Tensor:
    """Images [N,3,H,W] (or [N,copies,3,H,W]) from latents at t0, in ``sampler.s_gen`` steps. ``parts``: networks besides model."""
    down, solver = pairs_of(cfg.sampler)[1], solver_of(cfg.sampler, model.info.variance)
    walk = Walk(eps_fn, [model, *parts], down, model.schedule, solver, cfg.seed, copies=copies)
    return run_walk(cfg, walk, images.ids, latents, what)


def apply(
    cfg: Config,
    editor: Editor,
    images: Images,
    latents: Tensor,
    gamma: float,
    what: str = "generating",
) -> Tensor:
    """Edited images [N,3,H,W] at a degree of change. DclipError if they are not finite."""
    result = generate(cfg, editor.original, editor.at(gamma), images, latents, what, editor.parts)
    if not bool(torch.isfinite(result).all()):
        raise DclipError(
            "the edited images are not finite: the fine-tuning diverged; lower method.lr"
        )
    return result


def strip(
    cfg: Config, editor: Editor, images: Images, latents: Tensor, gammas: Sequence[float]
) -> Tensor:
    """Edited images [N,K,3,H,W] at K degrees of change, in one pass."""
    eps_fn = editor.strip(gammas)
    return generate(
        cfg,
        editor.original,
        eps_fn,
        images,
        latents,
        "degrees of change",
        editor.parts,
        copies=len(gammas),
    )


def encode_variants(
    cfg: Config, model: DiffusionModel, images: Images, what: str = "images"
) -> tuple[Images, Tensor]:
    """``variants`` copies of every image, each with its own name and therefore its own noise, and their latents.

    They share their image's latent, unless encoding is stochastic.
    """
    several = images.repeat(cfg.variants)
    if cfg.sampler.encode == Encode.stochastic:
        return several, encode(cfg, model, several, what)
    return several, encode(cfg, model, images, what).repeat_interleave(cfg.variants, 0)
