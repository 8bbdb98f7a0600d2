"""Every option of dclip: one dataclass an option, one group a noun on the command line. Imports nothing heavy.

A dataclass refuses bad values in ``__post_init__``; what needs several options at once is refused by :func:`check`, before
any network is built. ``@option(group, name)`` stores the class in Hydra's ConfigStore, so that ``sampler=ddpm`` finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from dclip.data.imagenet import wnid
from dclip.errors import DclipError as DclipError
from dclip.errors import need

T = TypeVar("T")
STORE = ConfigStore.instance()
OPTIONS: dict[str, dict[str, type]] = {}  # group -> option name -> dataclass
TEMPLATES = ("none", "imagenet79")


def option(group: str, name: str) -> Callable[[type[T]], type[T]]:
    """Make a dataclass the option ``group=name``."""

    def register(cls: type[T]) -> type[T]:
        STORE.store(group=group, name=name, node=cls, provider="dclip")
        OPTIONS.setdefault(group, {})[name] = cls
        return cls

    return register


def option_name(group: str, chosen: object) -> str:
    """What an option is called on the command line."""
    return next((name for name, cls in OPTIONS[group].items() if type(chosen) is cls), type(chosen).__name__)


def _positive(owner: str, **values: float) -> None:
    for name, value in values.items():
        need(math.isfinite(value) and value > 0, f"{owner}.{name}={value} must be greater than 0")


def _weights(owner: str, **values: float) -> None:
    for name, value in values.items():
        need(math.isfinite(value) and value >= 0, f"{owner}.{name}={value} must be 0 (off) or greater")


# ---------------------------------------------------------------------------------------------------- task


class TaskName(StrEnum):
    """What a run does."""

    finetune = "finetune"
    edit = "edit"
    reconstruct = "reconstruct"
    sample = "sample"
    pretrain = "pretrain"
    translate = "translate"  # type: ignore[assignment]  # a name that str has too
    plan = "plan"
    demo = "demo"


@option("task", "finetune")
@dataclass
class Task:
    """Fine-tune for one edit, apply it to the test images, measure, report."""

    name: TaskName = TaskName.finetune


@option("task", "edit")
@dataclass
class EditTask(Task):
    """Apply a fine-tuned edit to images: ``input`` (a file or a folder), or the data set's test split."""

    name: TaskName = TaskName.edit


@option("task", "translate")
@dataclass
class TranslateTask(Task):
    """Bring images of a kind that the model has never seen (photographs, sketches, strokes) into its domain, then edit them.

    ``rounds`` times: noise to ``t0``, denoise in ``steps`` with the original model (DiffusionCLIP, Sec. 4.3). Higher ``t0`` and
    more rounds: closer to the domain, further from the source. Sources: ``input``, or ``dataset.domain`` of ToonFaces.
    Without edit.adapter it ends there.
    """

    name: TaskName = TaskName.translate
    rounds: int = 3
    t0: int = 500
    steps: int = 20
    clip_x0: bool = True  # keep the predicted x0 in [-1, 1], without which colours run away

    def __post_init__(self) -> None:
        _weights("task", rounds=self.rounds)
        need(0 < self.t0 <= 999, f"task.t0={self.t0} is outside the schedule; choose 1 to 999")
        need(
            2 <= self.steps <= self.t0 + 1,
            f"task.steps={self.steps} is impossible with task.t0={self.t0}; choose 2 to {self.t0 + 1}",
        )


@option("task", "reconstruct")
@dataclass
class ReconstructTask(Task):
    """Invert and generate with the unchanged model: how well do images survive the round trip?"""

    name: TaskName = TaskName.reconstruct


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

    name: TaskName = TaskName.sample
    count: int = 64
    leak: int = 0
    clip_x0: bool = True
    start: Start = Start.noise
    paired: bool = True
    published_pixels: bool = False  # save what the report's code saved: clamp(x, 0, 1) of images in [-1, 1], half of them black

    def __post_init__(self) -> None:
        _positive("task", count=self.count)
        _weights("task", leak=self.leak)


class Net(StrEnum):
    """What can be trained."""

    ddpm = "ddpm"
    clip = "clip"
    heldout = "heldout"
    identity = "identity"
    judge = "judge"


@option("task", "pretrain")
@dataclass
class PretrainTask(Task):
    """Train a network from nothing and write its model card.

    One of the embedded ToonFaces networks; or, with ``dataset=cifar10``, a small noise predictor (``ddpm``), a small CLIP
    (``clip``) or one of another architecture that only scores (``heldout``), from ``dataset.train`` pictures.
    """

    name: TaskName = TaskName.pretrain
    net: Net = MISSING
    steps: int = 3000
    batch: int = 64
    lr: float = 1e-3
    pool: int = 24000  # ToonFaces drawn for training
    start: str | None = None  # weights to start from, instead of random ones
    compile: bool = False
    noisy: float = 0.05  # ddpm: extra weight of the noisy end, where colours are settled; 0 weighs all timesteps alike
    low: float = 0.0  # ddpm: weight of the error of 16x16 means, which hold the colours
    robust: float = 0.0  # CLIP: L2 length of the adversarial step, images in [-1, 1]; 0 trains on the pictures as they are
    publish: bool = False  # also write the weights and the card into the package

    def __post_init__(self) -> None:
        _positive("task", steps=self.steps, batch=self.batch, lr=self.lr, pool=self.pool)
        _weights("task", robust=self.robust, low=self.low, noisy=self.noisy)


