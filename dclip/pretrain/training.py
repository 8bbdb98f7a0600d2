"""Training of networks from nothing: what all trainings share, and all but the CLIPs'.

Every batch is a function of (seed, step) alone, so a resumed training sees the batches it would
have seen. Pictures and random generators live on the network's device: a GPU draws other random
numbers than a CPU.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dclip.data.toonfaces.faces import ATTRIBUTES, Face, labels, sample_face
from dclip.data.toonfaces.many import part_maps_of, pictures_of
from dclip.data.toonfaces.repaint import Repainted, repainted
from dclip.diffusion.schedule import Schedule
from dclip.models.judge import Judge
from dclip.pretrain.augment import (
    channels_last,
    degrade,
    draw_shift,
    flipped,
    normal_like,
    partly,
    shifted,
    smeared,
)
from dclip.types import from_uint8

TIMED = 20  # steps


@dataclass(frozen=True)
class Budget:
    """How long a training takes, and where its randomness begins."""

    steps: int
    batch: int
    lr: float
    seed: int = 0


class Pretraining(L.LightningModule):
    """What all trainings share: AdamW with warm-up and cosine decay, batches, an optional EMA."""

    def __init__(self, net: nn.Module, budget: Budget, ema: float = 0.0) -> None:
        super().__init__()
        self.net = net
        self.steps, self.batch = budget.steps, budget.batch
        self.lr, self.seed = budget.lr, budget.seed
        self.timed = self.spent = 0.0  # seconds: the last time, and all up to a checkpoint
        self.ema_decay = ema
        self.ema = copy.deepcopy(net).requires_grad_(False) if ema else None

    def hold(self, name: str, values: Tensor) -> None:
        """Keep a tensor as an attribute that goes where the network goes, and into no file."""
        self.register_buffer(name, values, persistent=False)

    def pick(self, count: int) -> tuple[Tensor, torch.Generator]:
        """Indices (on the CPU) of the current batch among ``count`` pictures; the generator."""
        seed = self.seed * 10_000_019 + self.global_step
        rng = torch.Generator().manual_seed(seed)
        index = torch.randint(count, (self.batch,), generator=rng)
        if self.device.type != "cpu":
            rng = torch.Generator(self.device).manual_seed(seed)
        return index, rng

    def ramp(self) -> float:
        """From 0 at the start to 1 after a fifth of the steps: attacks begin gently."""
        return min(1.0, 5 * self.global_step / self.steps)

    def taken(self, values: Tensor, index: Tensor) -> Tensor:
        """Some of the values that were held, without waiting for the device."""
        return values[index.to(values.device, non_blocking=True)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; 3 % linear warm-up, then cosine to zero."""
        trained = [p for p in self.parameters() if p.requires_grad]
        fused = self.device.type == "cuda"
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=0.01, fused=fused)
        warm = max(1, self.steps // 33)

        def factor(step: int) -> float:
            decay = 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))
            return min((step + 1) / warm, decay)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_fit_start(self) -> None:
        """Look at the clock."""
        self.began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the training took so far, with what came before it was resumed."""
        return self.spent + time.perf_counter() - self.began

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the time that was spent."""
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What was spent before; 0 in older files."""
        self.spent = float(checkpoint.get("seconds", 0.0))

    def on_train_batch_end(self, *_: object) -> None:
        """Log the speed now and then; move the averaged weights."""
        if self.global_step % TIMED == 0:
            now = time.perf_counter()
            if self.timed:
                self.log("images_per_s", self.batch * TIMED / (now - self.timed))
            self.timed = now
        if self.ema is None:
            return
        decay = min(self.ema_decay, (1 + self.global_step) / (10 + self.global_step))
        move = get_ema_multi_avg_fn(decay)
        move(list(self.ema.parameters()), list(self.net.parameters()), 0)

    def result(self) -> nn.Module:
        """The network to ship: the averaged one where there is one."""
        return (self.ema or self.net).eval()


@dataclass(frozen=True)
class Weighting:
    """How much the errors of eps count.

    Attributes:
        noisy: more weight for the noisy end. A picture's colours are settled while almost all of
            x_t is noise, where an error of eps is an error of x0 that is sqrt((1 - a) / a) times as
            large; evenly weighted, a short training never learns them. So every timestep weighs
            1 + noisy * min((1 - a) / a, 100), with 1/20: 1 for nearly clean pictures, 6 from about
            t = 700 on.
        min_snr: less weight for the clean end, min(1, min_snr / SNR), where errors are large and do
            not show (Hang et al. 2023, gamma); 0: none.
        low: adds the error of the 16x16 means, as much as there would be of it if errors were
            white: a wrong colour is a small error everywhere.
    """

    noisy: float = 0.05
    min_snr: float = 0.0
    low: float = 0.0

    def of(self, alpha_bars: Tensor) -> Tensor:
        """Weights [T] of the timesteps."""
        snr = alpha_bars / (1 - alpha_bars)
        weights = 1 + self.noisy * (1 / snr).clamp(max=100)
        return weights * (self.min_snr / snr).clamp(max=1) if self.min_snr else weights


def known_entropy(logits: Tensor, truth: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of logits [N,K] where the class [N] is known (not -1); 0 where none is."""
    total = F.cross_entropy(
        logits, truth, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (truth != -1).sum().clamp_min(1)


class TrainDDPM(Pretraining):
    """Noise prediction on pictures uint8 [N,H,W,3] (Ho et al. 2020, Eq. 14).

    ``flips`` turns half of the pictures left to right.
    """

    pool: Tensor
    alpha_bars: Tensor
    weights: Tensor

    def __init__(
        self,
        net: nn.Module,
        budget: Budget,
        pool: Tensor,
        compile_net: bool = True,
        weighting: Weighting = Weighting(),
        flips: bool = False,
    ) -> None:
        super().__init__(net, budget, ema=0.999)
        self.low, self.flips = weighting.low, flips
        alpha_bars = Schedule().alpha_bars.float()
        self.hold("pool", pool)
        self.hold("alpha_bars", alpha_bars)
        self.hold("weights", weighting.of(alpha_bars))
        self.call: Callable[..., tuple[Tensor, ...]] = self.net
        if compile_net:
            self.call = torch.compile(self.net)

    def training_step(self, *_: object) -> Tensor:
        """Weighted mean squared error of the predicted noise; timesteps are spread evenly."""
        index, rng = self.pick(len(self.pool))
        x0 = from_uint8(self.taken(self.pool, index))
        if self.flips:
            x0 = flipped(x0, rng)
        within = torch.rand(self.batch, generator=rng, device=rng.device)
        spread = (torch.arange(self.batch, device=rng.device) + within) / self.batch
        t = (spread * len(self.alpha_bars)).long()
        noise = normal_like(x0, rng)
        a = self.alpha_bars[t].view(-1, 1, 1, 1)
        x = channels_last(a.sqrt() * x0 + (1 - a).sqrt() * noise)
        eps = self.call(x, t, return_dict=False)[0].float()
        difference = eps - noise
        errors = difference.square().mean((1, 2, 3))
        self.log("loss", errors.mean(), prog_bar=True)
        if self.low:
            coarse = F.avg_pool2d(difference, 16).square().mean((1, 2, 3))
            errors = errors + self.low * 16**2 * coarse
        loss: Tensor = (self.weights[t] * errors).mean()
        return loss


class TrainIdentity(Pretraining):
    """ArcFace (Deng et al. 2019, Eq. 3): an additive angular margin between identities.

    The identities vary in everything else, and differ by fractions of a pixel, which the margin
    alone finds slowly; a linear read-out of the geometry and the hair cut from the embedding, not
    shipped, shows where to look.
    """

    pool: Tensor
    geometry: Tensor
    cut: Tensor

    def __init__(
        self, net: nn.Module, budget: Budget, identities: int, variants: int, embedding: int
    ) -> None:
        super().__init__(net, budget)
        faces = []
        for identity in range(identities):
            faces += [identity_face("train", identity, variant) for variant in range(variants)]
        self.variants = variants
        geometry = torch.tensor([list(vars(face.geometry).values()) for face in faces])
        self.hold("pool", torch.from_numpy(pictures_of(faces)))
        self.hold("geometry", (geometry - geometry.mean(0)) / geometry.std(0))
        self.hold("cut", class_indices(faces, "cut"))
        self.centres = nn.Parameter(0.1 * torch.randn(identities, embedding))
        self.read_geometry = nn.Linear(embedding, geometry.shape[1])
        self.read_cut = nn.Linear(embedding, len(ATTRIBUTES["cut"]))
        self.scale, self.margin = 24.0, 0.25

    def training_step(self, *_: object) -> Tensor:
        """Cross entropy over identities, the true angle widened, and the read-outs' errors."""
        index, rng = self.pick(len(self.pool))
        x = shifted(from_uint8(self.taken(self.pool, index)), draw_shift(rng))
        x = channels_last(degrade(x, rng, 0.1))
        identity = (index // self.variants).to(self.device)
        embedding = self.net(x).float()
        cosine = (embedding @ F.normalize(self.centres).T).clamp(-1 + 1e-6, 1 - 1e-6)
        margin = self.margin * min(1.0, self.global_step / self.steps)
        angle = cosine.acos() + margin * F.one_hot(identity, len(self.centres))
        arcface = F.cross_entropy(self.scale * angle.clamp(max=math.pi).cos(), identity)
        geometry, cuts = self.taken(self.geometry, index), self.taken(self.cut, index)
        shape = F.mse_loss(self.read_geometry(10 * embedding), geometry)
        cut = F.cross_entropy(self.read_cut(10 * embedding), cuts)
        self.log_dict({"loss": arcface, "shape": shape, "cut": cut}, prog_bar=True)
        return arcface + 5 * shape + cut


class Pictures(nn.Module):
    """Pictures of faces, of which a share comes as a half-made edit (``augment.partly``)."""

    pool: Tensor
    edited: Tensor

    def __init__(self, faces: list[Face], partial: float = 0.0) -> None:
        super().__init__()
        self.partial = partial
        self.register_buffer("pool", torch.from_numpy(pictures_of(faces)), persistent=False)
        if partial:
            edited = torch.from_numpy(pictures_of(edited_faces(faces)))
            self.register_buffer("edited", edited, persistent=False)

    def __len__(self) -> int:
        return len(self.pool)

    def forward(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """The pictures [N,3,64,64] in [-1, 1] at these positions."""
        here = index.to(self.pool.device, non_blocking=True)
        x = from_uint8(self.pool[here])
        if not self.partial:
            return x
        return partly(x, from_uint8(self.edited[here]), rng, self.partial)


class TrainJudge(Pretraining):
    """Attributes of pictures of all styles, and part maps of cartoons.

    With ``paint`` that share of the faces has parts in colours without a name, and of the pictures
    soft smears of paint; with ``partial`` that share is a half-made edit. What a person would not
    call a beard is none.
    """

    net: Judge
    labels: Tensor
    parts: Tensor

    def __init__(
        self,
        net: Judge,
        budget: Budget,
        pool: int,
        part_pool: int,
        paint: float = 0.0,
        partial: float = 0.0,
    ) -> None:
        super().__init__(net, budget)
        self.paint = paint
        shown = painted_faces(pool, paint)
        faces = [one.face for one in shown]
        self.pictures = Pictures(faces, partial)
        self.hold("labels", labels_of(shown, tuple(ATTRIBUTES)))
        mapped = [i for i, face in enumerate(faces[:part_pool]) if face["style"] == "toon"]
        self.mapped = torch.tensor(mapped)
        self.hold("parts", torch.from_numpy(part_maps_of([faces[i] for i in mapped])))

    def training_step(self, *_: object) -> Tensor:
        """Cross entropies of every attribute, and of the parts on a third of the batch."""
        index, rng = self.pick(len(self.pictures))
        third = index[: self.batch // 3] % len(self.mapped)
        shift = draw_shift(rng)
        x = self.pictures(torch.cat([index, self.mapped[third]]), rng)
        x = degrade(shifted(x, shift), rng)
        if self.paint:
            x = smeared(x, rng, self.paint)
        x = channels_last(x)
        parts_there = self.taken(self.parts, third)
        moved = shifted(parts_there[:, None].float(), shift)[:, 0].long()
        levels = self.net.encode(x)
        attributes = self.net.classify(levels)
        parts = self.net.segment([level[self.batch :] for level in levels])
        losses, truths = [], self.taken(self.labels, index)
        for truth, logits in zip(truths.T, attributes.values(), strict=True):
            known = logits[: self.batch].float()
            losses.append(known_entropy(known, truth, label_smoothing=0.02))
        loss = torch.stack(losses).mean() + F.cross_entropy(parts.float(), moved)
        self.log("loss", loss, prog_bar=True)
        return loss


def sampled_faces(split: str, count: int, domain: str = "all") -> list[Face]:
    """The first faces of a split, of all domains or of the diffusion model's (``in``)."""
    return [sample_face(split, i, domain) for i in range(count)]


def painted_faces(count: int, share: float) -> list[Repainted]:
    """The first faces of the train split, of which a share is painted."""
    rng = np.random.default_rng(count)
    faces = []
    for face in sampled_faces("train", count):
        painted = share > 0 and rng.random() < share
        faces.append(repainted(face, rng) if painted else Repainted(face))
    return faces


EDITED = ("beard", "expression", "hair_color", "hair_length", "skin")


def edited_faces(faces: Sequence[Face]) -> list[Face]:
    """The same faces, each with another value of one attribute (never one that is shown)."""
    rng = np.random.default_rng(len(faces))
    edited = []
    for face in faces:
        name = EDITED[int(rng.integers(len(EDITED)))]
        others = [value for value in ATTRIBUTES[name] if value != face[name]]
        edited.append(face.with_(**{name: others[int(rng.integers(len(others)))]}))
    return edited


def labels_of(faces: Sequence[Repainted], attributes: Sequence[str]) -> Tensor:
    """Class indices [N, attributes]; -1 where a picture does not show the value."""
    rows = []
    for one in faces:
        classes = one.labels()
        rows.append([classes[name] for name in attributes])
    return torch.tensor(rows)


def class_indices(faces: Sequence[Face], attribute: str) -> Tensor:
    """The class [N] of an attribute; -1 where a picture does not show it."""
    return torch.tensor([labels(face)[attribute] for face in faces])


def identity_face(split: str, identity: int, variant: int) -> Face:
    """Picture ``variant`` of an identity: a cartoon, everything but the identity drawn anew."""
    return sample_face(split, identity, "all", variant).with_(style="toon")
