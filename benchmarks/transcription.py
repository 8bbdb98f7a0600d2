"""The published fine-tuning procedure, transcribed plainly: what the benchmarks compare dclip with.
dclip uses none of it.

Written from a description of how DiffusionCLIP's code computes, keeping what costs time or memory
there:

* batch 1, float32, weights in torch's default layout;
* alpha_bar is a cumulative product, made again at every step;
* the source image goes through CLIP and the identity network again for every loss; only the text
  direction is kept;
* CLIP's weights are not frozen: gradients of theirs are computed that nobody uses;
* the graph of all steps is kept;
* latents are precomputed together with a reconstruction in as many steps, which training does not
  look at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.config import Loss
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.models.unet import DiffusionModel


class Network:
    """A copy of the model's U-Net in torch's default layout; counts its calls."""

    def __init__(self, model: DiffusionModel) -> None:
        self.unet = (
            copy.deepcopy(model.unet).to(memory_format=torch.contiguous_format).requires_grad_(True)
        )  # type: ignore[call-overload]
        self.calls = 0

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """eps [1,3,H,W]; the network is handed the timestep as a float."""
        self.calls += 1
        out: Tensor = self.unet(x, torch.ones(len(x), device=x.device) * t, return_dict=False)[0]
        return out[:, : x.shape[1]]


def sequence(t0: int, steps: int) -> list[int]:
    """Timesteps 0 .. t0, both included, truncated."""
    return [int(v) for v in np.linspace(0, 1, steps) * t0]


def alpha_bar(t: int, device: torch.device) -> Tensor:
    """The product up to t, with the factor 1 for t = -1 in front."""
    betas = torch.from_numpy(np.linspace(1e-4, 0.02, 1000)).float().to(device)
    return torch.cat([torch.zeros(1, device=device), betas]).neg().add(1).cumprod(0)[t + 1]


def step(net: Network, x: Tensor, t: int, t_next: int) -> Tensor:
    """One step of DDIM with eta = 0, up or down."""
    eps, a, a_next = net(x, t), alpha_bar(t, x.device), alpha_bar(t_next, x.device)
    x0 = (x - eps * (1 - a).sqrt()) / a.sqrt()
    return a_next.sqrt() * x0 + (1 - a_next).sqrt() * eps


@torch.no_grad()
def invert(net: Network, image: Tensor, t0: int, steps: int) -> Tensor:
    """The latent of an image: ``steps`` - 1 calls."""
    seq, x = sequence(t0, steps), image
    for t, t_next in pairwise(seq):
        x = step(net, x, t, t_next)
    return x


def generate(net: Network, latent: Tensor, t0: int, steps: int) -> Tensor:
    """The image of a latent: ``steps`` calls, the last one to the clean image."""
    seq, x = sequence(t0, steps), latent
    for t, t_next in zip(reversed(seq), [*reversed(seq[:-1]), -1], strict=True):
        x = step(net, x, t, t_next)
    return x


class Criterion:
    """-log((1 + cos) / 2) of the directional CLIP similarity, L1, identity."""

    def __init__(
        self, clip: ClipModel, identity: IdentityModel | None, texts: tuple[str, str], weights: Loss
    ) -> None:
        self.clip, self.identity = copy.deepcopy(clip).requires_grad_(True), identity
        self.texts, self.weights = texts, weights
        self.direction: Tensor | None = None

    def __call__(self, edited: Tensor, source: Tensor) -> Tensor:
        """The loss of one image."""
        w = self.weights
        if self.direction is None:
            before, after = (
                self.clip.text_features([self.texts[0]]),
                self.clip.text_features([self.texts[1]]),
            )
            self.direction = F.normalize((after - before).mean(0), dim=0)
        change = self.clip.image_features(edited) - self.clip.image_features(source)
        change = change / (change.norm(dim=-1, keepdim=True) + 1e-7)
        loss = w.clip * -torch.log((1 + change @ self.direction) / 2).mean()
        if self.identity is not None:
            known = self.identity.features(source).detach()
            loss = loss + w.id * (1 - (self.identity.features(edited) * known).sum(-1)).mean()
        return loss + w.l1 * (source - edited).abs().mean()


def precompute(net: Network, images: Tensor, t0: int, steps: int = 40) -> list[Tensor]:
    """Latents, image by image; each is also reconstructed."""
    latents = []
    for image in images.split(1):
        latents.append(invert(net, image, t0, steps))
        with torch.no_grad():
            generate(net, latents[-1], t0, steps)
    return latents


def images_one_by_one(
    net: Network,
    criterion: Criterion,
    images: Tensor,
    latents: Sequence[Tensor],
    t0: int,
    steps: int = 6,
    lr: float = 8e-6,
) -> Iterator[float]:
    """Fine-tune for ever, one image an update; yields the loss of each.

    The rate grows by 1.3 an epoch.
    """
    optimizer = torch.optim.Adam(net.unet.parameters(), lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 1.3)
    while True:
        for image, latent in zip(images.split(1), latents, strict=True):
            optimizer.zero_grad()
            loss = criterion(generate(net, latent, t0, steps), image)
            loss.backward()
            optimizer.step()
            yield float(loss.detach())
        schedule.step()


def parameters(net: Network) -> list[nn.Parameter]:
    """What is tuned."""
    return list(net.unet.parameters())
