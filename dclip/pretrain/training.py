"""Training of the embedded networks: the noise predictor, two CLIPs, the identity network and the judge of ToonFaces.

The noise predictor, and a CLIP of named classes, can be trained on CIFAR-10 too.

Every batch is a function of (seed, step) alone, so a resumed training sees the batches it would have seen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.data.cifar10 import WORDINGS, captions
from dclip.data.toonfaces.captions import CAPTIONED, caption, prompts
from dclip.data.toonfaces.faces import ATTRIBUTES, Face, labels, sample_face
from dclip.data.toonfaces.many import part_maps_of, pictures_of
from dclip.diffusion.schedule import Schedule
from dclip.models.judge import Judge
from dclip.types import from_uint8

LARGE = (
    "hair_color",
    "hair_length",
    "skin",
    "style",
    "clothes_color",
)  # attributes that are many pixels large


def draw_shift(rng: torch.Generator) -> tuple[int, int]:
    """A shift of up to 2 px, (right, down)."""
    dx, dy = torch.randint(-2, 3, (2,), generator=rng).tolist()
    return dx, dy


def shifted(x: Tensor, by: tuple[int, int]) -> Tensor:
    """Pictures [N,C,H,W] moved by whole pixels; the border is repeated."""
    (dx, dy), (h, w) = by, x.shape[-2:]
    return F.pad(x, (2, 2, 2, 2), mode="replicate")[..., 2 + dy : 2 + dy + h, 2 + dx : 2 + dx + w]


def roughen(x: Tensor, rng: torch.Generator, noise: float = 0.15) -> Tensor:
    """Mild imperfections: blur on a quarter, and noise on half of the pictures.

    Generated images are never as clean as drawn ones; a network that only ever saw clean ones misreads them.
    """
    n = len(x)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(torch.rand(n, 1, 1, 1, generator=rng) < 1 / 4, blurred, x)
    amount = (
        noise
        * torch.rand(n, 1, 1, 1, generator=rng)
        * (torch.rand(n, 1, 1, 1, generator=rng) < 0.5)
    )
    return x + amount * torch.randn(x.shape, generator=rng)


def tinted(x: Tensor, rng: torch.Generator, most: float = 0.2) -> Tensor:
    """Half of the pictures under soft coloured light (a smooth random field, at most ``most``).

    A network that has seen it does not take a red cast over everything for red hair.
    """
    n = len(x)
    field = F.interpolate(
        2 * torch.rand(n, 3, 3, 3, generator=rng) - 1,
        x.shape[-2:],
        mode="bicubic",
        align_corners=True,
    )
    return (
        x
        + most
        * torch.rand(n, 1, 1, 1, generator=rng)
        * (torch.rand(n, 1, 1, 1, generator=rng) < 0.5)
        * field
    )


def flipped(x: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures [N,C,H,W], each turned left to right with even odds."""
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=rng) < 0.5, x.flip(-1), x)