@option("task", "demo")
@dataclass
class DemoTask(Task):
    """A local page to try edits on: ``edit.adapter``'s, else those of every finished run under ``output``."""

    name: TaskName = TaskName.demo
    host: str = "127.0.0.1"
    port: int = 0  # 0: any that is free

    def __post_init__(self) -> None:
        need(0 <= self.port <= 65535, f"task.port={self.port} is no port; choose 1024 to 65535, or 0 for any free one")


@option("task", "plan")
@dataclass
class PlanTask(Task):
    """Say what a run would fetch, take and need, and do nothing else; ``of`` names what is planned. The same: ``plan=true``."""

    name: TaskName = TaskName.plan
    of: TaskName = TaskName.finetune

    def __post_init__(self) -> None:
        need(
            self.of in (TaskName.finetune, TaskName.edit, TaskName.reconstruct),
            f"task.of={self.of.value} cannot be planned; choose finetune, edit or reconstruct, or task={self.of.value} plan=true",
        )


# ---------------------------------------------------------------------------------------------------- data and models


@dataclass
class Dataset:
    """How many images each part of a run sees. ``align`` turns and crops photographs (also ``input``) around the face."""

    train: int = 32
    validation: int = 8
    test: int = 32
    align: bool = False  # as FFHQ's faces were; needs faces in the pictures
    landmarks: str | None = None  # CSV or JSON with eyes and mouth of every picture; without it a detector looks for them

    def __post_init__(self) -> None:
        _positive("dataset", train=self.train, test=self.test)
        _weights("dataset", validation=self.validation)


class Drawing(StrEnum):
    """What ToonFaces are drawn as. The model knows only the first."""

    toon = "toon"
    sketch = "sketch"
    pixel = "pixel"
    strokes = "strokes"  # a blurred block of colour for every part of the face


@option("dataset", "toonfaces")
@dataclass
class ToonFaces(Dataset):
    """Cartoon faces drawn on the spot; with ``only_applicable``, those for which the edit means something."""

    only_applicable: bool = True
    domain: Drawing = Drawing.toon


@option("dataset", "sampled")
@dataclass
class Sampled(Dataset):
    """No data at all: images drawn by the checkpoint itself, each from its own noise.

    ``invert=false`` is cheaper: the drawing's own state at ``sampler.t0`` is the latent, and the image what it becomes.
    """

    train: int = 50
    test: int = 50
    steps: int = 50
    clip_x0: bool = True
    invert: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        need(2 <= self.steps <= 1000, f"dataset.steps={self.steps} is impossible; choose 2 to 1000")


class Order(StrEnum):
    """Which images come first."""

    hash = "hash"  # as a hash of their name decides: mixed, and the same everywhere
    name = "name"  # "the first 1,500 images"


@dataclass
class Photographs(Dataset):
    """Images on disk. Where the data set has splits of its own, test images come from its test (or validation) images."""

    LAYOUT: ClassVar[str] = ""  # what ``root`` may look like
    SOURCE: ClassVar[str] = ""  # where it is documented
    root: str = MISSING
    ids: str | None = None  # a file that lists images: one name, relative path or number a line, under [test], [train] if split
    order: Order = Order.hash
    train: int = 50
    test: int = 50


@option("dataset", "folder")
@dataclass
class Folder(Photographs):
    """Any folder of images, searched recursively, split by name in the order of a hash."""

    LAYOUT = "any folder with PNG, JPEG or WebP files, in sub-folders too"
    SOURCE = "your own images"


@option("dataset", "ffhq")
@dataclass
class Ffhq(Folder):
    """FFHQ, 70,000 aligned faces, or any other folder of such."""

    SOURCE = "https://github.com/NVlabs/ffhq-dataset"
    root: str = "data/ffhq"


@option("dataset", "celeba_hq")
@dataclass
class CelebaHq(Photographs):
    """CelebA-HQ, 30,000 faces: a folder of images, or StyleMapGAN's folders or LMDBs."""

    LAYOUT = (
        "LMDB_train/ and LMDB_test/ (StyleMapGAN: keys 256-00000 ...), raw_images/{train,val,test}/, {train,val}/, "
        "or a folder of images"
    )
    SOURCE = "https://github.com/naver-ai/StyleMapGAN or https://github.com/tkarras/progressive_growing_of_gans"
    root: str = "data/celeba_hq"


