"""Every published weight file that dclip knows: its sources, its size and hash, what network it holds, under what licence.

One table, ``TABLE``; a name in it works wherever a path does (``checkpoint.name=celeba_hq``, ``dclip.load_model("celeba_hq")``).
Imports nothing heavy. What no public document says (a size, a hash) is None here, never a guess.

Files are looked for in ``$DCLIP_WEIGHTS`` (if set), in ``pretrained/`` of the working folder, then in ``weights/`` of the
cache folder. An entry of several files has a folder of its own in there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dclip.errors import DclipError
from dclip.files import cache_dir

# what the package ships: name -> kind of network
SHIPPED = {
    "toonfaces": "ddpm",
    "toonfaces_clip": "clip",
    "toonfaces_heldout": "clip",
    "toonfaces_identity": "identity",
    "toonfaces_judge": "judge",
}


GONE = "answered 403 since April 2023"


@dataclass(frozen=True)
class Source:
    """Where a file can be had, and what is known of the copy there. ``name`` is its local name, if not the file's own."""

    url: str
    size: int | None = None  # bytes
    sha256: str | None = None
    md5: str | None = None
    note: str = ""
    name: str = ""

    @property
    def checkable(self) -> bool:
        """Whether a copy can be told from another."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True)
class File:
    """One file: its local name, its sources in the order in which they are tried."""

    name: str
    sources: tuple[Source, ...]
    optional: bool = False  # useful where it exists, not missed where it does not

    @property
    def names(self) -> tuple[str, ...]:
        """The local names under which it may lie."""
        return tuple(dict.fromkeys((self.name, *(s.name for s in self.sources if s.name))))

    def inside(self, folder: Path) -> Path | None:
        """The file in a folder, or None."""
        return next((folder / name for name in self.names if (folder / name).is_file()), None)


@dataclass(frozen=True)
class Weights:
    """A network that can be fetched.

    Attributes:
        kind: ``ddpm``, ``clip``, ``identity``, ``parser`` or ``features``.
        format: of the state dict (see ``dclip.models.convert``, ``parser``, ``identity``), or open_clip's name of the network.
        megabytes: of all files together; counted from the parameters where no exact size is known.
        domain: what the images of a diffusion model show: faces, dogs, scenes or objects.
        gflop: of one forward pass of one image; ``kept_mb``: what autograd keeps of it (``benchmarks/plan_constants.py``).
        folder: of an entry with several files; ``~torch`` is torch's own download folder.
    """

    name: str
    kind: str
    files: tuple[File, ...]
    format: str
    megabytes: float
    licence: str
    documented: str
    domain: str | None = None
    variance: str | None = None
    image_size: int | None = None
    parameters: int | None = None
    gflop: float | None = None
    kept_mb: float | None = None
    folder: str = ""
    aliases: tuple[str, ...] = ()

    def place(self, root: Path) -> Path:
        """The folder below a search folder in which its files lie."""
        return torch_folder() if self.folder == "~torch" else root / self.folder

    def relative(self, name: str) -> str:
        """A file's path below a search folder, as it is shown and as a mirror has it."""
        return name if self.folder in ("", "~torch") else f"{self.folder}/{name}"

    def missing_in(self, root: Path) -> tuple[File, ...]:
        """The files that a search folder lacks."""
        return tuple(f for f in self.files if not f.optional and f.inside(self.place(root)) is None)


def _drive(identifier: str) -> str:
    return (
        f"https://drive.usercontent.google.com/download?id={identifier}&export=download&confirm=t"
    )


def _heibox(code: str, md5: str) -> Source:
    return Source(f"https://heibox.uni-heidelberg.de/f/{code}/?dl=1", md5=md5)


def _sdedit(name: str, size: int | None = None) -> Source:
    return Source(
        f"https://image-editing-test-12345.s3-us-west-2.amazonaws.com/checkpoints/{name}",
        size=size,
        note=GONE,
    )


_HO = "weights of Ho et al. 2020; code MIT; no licence is stated for the weights"


_PESSER = "github.com/pesser/pytorch_diffusion"


_DDPM_256 = {
    "image_size": 256,
    "parameters": 113_673_219,
    "gflop": 497.0,
    "kept_mb": 2107.5,
    "variance": "fixed_small",
}


_DDPM_32 = {
    "image_size": 32,
    "parameters": 35_746_307,
    "gflop": 12.4,
    "kept_mb": 48.6,
    "variance": "fixed_large",
}


_ADM_256 = {
    "image_size": 256,
    "parameters": 93_563_910,
    "gflop": 387.9,
    "kept_mb": 1943.3,
    "variance": "learned_range",
}


def _ddim(
    name: str,
    file: File,
    megabytes: float,
    domain: str,
    documented: str,
    shape: dict[str, object],
    licence: str = _HO,
) -> Weights:
    return Weights(name, "ddpm", (file,), "ddim", megabytes, licence, documented, domain, **shape)  # type: ignore[arg-type]


