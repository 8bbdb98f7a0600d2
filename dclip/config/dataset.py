"""Where images come from: the options of ``dataset=``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from omegaconf import MISSING

from dclip.config.options import _positive, _weights, option
from dclip.data.imagenet import wnid
from dclip.errors import need

# ---------------------------------------------------------------------------------------------------- data and models


@dataclass
class Dataset:
    """How many images each part of a run sees. ``align`` turns and crops photographs (also ``input``) around the face."""

    shows: ClassVar[str] = (
        ""  # the domain of its pictures (dclip/data/domains.py), where that is sure
    )
    train: int = 32
    validation: int = 8
    test: int = 32
    align: bool = False  # as FFHQ's faces were; needs faces in the pictures
    landmarks: str | None = (
        None  # CSV or JSON with eyes and mouth of every picture; without it a detector looks for them
    )

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

    shows = "toonfaces"
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
    ids: str | None = (
        None  # a file that lists images: one name, relative path or number a line, under [test], [train] if split
    )
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
        need(
            self.category in ("dog", "cat", "wild"),
            f"dataset.category={self.category} is not in AFHQ; choose dog, cat or wild",
        )


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
        need(
            known,
            f"dataset.category={self.category} is not in CIFAR-10; choose {', '.join(CIFAR10)}",
        )