@option("dataset", "afhq")
@dataclass
class Afhq(Photographs):
    """Animal faces: StarGAN v2's folders, or StyleMapGAN's folders or LMDBs (which do not tell the animal)."""

    LAYOUT = "{train,val}/{dog,cat,wild}/*.jpg (v2: test), raw_images/{train,val,test}/, or LMDB_train/ and LMDB_test/"
    SOURCE = "https://github.com/clovaai/stargan-v2"
    root: str = "data/afhq"
    category: str = "dog"

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.category in ("dog", "cat", "wild"), f"dataset.category={self.category} is not in AFHQ; choose dog, cat or wild")


@option("dataset", "lsun")
@dataclass
class Lsun(Photographs):
    """LSUN scenes in their LMDBs."""

    LAYOUT = "{category}_train_lmdb/ and {category}_val_lmdb/ (either will do)"
    SOURCE = "https://www.yf.io/p/lsun"
    root: str = "data/lsun"
    category: str = "bedroom"  # or church_outdoor, ...


@option("dataset", "imagenet")
@dataclass
class ImageNet(Photographs):
    """ImageNet-1k; ``category`` is an index (852), a wnid (n04409515) or a name (tennis ball), and all classes if absent."""

    LAYOUT = "{train,val}/{wnid}/*.JPEG (either will do)"
    SOURCE = "https://image-net.org"
    root: str = "data/imagenet"
    category: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.category is not None:
            wnid(self.category)


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@option("dataset", "cifar10")
@dataclass
class Cifar10(Photographs):
    """CIFAR-10, 32 x 32 pixels, one class or all; fetched from its official source unless told otherwise."""

    LAYOUT = "cifar-10-batches-py/, or {train,test}/{class}/*.jpg (or png)"
    SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
    root: str = "data/cifar10"
    category: str | None = None
    fetch: bool = True  # 170 MB, checked by its md5

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.category is None or self.category in CIFAR10
        need(known, f"dataset.category={self.category} is not in CIFAR-10; choose {', '.join(CIFAR10)}")


class Domain(StrEnum):
    """What the images of a diffusion model show."""

    faces = "faces"
    dogs = "dogs"
    scenes = "scenes"
    objects = "objects"


@dataclass
class Checkpoint:
    """The diffusion model: a known name (``dclip weights list``), or a path (ours, a ddim or ADM file, a diffusers folder)."""

    name: str = "toonfaces"
    domain: Domain | None = None  # decides identity network and parser; null: as the known names say
    head_dim: int = 64  # channels per attention head of an ADM checkpoint: its keys cannot tell
    image_size: int | None = None  # of a checkpoint of unknown shape

    def __post_init__(self) -> None:
        _positive("checkpoint", head_dim=self.head_dim)


@dataclass
class Clip:
    """The CLIP that guides, and the one that only scores."""

    name: str = "toonfaces"
    heldout: str | None = "toonfaces_heldout"
    antialias: bool = True


STORE.store(group="checkpoint", name="base", node=Checkpoint, provider="dclip")
STORE.store(group="clip", name="base", node=Clip, provider="dclip")


def adapters_of(value: Any) -> list[str]:
    """``edit.adapter`` as a list: none, one, or several edits. DclipError for what names no edit."""
    names = value if isinstance(value, list) else [] if value is None else [value]
    need(value != [], "edit.adapter=[] names no edit; give a run's folder (outputs/latest after a run), or several")
    need(
        all(isinstance(name, str) and name.strip() for name in names),
        f"edit.adapter={value} must be an edit's file, its run's folder or its name, or a list of these",
    )
    return names


@dataclass
class Edit:
    """The edit in words. Written in ``conf/edit/NAME.yaml``; any text may be given as ``edit.source= edit.target=``."""

    name: str = ""
    source: str = MISSING
    target: str = MISSING
    examples: str | None = None  # images of the target, in place of texts: an image or a folder
    source_examples: str | None = None  # images to compare them with; null: the training images
    adapter: Any = None  # an edit that was fine-tuned before (its file, its run's folder, its name), or a list of several

    @property
    def adapters(self) -> list[str]:
        """The edits to apply."""
        return adapters_of(self.adapter)

    def __post_init__(self) -> None:
        adapters_of(self.adapter)
        for key in ("examples", "source_examples"):
            path = getattr(self, key)
            need(path is None or Path(path).exists(), f"edit.{key}={path} does not exist; give an image or a folder of images")
        need(
            self.source_examples is None or self.examples is not None,
            "edit.source_examples needs edit.examples: images of what the sources should become",
        )
        for key in ("source", "target"):
            text = getattr(self, key)
            need(
                bool(text.strip()),
                f"edit.{key} is empty; give a text such as edit.{key}='person with red hair', or choose edit=NAME",
            )
            need(
                text not in ("True", "False") and not text.replace(".", "").isdigit(),
                f"edit.{key}={text} is not a text; YAML read it as a number or a yes/no, so put it in quotes",
            )
        need(self.source != self.target, f"edit.source and edit.target are the same text ({self.source!r}); nothing would change")