def _adm(
    name: str,
    file: File,
    megabytes: float,
    domain: str,
    documented: str,
    licence: str,
    **shape: object,
) -> Weights:
    return Weights(name, "ddpm", (file,), "adm", megabytes, licence, documented, domain, **shape)  # type: ignore[arg-type]


def _diffusers(
    name: str, repository: str, megabytes: float, domain: str, shape: dict[str, object]
) -> Weights:
    """A model repository of the Hugging Face hub that ``UNet2DModel`` wrote."""
    base = f"https://huggingface.co/{repository}/resolve/main"
    weights = File(
        "diffusion_pytorch_model.safetensors",
        (
            Source(f"{base}/diffusion_pytorch_model.safetensors"),
            Source(f"{base}/diffusion_pytorch_model.bin", name="diffusion_pytorch_model.bin"),
        ),
    )
    scheduler = File(
        "scheduler_config.json", (Source(f"{base}/scheduler_config.json"),), optional=True
    )
    files = (File("config.json", (Source(f"{base}/config.json"),)), weights, scheduler)
    return Weights(
        name, "ddpm", files, "diffusers", megabytes, "Apache-2.0", f"huggingface.co/{repository}", domain,
        folder=repository.split("/")[1], aliases=(repository,), **shape,  # type: ignore[arg-type]
    )  # fmt: skip


def _clip(
    name: str,
    local: str,
    arch: str,
    source: Source,
    megabytes: float,
    parameters: int,
    *aliases: str,
) -> Weights:
    repository = source.url.split("/resolve/")[0].removeprefix("https://")
    licence = (
        "MIT; trained on LAION-2B"
        if "laion" in name
        else "code MIT; for the weights see the model's page"
    )
    return Weights(
        name, "clip", (File(local, (source,)),), arch, megabytes, licence, repository, image_size=224, parameters=parameters,
        aliases=aliases,
    )  # fmt: skip


def _timm(repository: str, size: int | None = None, sha256: str | None = None) -> Source:
    return Source(
        f"https://huggingface.co/timm/{repository}/resolve/main/open_clip_model.safetensors",
        size,
        sha256,
    )


_BISENET = partial(
    Source,
    size=53_289_463,
    sha256="468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
)


_IR_SE50 = partial(
    Source,
    size=175_367_323,
    sha256="a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28",
    md5="ccee24aae1d36888fc42390ae39d1b36",
)


_CSAIL = "http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet50dilated-ppm_deepsup"


_ILVR = "github.com/jychoi118/ilvr_adm; reported missing in April 2025"


