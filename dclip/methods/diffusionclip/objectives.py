"""How the loss of an edited image reaches the network: one function an objective.

An objective yields loss terms. Each yield is one update of the weights: backward and optimiser step
happen before it goes on. Its option (``options.py``) says what it costs.

====================  ===========  ============================  ====================================
objective             updates      network calls, of which       gradient
                                   with gradient
====================  ===========  ============================  ====================================
chain                 1            S, S                          exact (DiffusionCLIP, Algorithm 1)
chain_checkpointed    1            2 S, S; memory of one call    exact
gpu_efficient         S            S, S; memory of one call      of each step's predicted x0
                                                                 (DiffusionCLIP, Algorithm 2)
last_k                1            S, k                          of the last k steps (DRaFT, Clark
                                                                 et al. 2024)
onestep               1            1, 1                          of the x0 predicted at t0
                                                                 (Starodubcev et al. 2023)
annealed              1            S, 1 .. S                     last_k, k growing over the epochs
====================  ===========  ============================  ====================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dclip.diffusion.noise import ImageNoise, add_noise
from dclip.diffusion.sampler import DDIM, EpsFn, Evaluator, Prediction, sample
from dclip.diffusion.schedule import Schedule
from dclip.diffusion.timesteps import Pair
from dclip.methods.diffusionclip.loss import EditLoss, Terms


@dataclass(frozen=True)
class Work:
    """One batch and all that an objective may use.

    Attributes:
        eps_fn: the network being tuned.
        pairs: generation's (t, t_next), from t0 down.
        latents: [n,3,H,W] at t0; none where the objective does not need them.
        index: the batch's positions among the training images.
        batch: how many batches came before; with ``seed`` it decides all noise.
        progress: 0 in the first epoch, 1 in the last.
        losses: one a step, that compares with what the original network predicts there; empty:
            all steps are compared with the source images.
    """

    eps_fn: EpsFn
    loss: EditLoss
    schedule: Schedule
    pairs: Sequence[Pair]
    latents: Tensor
    index: Sequence[int]
    batch: int
    progress: float
    seed: int = 0
    losses: Sequence[EditLoss] = ()

    def loss_at(self, step: int) -> EditLoss:
        """The loss of what a step of ``pairs`` predicts."""
        return self.losses[step] if self.losses else self.loss


Objective = Callable[[Work], Iterator[Terms]]


def chain(work: Work) -> Iterator[Terms]:
    """Through all steps."""
    edited = sample(work.eps_fn, work.latents, work.pairs, work.schedule)
    yield work.loss(edited, work.index, draw=work.batch)


def chain_checkpointed(work: Work) -> Iterator[Terms]:
    """Through all steps; a call's graph is made again when the gradient arrives there, not kept."""

    def eps_fn(x: Tensor, t: Tensor) -> Prediction:
        prediction: Prediction = checkpoint(work.eps_fn, x, t, use_reentrant=False)
        return prediction

    edited = sample(eps_fn, work.latents, work.pairs, work.schedule)
    yield work.loss(edited, work.index, draw=work.batch)


def gpu_efficient(work: Work, faithful_id: bool = False) -> Iterator[Terms]:
    """One update for every step, on its predicted x0; the next step starts from a detached x.

    All losses look at the predicted x0. As published, ``faithful_id`` shows the detached x of the
    next step to the identity loss, which thereby has a value but no gradient.
    """
    x, evaluate = work.latents, Evaluator(work.eps_fn, work.schedule)
    for k, (t, t_next) in enumerate(work.pairs):
        step = evaluate(x, t).toward(t_next)
        x = DDIM().advance(step, work.schedule, None).detach()
        loss, draw = work.loss_at(k), work.batch * len(work.pairs) + k
        yield loss(step.x0, work.index, id_of=x if faithful_id else None, draw=draw)


def last_k(work: Work, k: int) -> Iterator[Terms]:
    """Through the last ``k`` steps; those before run without gradient."""
    cut = max(len(work.pairs) - k, 0)
    with torch.no_grad():
        x = sample(work.eps_fn, work.latents, work.pairs[:cut], work.schedule)
    edited = sample(work.eps_fn, x, work.pairs[cut:], work.schedule)
    yield work.loss(edited, work.index, draw=work.batch)


def onestep(work: Work, drawn_t: bool = False) -> Iterator[Terms]:
    """On the x0 predicted from an image noised in closed form: one call, and no inversion.

    Noised to t0; ``drawn_t``: to a t drawn from [1, t0].
    """
    t = work.pairs[0][0]
    if drawn_t:
        generator = torch.Generator().manual_seed(work.seed * 1_000_003 + work.batch)
        t = int(torch.randint(1, t + 1, (), generator=generator))
    clean, a = work.loss.images[list(work.index)], work.schedule.alpha_bar(t)
    noise = ImageNoise([f"onestep/{work.batch}/{i}" for i in work.index], work.seed)
    x = add_noise(clean, noise.like(clean), a).contiguous(memory_format=torch.channels_last)
    edited = Evaluator(work.eps_fn, work.schedule)(x, t).x0
    yield work.loss(edited, work.index, draw=work.batch)


def annealed(work: Work) -> Iterator[Terms]:
    """``last_k`` from k = 1 in the first epoch to all steps in the last.

    Shapes need the early steps, details the late ones.
    """
    yield from last_k(work, 1 + math.floor((len(work.pairs) - 1) * work.progress + 0.5))