# ---------------------------------------------------------------------------------------------------- diffusion


class FinalStep(StrEnum):
    """Where generation ends. The papers' code takes one more step than the paper prints."""

    to_clean = "to_clean"  # published code: ..., (tau_1 = 0 -> -1); the result is the predicted x0
    to_t0 = "to_t0"  # paper, Algorithms 3-5: stops at tau_1 = 0, the exact mirror of the inversion


class Grid(StrEnum):
    """How timesteps are spread between 0 and t0."""

    uniform = "uniform"  # in t, as published
    quadratic = "quadratic"  # in the square root of t
    log_snr = "log_snr"  # in the logarithm of the signal-to-noise ratio
    rho = "rho"  # in sqrt((1 - alpha_bar) / alpha_bar)


class Solver(StrEnum):
    """How the sampling ODE (or SDE) is followed."""

    ddim = "ddim"
    ddpm = "ddpm"
    ab2 = "ab2"
    heun = "heun"
    dpmpp_2m = "dpmpp_2m"
    fixed_point = "fixed_point"
    belm = "belm"


class Encode(StrEnum):
    """How an image becomes a latent at t0."""

    invert = "invert"  # deterministic DDIM inversion: keeps the image
    stochastic = "stochastic"  # closed-form noise, no network call: keeps the less, the higher t0 (Eff-Diff, SDEdit)


class Variance(StrEnum):
    """Variance of the noise that ancestral sampling adds."""

    checkpoint = "checkpoint"  # what the checkpoint was made for
    fixed_small = "fixed_small"
    fixed_large = "fixed_large"


@dataclass
class Sampler:
    """Timesteps: encode up to ``t0`` (inversion: in ``s_for`` steps), generate in ``s_gen``; both on one kind of ``grid``."""

    solver: Solver = Solver.ddim
    t0: int = 500
    s_for: int = 40
    s_gen: int = 6
    eta: float = 0.0
    final_step: FinalStep = FinalStep.to_clean
    grid: Grid = Grid.uniform
    sweeps: int = 6  # fixed_point: network calls a step at most
    tolerance: float = 3e-3  # fixed_point: an image is done when it would move by less (root mean square)
    damping: float = 1.0  # fixed_point: share of each new value that is taken
    accelerate: bool = True  # fixed_point: extrapolate from two iterations
    variance: Variance = Variance.checkpoint  # ddpm
    noise_last: bool = False  # ddpm: noise on the step to the clean image too, as the CLIP-guided sampling report's code has
    encode: Encode = Encode.invert

    def __post_init__(self) -> None:
        need(0 < self.t0 <= 999, f"sampler.t0={self.t0} is outside the schedule; choose 1 to 999")
        for name in ("s_for", "s_gen"):
            steps = getattr(self, name)
            need(
                2 <= steps <= self.t0 + 1,
                f"sampler.{name}={steps} is impossible with sampler.t0={self.t0}; choose 2 to {self.t0 + 1}",
            )
        _weights("sampler", eta=self.eta)
        need(
            self.eta == 0 or self.solver in (Solver.ddim, Solver.fixed_point),
            f"sampler.eta={self.eta} adds noise to DDIM, but the solver is {self.solver.value}; choose sampler=ddim",
        )
        ancestral = self.solver is Solver.ddpm
        need(
            ancestral or (self.variance is Variance.checkpoint and not self.noise_last),
            f"sampler.variance={self.variance.value} and sampler.noise_last={self.noise_last} are for sampler=ddpm, "
            f"but the solver is {self.solver.value}",
        )
        _positive("sampler", sweeps=self.sweeps, tolerance=self.tolerance, damping=self.damping)
        need(self.damping <= 1, f"sampler.damping={self.damping} must be at most 1 (no damping)")


@option("sampler", "ddim")
@dataclass
class Ddim(Sampler):
    """DDIM (Song et al. 2021); deterministic with ``eta=0``."""


@option("sampler", "ddpm")
@dataclass
class Ddpm(Sampler):
    """Ancestral sampling that honours the stride of its timesteps; inversion stays DDIM."""

    solver: Solver = Solver.ddpm


@option("sampler", "ab2")
@dataclass
class Ab2(Sampler):
    """Adams-Bashforth of second order, up and down: DDIM's cost, and an error that falls with the square of the steps."""

    solver: Solver = Solver.ab2


@option("sampler", "heun")
@dataclass
class Heun(Sampler):
    """Heun's method, up and down: second order from the first step, two network calls a step."""

    solver: Solver = Solver.heun


@option("sampler", "dpmpp_2m")
@dataclass
class DpmPp2M(Sampler):
    """DPM-Solver++ 2M, up and down: second order on the predicted x0."""

    solver: Solver = Solver.dpmpp_2m


