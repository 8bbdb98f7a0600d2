"""What a run does: the options of ``task=``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from omegaconf import MISSING

from dclip.config.options import Kind, check_not_negative, check_positive, option
from dclip.errors import need


@dataclass
class Task(Kind):
    """What a run does. The option's class is the kind; what other parts ask about it, it says itself.

    Attributes:
        splits: the images it looks at, in the order in which they are dealt: how many train must not
            change which are the test images.
        learns: whether it learns an edit.
        applies: whether it applies the edits of ``edit.adapter``.
        takes_input: whether ``input`` may stand in for the data set.
        named_by_edit: whether the edit's name is part of the run's.
        random: whether the seed decides what comes out, whatever the sampler does.
        foreign: whether its images may be of a kind that the model has never seen.
    """

    kind_key: ClassVar[str] = "name"
    splits: ClassVar[tuple[str, ...]] = ()
    learns: ClassVar[bool] = False
    applies: ClassVar[bool] = False
    takes_input: ClassVar[bool] = False
    named_by_edit: ClassVar[bool] = False
    random: ClassVar[bool] = False
    foreign: ClassVar[bool] = False


@option("task", "finetune")
@dataclass
class FinetuneTask(Task):
    """Fine-tune for one edit, apply it to the test images, measure, report."""

    splits = ("test", "train", "validation")
    learns = True
    takes_input = True
    named_by_edit = True
    random = True


@option("task", "edit")
@dataclass
class EditTask(Task):
    """Apply a learned edit to ``input`` (a file or a folder), or to the data set's test split."""

    splits = ("test",)
    applies = True
    takes_input = True
    named_by_edit = True


@option("task", "translate")
@dataclass
class TranslateTask(Task):
    """Bring images of a kind that the model has never seen (photographs, sketches, strokes) into its domain, then edit them.

    ``rounds`` times: noise to ``t0``, denoise in ``steps`` with the original model (DiffusionCLIP, Sec. 4.3). Higher ``t0`` and
    more rounds: closer to the domain, further from the source. Sources: ``input``, or ``dataset.domain`` of ToonFaces.
    Without edit.adapter it ends there.
    """

    splits = ("test",)
    applies = True
    takes_input = True
    named_by_edit = True
    foreign = True
    rounds: int = 3
    t0: int = 500
    steps: int = 20
    clip_x0: bool = True  # keep the predicted x0 in [-1, 1], without which colours run away

    def __post_init__(self) -> None:
        check_not_negative("task", rounds=self.rounds)
        need(0 < self.t0 <= 999, f"task.t0={self.t0} is outside the schedule; choose 1 to 999")
        need(
            2 <= self.steps <= self.t0 + 1,
            f"task.steps={self.steps} is impossible with task.t0={self.t0}; choose 2 to {self.t0 + 1}",
        )


@option("task", "reconstruct")
@dataclass
class ReconstructTask(Task):
    """Invert and generate with the unchanged model: how well do images survive the round trip?"""

    splits = ("test",)


class Start(StrEnum):
    """Where sampling starts."""

    noise = "noise"
    images = "images"  # the inverted latents of ``input``, or of the data set's test images


@option("task", "sample")
@dataclass
class SampleTask(Task):
    """Draw images from noise (or from the latents of images), freely or under guidance.

    ``clip_x0`` keeps the predicted x0 in [-1, 1], without which colours run away from noise; from the latents of images it
    should be off. ``paired`` also samples without guidance from the same noise, for comparison. ``leak`` starts below the top of
    the schedule as training did: not from pure noise, but with the mean of so many training images in it (0: pure noise), x_t0 =
    sqrt(alpha_bar) mean + sqrt(1 - alpha_bar) noise. From there a network that is weak at the highest noise draws truer colours.
    (Everaert et al. 2024, "Exploiting the signal-leak bias in diffusion models".)
    """

    random = True
    count: int = 64
    leak: int = 0
    clip_x0: bool = True
    start: Start = Start.noise
    paired: bool = True
    # save what the report's code saved: clamp(x, 0, 1) of images in [-1, 1], half of them black
    published_pixels: bool = False

    @property
    def from_images(self) -> bool:
        """Whether it starts from the latents of images."""
        return self.start is Start.images

    def __post_init__(self) -> None:
        check_positive("task", count=self.count)
        check_not_negative("task", leak=self.leak)