_ENTRIES = (
    _ddim(
        "celeba_hq",
        File(
            "celeba_hq.ckpt",
            (
                Source(
                    "https://huggingface.co/gwang-kim/DiffusionCLIP-CelebA_HQ/resolve/main/celeba_hq.ckpt"
                ),
                Source(_drive("1wSoA5fm_d6JBZk4RZ1SzWLMgev4WqH21")),
                _sdedit("celeba_hq.ckpt", 454_777_119),
            ),
        ),
        454.8,
        "faces",
        "github.com/ermongroup/SDEdit, github.com/gwang-kim/DiffusionCLIP",
        _DDPM_256,
        "SDEdit's file; code MIT; trained on CelebA-HQ, non-commercial research",
    ),
    _ddim(
        "lsun_bedroom",
        File(
            "bedroom.ckpt",
            (
                _heibox("b95206528f384185889b", "1921fa46b66a3665e450e42f36c2720f"),
                _sdedit("bedroom.ckpt"),
            ),
        ),
        454.8,
        "scenes",
        f"{_PESSER} (ema_lsun_bedroom)",
        _DDPM_256,
    ),
    _ddim(
        "lsun_church",
        File(
            "church_outdoor.ckpt",
            (
                _heibox("44ccb50ef3c6436db52e", "fdc68a23938c2397caba4a260bc2445f"),
                _sdedit("church_outdoor.ckpt"),
            ),
        ),
        454.8,
        "scenes",
        f"{_PESSER} (ema_lsun_church)",
        _DDPM_256,
    ),
    _ddim(
        "cifar10",
        File(
            "cifar10.ckpt", (_heibox("869980b53bf5416c8a28", "82ed3067fd1002f5cf4c339fb80c4669"),)
        ),
        143.0,
        "objects",
        f"{_PESSER} (cifar10: raw weights, FID 12.1)",
        _DDPM_32,
    ),
    _ddim(
        "cifar10_ema",
        File(
            "ema_cifar10.ckpt",
            (_heibox("2e4f01e2d9ee49bab1d5", "1fa350b952534ae442b1d5235cce5cd3"),),
        ),
        143.0,
        "objects",
        f"{_PESSER} (ema_cifar10: averaged weights, FID 3.2)",
        _DDPM_32,
    ),
    _adm(
        "afhq_dog",
        File("afhq_dog_4m.pt", (Source(_drive("14OG_o3aa8Hxmfu36IIRyOgRwEP6ngLdo")),)),
        374.3,
        "dogs",
        _ILVR,
        "ILVR's file; code MIT; trained on AFHQ, CC BY-NC 4.0",
        **_ADM_256,
    ),
    _adm(
        "ffhq",
        File("ffhq_10m.pt", (Source(_drive("117Y6Z6-Hg6TMZVIXMmgYbpZy7QvTXign")),)),
        374.3,
        "faces",
        "github.com/jychoi118/ilvr_adm",
        "ILVR's file; code MIT; trained on FFHQ, CC BY-NC-SA 4.0",
        **_ADM_256,
    ),
    _adm(
        "imagenet512",
        File(
            "512x512_diffusion.pt",
            (
                Source(
                    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/512x512_diffusion.pt"
                ),
            ),
        ),
        2236.0,
        "objects",
        "github.com/openai/guided-diffusion",
        "MIT; trained on ImageNet, non-commercial research",
        image_size=512,
        parameters=558_997_638,
        gflop=3964.6,
        kept_mb=14148.4,
        variance="learned_range",
    ),
    _diffusers("ddpm_celebahq_256", "google/ddpm-celebahq-256", 454.7, "faces", _DDPM_256),
    _diffusers("ddpm_church_256", "google/ddpm-church-256", 454.7, "scenes", _DDPM_256),
    _diffusers("ddpm_bedroom_256", "google/ddpm-bedroom-256", 454.7, "scenes", _DDPM_256),
    _diffusers("ddpm_cifar10_32", "google/ddpm-cifar10-32", 143.0, "objects", _DDPM_32),
    _clip(
        "openai_vit_b_16",
        "clip_vit_b16_openai.safetensors",
        "ViT-B-16-quickgelu",
        _timm(
            "vit_base_patch16_clip_224.openai",
            sha256="4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        ),
        598.5,
        149_620_737,
        "ViT-B/16",
        "ViT-B-16",
    ),
    _clip(
        "openai_vit_b_32",
        "clip_vit_b32_openai.safetensors",
        "ViT-B-32-quickgelu",
        _timm(
            "vit_base_patch32_clip_224.openai",
            605_143_284,
            "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        ),
        605.1,
        151_277_313,
        "ViT-B/32",
        "ViT-B-32",
    ),
    _clip(
        "openai_vit_l_14",
        "clip_vit_l14_openai.safetensors",
        "ViT-L-14-quickgelu",
        _timm("vit_large_patch14_clip_224.openai"),
        1710.5,
        427_616_513,
        "ViT-L/14",
        "ViT-L-14",
    ),
    _clip(
        "openai_rn50",
        "clip_rn50_openai.safetensors",
        "RN50-quickgelu",
        _timm(
            "resnet50_clip.openai",
            408_291_932,
            "da0baa37fb2211eee5729ab69ed587eb10d48f5b7076ceeed01552fc3d4cb4ee",
        ),
        408.3,
        102_007_137,
        "RN50",
    ),
    _clip(
        "laion_vit_b_32",
        "clip_vit_b32_laion2b.safetensors",
        "ViT-B-32",
        Source(
            "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K/resolve/main/open_clip_model.safetensors",
            605_143_316,
            "ac4f8c4b88af6d963118cbf40ad93176d092abbedfcb752601ae1866352656e6",
        ),
        605.1,
        151_277_313,
    ),
    Weights(
        "arcface",
        "identity",
        (
            File(
                "model_ir_se50.pth",
                (
                    _IR_SE50(
                        "https://github.com/xinntao/facexlib/releases/download/v0.1.0/recognition_arcface_ir_se50.pth"
                    ),
                    _IR_SE50(_drive("1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn")),
                ),
            ),
        ),
        "ir_se",
        175.4,
        "code MIT; trained on MS1M-derived faces, research only",
        "github.com/TreB1eN/InsightFace_Pytorch",
        image_size=112,
        parameters=43_797_696,
    ),
    Weights(
        "bisenet",
        "parser",
        (
            File(
                "79999_iter.pth",
                (
                    _BISENET(
                        "https://huggingface.co/vivym/face-parsing-bisenet/resolve/main/79999_iter.pth"
                    ),
                    _BISENET(
                        "https://huggingface.co/ManyOtherFunctions/face-parse-bisent/resolve/main/79999_iter.pth"
                    ),
                    _BISENET(_drive("154JgKpzCPW82qINcVieuPH3fZ2e0P812")),
                ),
            ),
        ),
        "bisenet",
        53.3,
        "code MIT; trained on CelebAMask-HQ, non-commercial",
        "github.com/zllrunning/face-parsing.PyTorch",
        image_size=512,
        parameters=13_300_416,
    ),
    Weights(
        "ade20k",
        "parser",
        (
            File("encoder_epoch_20.pth", (Source(f"{_CSAIL}/encoder_epoch_20.pth"),)),
            File("decoder_epoch_20.pth", (Source(f"{_CSAIL}/decoder_epoch_20.pth"),)),
        ),
        "ade20k",
        206.6,
        "code BSD-3; trained on ADE20K, whose images are for research",
        "github.com/CSAILVision/semantic-segmentation-pytorch",
        image_size=512,
        parameters=51_579_116,
        folder="ade20k-resnet50dilated-ppm_deepsup",
    ),
    Weights(
        "lpips_alexnet",
        "features",
        (
            File(
                "alexnet-owt-7be5be79.pth",
                (Source("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),),
            ),
        ),
        "torchvision",
        244.4,
        "BSD-3 (torchvision); trained on ImageNet",
        "pytorch.org/vision (AlexNet_Weights.IMAGENET1K_V1)",
        parameters=61_100_840,
        folder="~torch",
    ),
)


TABLE: dict[str, Weights] = {entry.name: entry for entry in _ENTRIES}


# ---------------------------------------------------------------------------------------------------- find


def find(name: str) -> Weights | None:
    """The entry of a name, or of another of its names (``google/ddpm-celebahq-256``, ``ViT-B/16``) that is no local path."""
    if name in TABLE:
        return TABLE[name]
    other = next((entry for entry in TABLE.values() if name in entry.aliases), None)
    return None if other is not None and Path(name).exists() else other


def entry_of(name: str) -> Weights | None:
    """The entry of a name, or of a path whose last part is called as a published file or folder is."""
    last = Path(name).name
    known = (
        e
        for e in TABLE.values()
        if last == e.folder or (not e.folder and any(last in f.names for f in e.files))
    )
    return find(name) or next(known, None)


def get(name: str) -> Weights:
    """The entry of a name. DclipError with the choices."""
    entry = find(name)
    if entry is None:
        raise DclipError(f"no weights are called {name!r}; known: {', '.join(TABLE)}")
    return entry


def torch_folder() -> Path:
    """Where torch keeps what it downloads."""
    return (
        Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")) / "hub" / "checkpoints"
    )


def folders() -> tuple[Path, ...]:
    """Where weights are looked for, in this order."""
    own = os.environ.get("DCLIP_WEIGHTS")
    return (
        *((Path(own).expanduser(),) if own else ()),
        Path("pretrained"),
        cache_dir() / "weights",
    )


def home() -> Path:
    """Where fetched weights are put: ``$DCLIP_WEIGHTS``, or the cache folder."""
    return folders()[0] if os.environ.get("DCLIP_WEIGHTS") else folders()[-1]


def located(entry: Weights) -> Path | None:
    """The file, or the folder of an entry with several files; None if no search folder has all of it."""
    root = next((root for root in folders() if not entry.missing_in(root)), None)
    if root is None:
        return None
    return entry.place(root) if len(entry.files) > 1 else entry.files[0].inside(entry.place(root))


def paths(entry: Weights) -> Iterator[tuple[File, Path]]:
    """The files of an entry that is there."""
    found = located(entry)
    folder = None if found is None else found if found.is_dir() else found.parent
    for file in entry.files:
        path = file.inside(folder) if folder else None
        if path is not None:
            yield file, path


# ---------------------------------------------------------------------------------------------------- check


def digest(path: Path, name: str) -> str:
    """Hash of a file; ``name`` is ``sha256`` or ``md5``."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()


def differs(path: Path, source: Source) -> str | None:
    """How a file differs from what is known of a source's copy; None if it does not, as far as anybody knows."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, not {source.size:,}"
    for name in ("sha256", "md5"):
        known = getattr(source, name)
        if known is not None:
            return (
                None
                if (mine := digest(path, name)) == known
                else f"its {name} is {mine[:12]}..., not {known[:12]}..."
            )
    return None


def verdict(path: Path, file: File, name: str = "") -> tuple[bool, str]:
    """(fine, why): whether a local file is the published one, as far as its size and hash are known.

    Where any source's hash is known, the file must have one of them. ``name`` is the published name where the path has another.
    """
    mine = [s for s in file.sources if (s.name or file.name) == (name or path.name)]
    hashed = [s for s in mine if s.checkable]
    wrong = [differs(path, source) for source in hashed or mine]
    if None not in wrong:
        return False, wrong[0] or ""
    if not hashed:
        return True, "no hash is published"
    return True, "sha256 as published" if hashed[wrong.index(None)].sha256 else "md5 as published"