@option("sampler", "fixed_point")
@dataclass
class FixedPoint(Sampler):
    """DDIM generation; inversion solves its own ``s_gen`` steps (``s_for`` is not used): few steps reconstruct well."""

    solver: Solver = Solver.fixed_point


@option("sampler", "belm")
@dataclass
class Belm(Sampler):
    """O-BELM, exactly reversible: reconstructs to rounding in ``s_gen`` steps (``s_for`` is not used). For research."""

    solver: Solver = Solver.belm
    s_gen: int = 20
    grid: Grid = Grid.rho


@dataclass
class Mix:
    """Several edits at once: eps is the weighted sum of theirs (DiffusionCLIP, Eq. 16), or one network the sum of their changes.

    Weights sum to one at every t, so two edits at half weight each make half of each change; ``gamma=2`` makes both whole.
    """

    weights: Any = None  # [0.5, 0.5], {300: [1, 0], 0: [0.3, 0.7]}, linear, cosine (dclip/mixing.py); null: equal
    soup: bool = False  # merge the edits' weights into one network, at the cost of one


# ---------------------------------------------------------------------------------------------------- guidance


class Sees(StrEnum):
    """What CLIP looks at while it guides."""

    x_t = "x_t"  # the noisy image itself, as published
    x0 = "x0"  # the predicted clean image; the gradient does not pass through the U-Net
    x0_through_unet = "x0_through_unet"  # the same, and it does: about three times the time
    blend = "blend"  # sqrt(1-a) x0 + (1 - sqrt(1-a)) x_t: the cleaner the image, the more of the image itself


class ClipRange(StrEnum):
    """How pixels reach CLIP."""

    unit = "unit"  # [-1, 1] is mapped to [0, 1], which CLIP expects
    raw = "raw"  # it is not: the published defect


class Normalise(StrEnum):
    """How long the step is that guidance takes."""

    none = "none"  # scale * sqrt(1-a) * gradient, as published
    eps = "eps"  # always scale * |eps|, along the gradient
    bounded = "bounded"  # always scale * sqrt(a) (root mean square): at most ``scale`` in eps and in the predicted x0
    cap = "cap"  # as published, but at most ``cap`` * |eps|


@option("guidance", "none")
@dataclass
class Guidance:
    """No guidance while sampling; texts that are given are only measured.

    ``targets``: one text or a list (unset: the edit's target); ``distractors``: ``siblings`` (the other values of the
    ToonFaces attributes that a target names), ``cifar10`` (its other classes), ``source`` (the edit's), or a list of texts.
    """

    targets: Any = None
    weights: list[float] = field(default_factory=list)
    distractors: Any = "siblings"
    templates: str = "none"

    def __post_init__(self) -> None:
        _weights("guidance", **{f"weights[{i}]": w for i, w in enumerate(self.weights)})
        need(not self.weights or sum(self.weights) > 0, "guidance.weights are all 0; give at least one target a weight")
        need(self.templates in TEMPLATES, f"guidance.templates={self.templates} does not exist; choose {' or '.join(TEMPLATES)}")


@dataclass
class Guided(Guidance):
    """What every guidance can be told; ``scale`` 0 is no guidance at all."""

    scale: float = 0.3
    temperature: float | None = None  # of the softmax over prompts; unset: what CLIP was trained with
    sees: Sees = Sees.x0
    clip_range: ClipRange = ClipRange.unit
    clips: list[str] = field(default_factory=list)  # several CLIPs guide together; empty: clip.name
    cutouts: int = 0  # random squares that CLIP sees instead of the whole image; 0: the whole image
    cut_min: float = 0.75  # their side, as a share of the image's
    cut_max: float = 1.0
    noise: float = 0.0  # standard deviation of noise on what CLIP sees
    flip: bool = True  # turn what CLIP sees round at random
    normalise: Normalise = Normalise.bounded
    cap: float = 0.5
    t_start: int = 999  # guided from here
    t_end: int = 200  # down to here; to the end (0) more samples show the prompt, but faces are painted over
    every: int = 1  # the gradient is computed every k-th step, and used again in between
    time_travel: int = 0  # how often a step is taken again from the noise it came from
    travel_start: int = 800
    travel_end: int = 300
    range: float = 0.0  # weight of keeping the predicted x0 in [-1, 1]
    tv: float = 0.0  # weight of keeping it smooth

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("scale", "noise", "time_travel", "range", "tv", "cutouts", "cap")
        _weights("guidance", **{name: getattr(self, name) for name in names})
        _positive("guidance", every=self.every, **({} if self.temperature is None else {"temperature": self.temperature}))
        need(
            0 < self.cut_min <= self.cut_max <= 1,
            f"guidance.cut_min={self.cut_min} and guidance.cut_max={self.cut_max} are shares of the image's side; "
            "choose 0 < cut_min <= cut_max <= 1",
        )
        for start, end in (("t_start", "t_end"), ("travel_start", "travel_end")):
            a, b = getattr(self, start), getattr(self, end)
            need(
                0 <= b <= a <= 999,
                f"guidance.{start}={a} to guidance.{end}={b} is no interval; choose 999 >= {start} >= {end} >= 0",
            )