class Net(StrEnum):
    """What can be trained."""

    ddpm = "ddpm"
    clip = "clip"
    heldout = "heldout"
    identity = "identity"
    judge = "judge"


class Size(StrEnum):
    """How large a network is trained on CIFAR-10."""

    small = "small"  # for a CPU: 4 to 6 M parameters
    large = "large"  # for a GPU: 5 to 8 M, with several times the arithmetic


@option("task", "pretrain")
@dataclass
class PretrainTask(Task):
    """Train a network from nothing and write its model card.

    One of the embedded ToonFaces networks; or, with ``dataset=cifar10``, a noise predictor (``ddpm``), a CLIP (``clip``) or one
    of another architecture that only scores (``heldout``), from ``dataset.train`` pictures.
    """

    splits = ("test", "train")
    random = True
    net: Net = MISSING
    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    pool: int = 24000  # ToonFaces drawn for training
    start: str | None = None  # weights to start from, instead of random ones
    compile: bool = False
    noisy: float = 0.05  # ddpm: extra weight of the noisy end, where colours are settled; 0 weighs all timesteps alike
    low: float = 0.0  # ddpm: weight of the error of 16x16 means, which hold the colours
    min_snr: float = 0.0  # ddpm: signal-to-noise ratio above which cleaner pictures weigh less, 5 is usual; 0: all weigh alike
    robust: float = 0.0  # CLIP: L2 length of the adversarial step, images in [-1, 1]; 0 trains on the pictures as they are
    attack_steps: int = 1  # CLIP: into how many steps robust is divided
    paint: float = 0.0  # CLIP, judge: share of pictures with parts in any colour, and with smears
    partial: float = (
        0.0  # CLIP, judge: share of pictures that are half-made edits, and count as none
    )
    size: Size = Size.small  # CIFAR-10: of the network
    colors: float = 0.0  # CLIP on CIFAR-10: share of pictures whose middle is painted in a colour that has a name
    publish: bool = False  # also write the weights and the card into the package

    def __post_init__(self) -> None:
        check_positive("task", steps=self.steps, batch=self.batch, lr=self.lr, pool=self.pool)
        check_not_negative(
            "task", robust=self.robust, low=self.low, noisy=self.noisy, min_snr=self.min_snr
        )
        check_positive("task", attack_steps=self.attack_steps)
        for name, share in (
            ("paint", self.paint),
            ("partial", self.partial),
            ("colors", self.colors),
        ):
            need(0 <= share <= 1, f"task.{name}={share:g} is a share; choose 0 to 1")
        need(
            self.attack_steps == 1 or self.robust > 0,
            f"task.attack_steps={self.attack_steps} divides task.robust, which is 0; set task.robust too",
        )

    def check_used(self, **nets: Sequence[Net]) -> None:
        """DclipError for a setting, by name, that is not 0 though none of its networks is trained."""
        for name, users in nets.items():
            value = getattr(self, name)
            shown = "true" if value is True else f"{value:g}"
            need(
                not value or self.net in users,
                f"task.{name}={shown} does nothing to task.net={self.net.value}; leave it out",
            )


@option("task", "demo")
@dataclass
class DemoTask(Task):
    """A local page to try, learn and draw on.

    It offers ``edit.adapter``'s edits, else those of every finished run under ``output``.
    """

    splits = ("test",)
    applies = True
    takes_input = True
    host: str = "127.0.0.1"  # 0.0.0.0: other machines too, with a password
    port: int = 0  # 0: any that is free
    password: str = ""  # empty: the variable DCLIP_PASSWORD, which no list of processes shows

    @property
    def secret(self) -> str:
        """The password of the page; empty where it asks for none."""
        return self.password or os.environ.get("DCLIP_PASSWORD", "")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can open the page."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def __post_init__(self) -> None:
        need(
            0 <= self.port <= 65535,
            f"task.port={self.port} is no port; choose 1024 to 65535, or 0 for any free one",
        )


@option("task", "plan")
@dataclass
class PlanTask(Task):
    """Say what a run would fetch, take and need, and do nothing else; ``of`` names what is planned. The same: ``plan=true``."""

    of: str = "finetune"

    def __post_init__(self) -> None:
        need(
            self.of in ("finetune", "edit", "reconstruct"),
            f"task.of={self.of} cannot be planned; choose finetune, edit or reconstruct, "
            f"or task={self.of} plan=true",
        )
