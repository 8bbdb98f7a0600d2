"""Training of networks from nothing: what all trainings share, and all but the CLIPs'.

Every batch is a function of (seed, step) alone, so a resumed training sees the batches it would
have seen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from dclip.data.toonfaces.faces import ATTRIBUTES, Face, labels, sample_face
from dclip.data.toonfaces.many import part_maps_of, pictures_of
from dclip.data.toonfaces.repaint import Repainted, repainted
from dclip.diffusion.schedule import Schedule
from dclip.models.judge import Judge
from dclip.pretrain.augment import channels_last, degrade, draw_shift, flipped, shifted, smeared
from dclip.types import from_uint8


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
        self.ema_decay = ema
        self.ema = copy.deepcopy(net).requires_grad_(False) if ema else None

    def rng(self) -> torch.Generator:
        """The random generator of the current step."""
        return torch.Generator().manual_seed(self.seed * 10_000_019 + self.global_step)

    def pick(self, count: int) -> tuple[Tensor, torch.Generator]:
        """Indices of the current batch among ``count`` pictures, and the generator, to continue."""
        rng = self.rng()
        return torch.randint(count, (self.batch,), generator=rng), rng

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; 3 % linear warm-up, then cosine to zero."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=0.01)
        warm = max(1, self.steps // 33)

        def factor(step: int) -> float:
            decay = 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))
            return min((step + 1) / warm, decay)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_batch_end(self, *_: object) -> None:
        """Move the averaged weights."""
        if self.ema is None:
            return
        decay = min(self.ema_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for mean, now in zip(self.ema.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)

    def result(self) -> nn.Module:
        """The network to ship: the averaged one where there is one."""
        return (self.ema or self.net).eval()


class TrainDDPM(Pretraining):
    """Noise prediction on pictures uint8 [N,H,W,3] (Ho et al. 2020, Eq. 14).

    The noisy end has more weight. A picture's colours are settled while almost all of x_t is noise,
    where an error of eps is an error of x0 that is sqrt((1 - a) / a) times as large; evenly
    weighted, a short training never learns them. So every timestep weighs
    1 + noisy * min((1 - a) / a, 100), with ``noisy`` 1/20: 1 for nearly clean pictures, 6 from
    about t = 700 on. And ``low`` > 0 adds the error of the 16x16 means, as much as there would be
    of it if errors were white: a wrong colour is a small error everywhere. ``flips`` turns half of
    the pictures left to right.
    """

    def __init__(
        self,
        net: nn.Module,
        budget: Budget,
        pool: Tensor,
        compile_net: bool = True,
        noisy: float = 0.05,
        low: float = 0.0,
        flips: bool = False,
    ) -> None:
        super().__init__(net, budget, ema=0.999)
        self.pool, self.low, self.flips = pool, low, flips
        self.alpha_bars = Schedule().alpha_bars.float()
        self.weights = 1 + noisy * ((1 - self.alpha_bars) / self.alpha_bars).clamp(max=100)
        self.call: Callable[..., tuple[Tensor, ...]] = self.net
        if compile_net:
            self.call = torch.compile(self.net)

    def training_step(self, *_: object) -> Tensor:
        """Weighted mean squared error of the predicted noise; timesteps are spread evenly."""
        index, rng = self.pick(len(self.pool))
        x0 = from_uint8(self.pool[index].numpy())
        if self.flips:
            x0 = flipped(x0, rng)
        spread = (torch.arange(self.batch) + torch.rand(self.batch, generator=rng)) / self.batch
        t = (spread * len(self.alpha_bars)).long()
        noise = torch.randn(x0.shape, generator=rng)
        a = self.alpha_bars[t].view(-1, 1, 1, 1)
        x = channels_last(a.sqrt() * x0 + (1 - a).sqrt() * noise)
        eps = self.call(x.to(self.device), t.to(self.device), return_dict=False)[0].float()
        difference = eps - noise.to(self.device)
        errors = difference.square().mean((1, 2, 3))
        self.log("loss", errors.mean(), prog_bar=True)
        if self.low:
            coarse = F.avg_pool2d(difference, 16).square().mean((1, 2, 3))
            errors = errors + self.low * 16**2 * coarse
        loss: Tensor = (self.weights[t].to(self.device) * errors).mean()
        return loss


class TrainIdentity(Pretraining):
    """ArcFace (Deng et al. 2019, Eq. 3): an additive angular margin between identities.

    The identities vary in everything else, and differ by fractions of a pixel, which the margin
    alone finds slowly; a linear read-out of the geometry and the hair cut from the embedding, not
    shipped, shows where to look.
    """

    def __init__(
        self, net: nn.Module, budget: Budget, identities: int, variants: int, embedding: int
    ) -> None:
        super().__init__(net, budget)
        faces = []
        for identity in range(identities):
            faces += [identity_face("train", identity, variant) for variant in range(variants)]
        self.pool, self.variants = torch.from_numpy(pictures_of(faces)), variants
        geometry = torch.tensor([list(vars(face.geometry).values()) for face in faces])
        self.geometry = (geometry - geometry.mean(0)) / geometry.std(0)
        self.cut = class_indices(faces, "cut")
        self.centres = nn.Parameter(0.1 * torch.randn(identities, embedding))
        self.read_geometry = nn.Linear(embedding, geometry.shape[1])
        self.read_cut = nn.Linear(embedding, len(ATTRIBUTES["cut"]))
        self.scale, self.margin = 24.0, 0.25

    def training_step(self, *_: object) -> Tensor:
        """Cross entropy over identities, the true angle widened, and the read-outs' errors."""
        index, rng = self.pick(len(self.pool))
        x = shifted(from_uint8(self.pool[index].numpy()), draw_shift(rng))
        x = channels_last(degrade(x, rng, 0.1))
        identity = (index // self.variants).to(self.device)
        embedding = self.net(x.to(self.device)).float()
        cosine = (embedding @ F.normalize(self.centres).T).clamp(-1 + 1e-6, 1 - 1e-6)
        margin = self.margin * min(1.0, self.global_step / self.steps)
        angle = cosine.acos() + margin * F.one_hot(identity, len(self.centres))
        arcface = F.cross_entropy(self.scale * angle.clamp(max=math.pi).cos(), identity)
        shape = F.mse_loss(self.read_geometry(10 * embedding), self.geometry[index].to(self.device))
        cut = F.cross_entropy(self.read_cut(10 * embedding), self.cut[index].to(self.device))
        self.log_dict({"loss": arcface, "shape": shape, "cut": cut}, prog_bar=True)
        return arcface + 5 * shape + cut


class TrainJudge(Pretraining):
    """Attributes of pictures of all styles, and part maps of cartoons.

    With ``paint`` that share of the faces has parts in colours without a name, and of the pictures
    soft smears of paint: what a person would not call a beard is none.
    """

    net: Judge

    def __init__(
        self, net: Judge, budget: Budget, pool: int, part_pool: int, paint: float = 0.0
    ) -> None:
        super().__init__(net, budget)
        self.paint = paint
        shown = painted_faces(pool, paint)
        faces = [one.face for one in shown]
        self.pool = torch.from_numpy(pictures_of(faces))
        classes = [one.labels() for one in shown]
        self.labels = {}
        for name in ATTRIBUTES:
            self.labels[name] = torch.tensor([one[name] for one in classes])
        mapped = [i for i, face in enumerate(faces[:part_pool]) if face["style"] == "toon"]
        self.mapped = torch.tensor(mapped)
        self.parts = torch.from_numpy(part_maps_of([faces[i] for i in mapped]))

    def training_step(self, *_: object) -> Tensor:
        """Cross entropies of every attribute, and of the parts on a third of the batch."""
        index, rng = self.pick(len(self.pool))
        third = torch.randint(len(self.mapped), (self.batch // 3,), generator=rng)
        pixels = torch.cat([self.pool[index], self.pool[self.mapped[third]]])
        shift = draw_shift(rng)
        x = degrade(shifted(from_uint8(pixels.numpy()), shift), rng)
        if self.paint:
            x = smeared(x, rng, self.paint)
        x = channels_last(x)
        moved = shifted(self.parts[third][:, None].float(), shift)[:, 0].long()
        levels = self.net.encode(x.to(self.device))
        attributes = self.net.classify(levels)
        parts = self.net.segment([level[self.batch :] for level in levels])
        losses = []
        for name, logits in attributes.items():
            truth = self.labels[name][index].to(self.device)
            known = logits[: self.batch].float()
            losses.append(F.cross_entropy(known, truth, ignore_index=-1, label_smoothing=0.02))
        loss = torch.stack(losses).mean() + F.cross_entropy(parts.float(), moved.to(self.device))
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


def class_indices(faces: Sequence[Face], attribute: str) -> Tensor:
    """The class [N] of an attribute; -1 where a picture does not show it."""
    return torch.tensor([labels(face)[attribute] for face in faces])


def identity_face(split: str, identity: int, variant: int) -> Face:
    """Picture ``variant`` of an identity: a cartoon, everything but the identity drawn anew."""
    return sample_face(split, identity, "all", variant).with_(style="toon")