@option("guidance", "contrastive")
@dataclass
class Contrastive(Guided):
    """log softmax of the target among its distractors (CLIP-guided sampling report, Eq. 5)."""


@option("guidance", "spherical")
@dataclass
class Spherical(Guided):
    """Great-circle distance to the target (Crowson)."""


@option("guidance", "single")
@dataclass
class Single(Guided):
    """log sigmoid of the cosine with the target."""


@option("guidance", "global")
@dataclass
class Global(Guided):
    """Cosine with the target (DiffusionCLIP, Eq. 9)."""


@option("guidance", "directional")
@dataclass
class Directional(Guided):
    """Cosine of the image's change with the texts' change (Eq. 10). From noise, the image's source is the unguided sample."""


@option("guidance", "contrastive_directional")
@dataclass
class ContrastiveDirectional(Guided):
    """log softmax of the target's direction among its distractors' directions."""


# ---------------------------------------------------------------------------------------------------- fine-tuning


class LrSchedule(StrEnum):
    """How the learning rate changes while fine-tuning."""

    constant = "constant"
    paper = "paper"  # x 1.2 (linearly) every 50 images' worth of updates
    code = "code"  # x 1.3 every epoch (exponentially)
    cosine = "cosine"  # up over the first twentieth of the batches, then down to 0 along a cosine


class ObjectiveName(StrEnum):
    """How the loss reaches the network; each is described in ``dclip/methods/objectives.py``."""

    chain = "chain"  # gradient through all steps (the paper)
    chain_checkpointed = "chain_checkpointed"  # the same gradient, in the memory of one step
    gpu_efficient = "gpu_efficient"  # one update per step, on its predicted x0 (published for small GPUs)
    last_k = "last_k"  # gradient through the last k steps
    onestep = "onestep"  # on the x0 predicted from one noised image (Eff-Diff)
    annealed = "annealed"  # last_k with k from 1 to all steps over the epochs


@dataclass
class Lora:
    """Low-rank updates in place of full weights: ``rank`` 0 is off.

    Of the base's size, rank 4 takes 1.2 % for the published 256x256 networks, and 4.8 % (rank 8: 9.6 %) for ToonFaces.
    """

    rank: int = 0
    alpha: float | None = None  # the update is scaled by alpha / rank; null: alpha = rank
    attention: bool = True  # which layers get one: attention's projections,
    conv: bool = True  # convolutions,
    time: bool = True  # and projections of the time embedding
    decoder_from: int | None = None  # only in the decoder's blocks from this one on; edits then share all that comes before

    def __post_init__(self) -> None:
        _weights("method.lora", rank=self.rank)
        need(
            self.decoder_from is None or (self.rank > 0 and self.decoder_from >= 0),
            f"method.lora.decoder_from={self.decoder_from} must be a block's number from 0 on, and needs method.lora.rank above 0",
        )
        if self.alpha is not None:
            _positive("method.lora", alpha=self.alpha)
        need(
            self.rank == 0 or self.attention or self.conv or self.time,
            "method.lora has a rank but no layers; set method.lora.attention, conv or time",
        )


@option("method", "diffusionclip")
@dataclass
class DiffusionClip:
    """Fine-tune the reverse process, by default through the whole chain of ``s_train`` steps (DiffusionCLIP, Sec. 3.1)."""

    epochs: int = 5
    batch: int = 4
    lr: float = 2e-5
    lr_schedule: LrSchedule = LrSchedule.constant
    s_train: int = 6
    save_every: int = 1  # epochs between checkpoints
    objective: ObjectiveName = ObjectiveName.chain
    k: int = 1  # last_k: how many steps carry the gradient
    faithful_id: bool = False  # gpu_efficient: the identity loss sees the detached x, as published, and so has no gradient
    drawn_t: bool = False  # onestep: noise to a drawn t in [1, t0] instead of t0
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        _positive("method", epochs=self.epochs, batch=self.batch, lr=self.lr, s_train=self.s_train, save_every=self.save_every)
        need(
            1 <= self.k <= self.s_train,
            f"method.k={self.k} is impossible with method.s_train={self.s_train}; choose 1 to {self.s_train}",
        )
        for name, owner in (("faithful_id", ObjectiveName.gpu_efficient), ("drawn_t", ObjectiveName.onestep)):
            need(
                not getattr(self, name) or self.objective is owner,
                f"method.{name}=true is for method.objective={owner.value}, not {self.objective.value}",
            )


@option("method", "none")
@dataclass
class NoMethod:
    """Leave the model as it is."""