def against(x: Tensor, length: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Pictures [N,C,H,W], each moved ``length`` [N] (L2) along the gradient of their summed ``loss``."""
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(x), x)
    step = gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    return ready((x + length.view(-1, 1, 1, 1) * step).detach())


@contextmanager
def frozen_statistics(net: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, but its running statistics are left alone."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, kept, strict=True):
            m.momentum = momentum


def ready(x: Tensor) -> Tensor:
    """In the memory layout that convolutions like."""
    return x.contiguous(memory_format=torch.channels_last)


class Pretraining(L.LightningModule):
    """What the trainings share: AdamW with warm-up and cosine decay, batches by step number, an optional EMA."""

    def __init__(
        self, net: nn.Module, steps: int, batch: int, lr: float, seed: int = 0, ema: float = 0.0
    ) -> None:
        super().__init__()
        self.net, self.steps, self.batch, self.lr, self.seed = net, steps, batch, lr, seed
        self.ema_decay = ema
        self.ema = copy.deepcopy(net).requires_grad_(False) if ema else None

    def rng(self) -> torch.Generator:
        """The random generator of the current step."""
        return torch.Generator().manual_seed(self.seed * 10_000_019 + self.global_step)

    def pick(self, count: int) -> tuple[Tensor, torch.Generator]:
        """Indices of the current batch among ``count`` pictures, and the generator to go on with."""
        rng = self.rng()
        return torch.randint(count, (self.batch,), generator=rng), rng

    def configure_optimizers(self) -> Any:
        """AdamW; 3 % linear warm-up, then cosine to zero."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.lr, weight_decay=0.01)
        warm = max(1, self.steps // 33)

        def factor(step: int) -> float:
            return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_batch_end(self, *_: Any) -> None:
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
    """Noise prediction on pictures uint8 [N,H,W,3] (Ho et al. 2020, Eq. 14), with more weight on the noisy end.

    A picture's colours are settled while almost all of x_t is noise, where an error of eps is an error of x0 that is
    sqrt((1 - a) / a) times as large; evenly weighted, a short training never learns them. So every timestep weighs
    1 + noisy * min((1 - a) / a, 100), with ``noisy`` 1/20: 1 for nearly clean pictures, 6 from about t = 700 on. And ``low`` > 0
    adds the error of the 16x16 means, as much as there would be of it if errors were white: a wrong colour is a small error
    everywhere. ``flips`` turns half of the pictures left to right.
    """

    def __init__(
        self,
        net: nn.Module,
        pool: Tensor,
        compile_net: bool = True,
        noisy: float = 0.05,
        low: float = 0.0,
        flips: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(net, ema=0.999, **options)
        self.pool, self.low, self.flips = pool, low, flips
        self.alpha_bars = Schedule().alpha_bars.float()
        self.weights = 1 + noisy * ((1 - self.alpha_bars) / self.alpha_bars).clamp(max=100)
        self.call: Any = torch.compile(self.net) if compile_net else self.net

    def training_step(self, *_: Any) -> Tensor:
        """Weighted mean squared error of the predicted noise; the batch's timesteps are spread evenly."""
        index, rng = self.pick(len(self.pool))
        x0 = from_uint8(self.pool[index].numpy())
        x0 = flipped(x0, rng) if self.flips else x0
        spread = (torch.arange(self.batch) + torch.rand(self.batch, generator=rng)) / self.batch
        t = (spread * len(self.alpha_bars)).long()
        noise = torch.randn(x0.shape, generator=rng)
        a = self.alpha_bars[t].view(-1, 1, 1, 1)
        x = ready(a.sqrt() * x0 + (1 - a).sqrt() * noise)
        eps = self.call(x.to(self.device), t.to(self.device), return_dict=False)[0].float()
        difference = eps - noise.to(self.device)
        errors = difference.square().mean((1, 2, 3))
        self.log("loss", errors.mean(), prog_bar=True)
        if self.low:
            errors = errors + self.low * 16**2 * F.avg_pool2d(difference, 16).square().mean(
                (1, 2, 3)
            )
        loss: Tensor = (self.weights[t].to(self.device) * errors).mean()
        return loss


class TrainCLIP(Pretraining):
    """Contrastive training on pictures of all styles and attributes with captions in varied wording.

    Captions alone teach colours and nothing small: while the texts of "sad" and "angry" have one feature, pictures get no
    gradient to tell them apart, and the other way round. So every step also asks, of each attribute, which of the texts
    that name its values fits the picture; and one linear classifier an attribute, for both towers, breaks the tie. The
    classifiers are not shipped.

    With ``robust`` > 0 the pictures are first moved against the answers: one step along the normalised gradient, of an L2
    length up to ``robust`` (Madry et al. 2018; Engstrom et al. 2019). Gradients of an image encoder trained so change what
    a person would change; those of an ordinary one paint patterns that only the encoder sees, and so would an edit.
    """

    def __init__(
        self, net: nn.Module, tokenizer: Any, pool: int, robust: float = 0.0, **options: Any
    ) -> None:
        super().__init__(net, **options)
        self.tokenizer, self.robust = tokenizer, robust
        self.faces = [sample_face("train", i, "all") for i in range(pool)]
        self.pool = torch.from_numpy(pictures_of(self.faces))
        self.labels = {
            name: torch.tensor([labels(face)[name] for face in self.faces])
            for name in ("style", *CAPTIONED)
        }
        width = int(net.text_projection.shape[1])  # type: ignore[index, union-attr]
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(width, len(ATTRIBUTES[name])) for name in self.labels}
        )

    def training_step(self, *_: Any) -> Tensor:
        """Symmetric cross entropy of pictures and captions, and the cross entropy of every attribute's texts."""
        index, rng = self.pick(len(self.pool))
        words = np.random.default_rng([self.seed, self.global_step])
        captions = [caption(self.faces[i], words) for i in index.tolist()]
        choices = {name: prompts(name, words) for name in self.labels}
        x = ready(
            tinted(
                roughen(shifted(from_uint8(self.pool[index].numpy()), draw_shift(rng)), rng), rng
            )
        ).to(self.device)
        tokens = self.tokenizer(
            [*captions, *(text for texts in choices.values() for text in texts)]
        )
        if self.robust:
            x = self.attacked(x, tokens, choices, index, rng)
        image, text, scale = self.net(x, tokens.to(self.device))
        image, text = image.float(), text.float()
        logits = scale * image @ text.T
        contrast, start, answers, classes = (
            self.contrast(logits[:, : len(captions)], captions),
            len(captions),
            [],
            [],
        )
        for name, texts in choices.items():
            truth, here = self.labels[name][index].to(self.device), slice(start, start + len(texts))
            answers.append(F.cross_entropy(logits[:, here], truth, ignore_index=-1))
            classify = self.classifiers[name]
            classes.append(F.cross_entropy(classify(20 * image), truth, ignore_index=-1))
            classes.append(
                F.cross_entropy(
                    classify(20 * text[here]), torch.arange(len(texts), device=self.device)
                )
            )
            start = here.stop
        loss = (
            contrast + torch.stack(answers).sum() + torch.stack(classes).sum()
        )  # means would drown in the captions' noise
        self.log_dict(
            {"loss": loss, "captions": contrast, "answers": torch.stack(answers).mean()},
            prog_bar=True,
        )
        return loss

    def attacked(
        self,
        x: Tensor,
        tokens: Tensor,
        choices: dict[str, list[str]],
        index: Tensor,
        rng: torch.Generator,
    ) -> Tensor:
        """The pictures, moved by up to ``robust`` (L2, images in [-1, 1]) against the answers' cross entropy.

        Half of them go four times as far, but against the large attributes only: a smile is gone after that way, a hair
        colour is not.
        """
        n, tower = len(x), self.net.visual  # type: ignore[union-attr]
        far = (torch.rand(n, generator=rng) < 0.5).to(x)
        length = self.robust * torch.rand(n, generator=rng).to(x) * (1 + 3 * far)
        with torch.no_grad():
            text = self.net.encode_text(
                tokens.to(self.device)[-sum(map(len, choices.values())) :], normalize=True
            )  # type: ignore[operator]

        def loss(x: Tensor) -> Tensor:
            logits = 20 * F.normalize(tower(x), dim=-1).float() @ text.float().T  # type: ignore[operator]
            total = x.new_zeros(())
            for name, part in zip(
                choices, logits.split([len(texts) for texts in choices.values()], 1), strict=True
            ):
                errors = F.cross_entropy(
                    part,
                    self.labels[name][index].to(self.device),
                    ignore_index=-1,
                    reduction="none",
                )
                total = total + (errors if name in LARGE else errors * (1 - far)).sum()
            return total

        with frozen_statistics(tower):  # type: ignore[arg-type]
            return against(x, length, loss)

    def contrast(self, logits: Tensor, captions: list[str]) -> Tensor:
        """Pictures against captions, both ways; pictures whose captions read the same count as each other's partners."""
        same = torch.tensor(
            [[a == b for b in captions] for a in captions], device=logits.device
        ).float()
        target = same / same.sum(1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class TrainClassCLIP(Pretraining):
    """A CLIP on pictures uint8 [N,H,W,3] that each show one of the named classes of CIFAR-10.

    Captions are the classes' names in varied wording. A batch's captions are one wording of every class, so that each text
    stands there once: CLIP's cross entropy of pictures over captions, without pairs of one class counted as wrong. The network
    sees ``size`` x ``size`` pixels, as ``ClipModel`` will show them to it. ``robust`` as for :class:`TrainCLIP`.
    """

    def __init__(
        self,
        net: nn.Module,
        tokenizer: Any,
        pool: Tensor,
        labels: Tensor,
        size: int,
        robust: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(net, **options)
        self.pool, self.labels, self.size, self.robust = pool, labels, size, robust
        self.tokens = torch.stack([tokenizer(captions(wording)) for wording in WORDINGS])

    def training_step(self, *_: Any) -> Tensor:
        """Cross entropy of pictures over the classes' captions."""
        index, rng = self.pick(len(self.pool))
        x = shifted(flipped(from_uint8(self.pool[index].numpy()), rng), draw_shift(rng))
        x, truth = ready(roughen(x, rng)).to(self.device), self.labels[index].to(self.device)
        text = self.net.encode_text(
            self.tokens[self.global_step % len(self.tokens)].to(self.device), normalize=True
        )  # type: ignore[operator]
        text, scale = text.float(), self.net.logit_scale.exp()  # type: ignore[operator]

        def loss(x: Tensor, text: Tensor, scale: Tensor) -> Tensor:
            seen = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
            image = self.net.encode_image(ready(seen), normalize=True)  # type: ignore[operator]
            return F.cross_entropy(scale * image.float() @ text.T, truth, reduction="sum")

        if self.robust:
            with frozen_statistics(self.net.visual):  # type: ignore[arg-type]
                length = self.robust * torch.rand(len(x), generator=rng).to(x)
                x = against(x, length, lambda moved: loss(moved, text.detach(), scale.detach()))
        mean = loss(x, text, scale) / len(x)
        self.log("loss", mean, prog_bar=True)
        return mean


class TrainIdentity(Pretraining):
    """ArcFace (Deng et al. 2019, Eq. 3): additive angular margin between identities that vary in everything else.

    Identities differ by fractions of a pixel, which the margin alone finds slowly; a linear read-out of the geometry and
    the hair cut from the embedding, not shipped, shows where to look.
    """

    def __init__(
        self, net: nn.Module, identities: int, variants: int, embedding: int, **options: Any
    ) -> None:
        super().__init__(net, **options)
        faces = [identity_face("train", i, v) for i in range(identities) for v in range(variants)]
        self.pool, self.variants = torch.from_numpy(pictures_of(faces)), variants
        geometry = torch.tensor([list(vars(face.geometry).values()) for face in faces])
        self.geometry = (geometry - geometry.mean(0)) / geometry.std(0)
        self.cut = torch.tensor([labels(face)["cut"] for face in faces])
        self.centres = nn.Parameter(0.1 * torch.randn(identities, embedding))
        self.read_geometry = nn.Linear(embedding, geometry.shape[1])
        self.read_cut = nn.Linear(embedding, len(ATTRIBUTES["cut"]))
        self.scale, self.margin = 24.0, 0.25

    def training_step(self, *_: Any) -> Tensor:
        """Cross entropy over identities with the margin added to the true angle, and the read-outs' errors."""
        index, rng = self.pick(len(self.pool))
        x = ready(roughen(shifted(from_uint8(self.pool[index].numpy()), draw_shift(rng)), rng, 0.1))
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
    """Attributes of pictures of all styles, and part maps of cartoons."""

    net: Judge

    def __init__(self, net: Judge, pool: int, part_pool: int, **options: Any) -> None:
        super().__init__(net, **options)
        faces = [sample_face("train", i, "all") for i in range(pool)]
        self.pool = torch.from_numpy(pictures_of(faces))
        self.labels = {k: torch.tensor([labels(f)[k] for f in faces]) for k in ATTRIBUTES}
        mapped = [i for i, f in enumerate(faces[:part_pool]) if f["style"] == "toon"]
        self.mapped, self.parts = (
            torch.tensor(mapped),
            torch.from_numpy(part_maps_of([faces[i] for i in mapped])),
        )

    def training_step(self, *_: Any) -> Tensor:
        """Cross entropies of every attribute, and of the parts on a third of the batch."""
        index, rng = self.pick(len(self.pool))
        third = torch.randint(len(self.mapped), (self.batch // 3,), generator=rng)
        pixels = torch.cat([self.pool[index], self.pool[self.mapped[third]]])
        shift = draw_shift(rng)
        x = ready(roughen(shifted(from_uint8(pixels.numpy()), shift), rng))
        moved = shifted(self.parts[third][:, None].float(), shift)[:, 0].long()
        levels = self.net.encode(x.to(self.device))
        attributes, parts = (
            self.net.classify(levels),
            self.net.segment([level[self.batch :] for level in levels]),
        )
        losses = [
            F.cross_entropy(
                logits[: self.batch].float(),
                self.labels[k][index].to(self.device),
                ignore_index=-1,
                label_smoothing=0.02,
            )
            for k, logits in attributes.items()
        ]
        loss = torch.stack(losses).mean() + F.cross_entropy(parts.float(), moved.to(self.device))
        self.log("loss", loss, prog_bar=True)
        return loss


def identity_face(split: str, identity: int, variant: int) -> Face:
    """Picture ``variant`` of an identity: always a cartoon, everything but the identity drawn anew from all domains."""
    return sample_face(split, identity, "all", variant).with_(style="toon")