# what latent optimisation pulls at; "global" as published
LatentLoss = StrEnum("LatentLoss", ["contrastive", "spherical", "single", "global", "directional", "contrastive_directional"])


@option("method", "latent_opt")
@dataclass
class LatentOpt:
    """Optimise the latent itself through the whole chain of ``s_opt`` DDIM steps, for ``guidance.targets``.

    An image stops when its target's probability reaches ``stop_at`` (1: never), or when nothing has got better for
    ``patience`` steps. With a guidance, images are then sampled under it from the latents that were found.
    """

    steps: int = 30
    lr: float = 2e-2
    s_opt: int = 6
    objective: LatentLoss = LatentLoss.contrastive
    stop_at: float = 0.9
    patience: int = 15
    l1: float = 0.0  # to the image that the latent made before
    id: float = 0.0
    norm: float = 10.0  # weight of keeping the latent as long as it was
    batch: int = 8
    checkpointing: bool = True  # compute steps again in the backward pass: memory does not grow with s_opt

    def __post_init__(self) -> None:
        _positive("method", steps=self.steps, lr=self.lr, patience=self.patience, batch=self.batch, stop_at=self.stop_at)
        _weights("method", l1=self.l1, id=self.id, norm=self.norm)
        need(self.stop_at <= 1, f"method.stop_at={self.stop_at} is a probability; choose more than 0, up to 1 (never)")


class ClipForm(StrEnum):
    """How the direction's cosine becomes a loss."""

    neg_log = "neg_log"  # published code: -log((1 + cos) / 2)
    cosine = "cosine"  # paper, Eq. 10: 1 - cos


@option("loss", "directional")
@dataclass
class Loss:
    """Weighted sum of the directional CLIP loss, L1 and the identity loss (DiffusionCLIP, Eq. 10-11), and ours: ``shift``."""

    clip: float = 3.0
    l1: float = 1.0
    id: float = 1.0
    shift: float = 0.0  # asks for a length of the change along the text's direction: what an image lacks of ``margin``
    margin: float = 0.3  # in unit features; the true edits of ToonFaces go 0.2 (a smile) to 0.33 (a skin colour) along theirs
    form: ClipForm = ClipForm.neg_log
    templates: str = "none"  # "none", or "imagenet79": the published code's prompt templates

    def __post_init__(self) -> None:
        _weights("loss", clip=self.clip, l1=self.l1, id=self.id, shift=self.shift)
        need(self.clip + self.l1 + self.id + self.shift > 0, "all weights of loss are 0; there is nothing to learn from")
        need(0 < self.margin < 2, f"loss.margin={self.margin} is not a length between unit features; choose about 0.2 to 0.4")
        need(self.templates in TEMPLATES, f"loss.templates={self.templates} does not exist; choose {' or '.join(TEMPLATES)}")


# ---------------------------------------------------------------------------------------------------- measuring, running


class ParserName(StrEnum):
    """Which network finds the parts of an image, for SC."""

    auto = "auto"  # bisenet for faces, ade20k for scenes, none for other photographs; ToonFaces have their judge
    bisenet = "bisenet"
    ade20k = "ade20k"
    none = "none"


class Features(StrEnum):
    """The network whose features KID and FID compare."""

    auto = "auto"  # ToonFaces: their judge; else Inception, as both are defined
    heldout = "heldout"  # the CLIP that only scores (clip.heldout): for small pictures, or where Inception is not at hand


@option("metric", "default")
@dataclass
class Metric:
    """Which families of metrics are computed; each is absent with its reason where it cannot be."""

    clip: bool = True
    identity: bool = True
    pixels: bool = True
    lpips: bool = True
    kid: bool = True
    judge: bool = True
    parser: ParserName = ParserName.auto
    kid_subset: int = 50
    kid_subsets: int = 100
    # of samples from noise:
    kid_sizes: list[int] = field(default_factory=lambda: [10, 50, 100])  # subset sizes, each a number of its own
    features: Features = Features.auto  # of KID and FID
    reference: int = 200  # true pictures of what is asked for
    bootstrap: int = 500  # draws behind a confidence interval; 0 leaves it out

    def __post_init__(self) -> None:
        _positive("metric", kid_subset=self.kid_subset, kid_subsets=self.kid_subsets, reference=self.reference)
        _weights("metric", bootstrap=self.bootstrap)
        need(all(size > 1 for size in self.kid_sizes), f"metric.kid_sizes={list(self.kid_sizes)} must each be 2 or more")


@option("metric", "none")
@dataclass
class NoMetric(Metric):
    """Measure nothing."""

    clip: bool = False
    identity: bool = False
    pixels: bool = False
    lpips: bool = False
    kid: bool = False
    judge: bool = False
    parser: ParserName = ParserName.none


class Precision(StrEnum):
    """Arithmetic of the diffusion model while fine-tuning."""

    fp32 = "32-true"
    bf16 = "bf16-mixed"


class Speed(StrEnum):
    """Arithmetic of the diffusion model where no gradient is needed: inversion, sampling, evaluation."""

    exact = "exact"
    fast = "fast"  # on a GPU in bfloat16: pixels move by less than 0.002 of 1 on average. A processor stays exact: it gains nothing


@option("trainer", "auto")
@dataclass
class Trainer:
    """Device, batch sizes and progress. ``batch`` is for everything that needs no gradient; it never changes a picture."""

    accelerator: str = "auto"
    devices: int = 1
    batch: int | None = None  # images at a time; null: as many as half of the free memory holds, at most 16 on a CPU, 64 on a GPU
    precision: Precision = Precision.fp32
    speed: Speed = Speed.exact
    progress: bool = True
    threads: int = 0  # CPU threads; 0 leaves torch's choice
    cache: bool = True  # keep latents of inverted images, and take those that are kept; false measures what inversion costs

    def __post_init__(self) -> None:
        _positive("trainer", devices=self.devices, **({} if self.batch is None else {"batch": self.batch}))
        _weights("trainer", threads=self.threads)
        need(
            self.accelerator in ("auto", "cpu", "gpu", "cuda", "mps"),
            f"trainer.accelerator={self.accelerator} does not exist; choose auto, cpu, gpu, cuda or mps",
        )


@option("trainer", "cpu")
@dataclass
class CpuTrainer(Trainer):
    """The processor, whatever else is there."""

    accelerator: str = "cpu"


@option("trainer", "gpu")
@dataclass
class GpuTrainer(Trainer):
    """One GPU; an error where there is none."""

    accelerator: str = "gpu"


class WandbMode(StrEnum):
    """Where W&B keeps its records."""

    auto = "auto"  # online with a key, offline without
    online = "online"
    offline = "offline"
    disabled = "disabled"


@option("logger", "csv")
@dataclass
class Logger:
    """Files only: ``metrics.json`` and ``curves.csv`` are written by every run."""

    wandb: WandbMode = WandbMode.disabled
    project: str = "dclip"


@option("logger", "wandb")
@dataclass
class WandbLogger(Logger):
    """The same files, and Weights & Biases."""

    wandb: WandbMode = WandbMode.auto


# ---------------------------------------------------------------------------------------------------- the whole


@dataclass
class Config:
    """One run."""

    task: Task = MISSING
    dataset: Dataset = MISSING
    checkpoint: Checkpoint = MISSING
    clip: Clip = MISSING
    edit: Edit = MISSING
    method: Any = MISSING
    guidance: Guidance = MISSING
    sampler: Sampler = MISSING
    mix: Mix = field(default_factory=Mix)
    loss: Loss = MISSING
    metric: Metric = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING
    name: str = ""  # of the run's folder; empty: task and edit
    seed: int = 0
    gamma: float = 1.0  # degree of change: 0 the original model, 1 the fine-tuned one
    degrees: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5])  # of the strip of degrees; [] for none
    variants: int = 1  # of every image, where sampling is stochastic
    input: str | None = None  # an image or a folder of images: to edit, to translate, or to fine-tune on and edit
    output: str = "outputs"  # where run folders are made
    resume: bool = False  # go on with the newest unfinished run of the same configuration
    offline: bool = False  # never reach out, not even for weights
    plugins: Any = None  # modules of your own, by name, that add options, metrics, solvers ...: a name or a list (docs/extend.md)
    plan: bool = False  # only say what the run would fetch, take and need
    sweep: str = ""  # the study or sweep that a run belongs to
    note: str = ""

    def __post_init__(self) -> None:
        need(math.isfinite(self.gamma) and 0 <= self.gamma <= 3, f"gamma={self.gamma} is out of range; choose 0 (original) to 3")
        for gamma in self.degrees:
            need(math.isfinite(gamma) and 0 <= gamma <= 3, f"degrees={self.degrees}: {gamma} is out of range; choose 0 to 3")
        need(len(self.degrees) <= 16, f"degrees has {len(self.degrees)} entries; a strip holds at most 16")
        need(self.variants >= 1, f"variants={self.variants} must be 1 or more")
        need(self.seed >= 0, f"seed={self.seed} must be 0 or greater")


STORE.store(name="schema", node=Config, provider="dclip")


def plain(config: DictConfig | Config) -> dict[str, Any]:
    """The configuration as plain dicts, lists, numbers and strings."""
    node = config if isinstance(config, DictConfig) else OmegaConf.structured(config)
    result = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    assert isinstance(result, dict)
    return {str(k): v for k, v in result.items()}


def planned(cfg: Config) -> Config:
    """With ``task=plan``, the configuration of the run that is planned; any other as it is."""
    return replace(cfg, task=Task(name=cfg.task.of), plan=True) if isinstance(cfg.task, PlanTask) else cfg
