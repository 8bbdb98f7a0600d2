"""Every weight file that dclip knows: its sources, size and hash, the network in it, its licence.

``weights.yaml`` beside this file is the table, ``TABLE`` what is read from it. A name in it works
wherever a path does (``checkpoint.name=celeba_hq``, ``dclip.load_model("celeba_hq")``). Imports
nothing heavy.

Files are looked for in ``$DCLIP_WEIGHTS`` (if set), in ``pretrained/`` of the working folder, then
in ``weights/`` of the cache folder. An entry of several files has a folder of its own in there.
What is shipped lies in the package.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from dclip.errors import DclipError
from dclip.files import cache_dir

PACKAGE = "~package"
TORCH = "~torch"


@dataclass(frozen=True)
class Source:
    """Where a file can be had, and what is known of the copy there.

    ``sha256`` may be the digest's beginning: torch's hub writes eight digits into a file's name.
    ``name`` is the copy's local name, if it differs from the file's.
    """

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
        renamed = [source.name for source in self.sources if source.name]
        return tuple(dict.fromkeys([self.name, *renamed]))

    def inside(self, folder: Path) -> Path | None:
        """The file in a folder, or None."""
        for name in self.names:
            if (folder / name).is_file():
                return folder / name
        return None


@dataclass(frozen=True)
class KnownWeights:
    """A network that is shipped, or that can be fetched.

    Attributes:
        kind: ``ddpm``, ``clip``, ``identity``, ``parser``, ``judge`` or ``features``.
        format: of the state dict: ``dclip`` (ours), what ``dclip.models.convert``, ``parser`` and
            ``identity`` read, or open_clip's name of the network.
        megabytes: of all files together; counted from the parameters where no size is published.
        domain: what the images of a diffusion model show: faces, dogs, scenes or objects.
        gflop: of one forward pass of one image.
        kept_mb: what autograd keeps of that pass (``benchmarks/plan_constants.py``).
        folder: of an entry with several files; ``~torch`` is torch's own download folder,
            ``~package`` the package's.
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

    @property
    def shipped(self) -> bool:
        """Whether it is part of the package, and nothing to fetch."""
        return self.folder == PACKAGE

    @property
    def required(self) -> tuple[File, ...]:
        """The files without which it cannot be used."""
        return tuple(file for file in self.files if not file.optional)

    def place(self, root: Path) -> Path:
        """The folder in which its files lie, for one of the search folders."""
        if self.folder == PACKAGE:
            return package_folder()
        if self.folder == TORCH:
            return torch_folder()
        return root / self.folder

    def relative(self, name: str) -> str:
        """A file's path below a search folder, as it is shown and as a mirror has it."""
        if self.folder in ("", TORCH, PACKAGE):
            return name
        return f"{self.folder}/{name}"

    def missing_in(self, root: Path) -> tuple[File, ...]:
        """The files that a search folder lacks."""
        folder = self.place(root)
        return tuple(file for file in self.required if file.inside(folder) is None)


# ------------------------------------------------------------ the table


def _file(facts: Mapping[str, Any]) -> File:
    sources = tuple(Source(**source) for source in facts.get("sources", ()))
    return File(facts["name"], sources, facts.get("optional", False))


def _entry(name: str, facts: dict[str, Any]) -> KnownWeights:
    files = tuple(_file(file) for file in facts.pop("files"))
    aliases = tuple(facts.pop("aliases", ()))
    return KnownWeights(name=name, files=files, aliases=aliases, **facts)


def read_table(text: str) -> dict[str, KnownWeights]:
    """The entries of a table such as ``weights.yaml``, by name."""
    # libyaml is ten times as fast; a few builds of PyYAML lack it
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    table = yaml.load(text, Loader=loader)["weights"]
    return {name: _entry(name, facts) for name, facts in table.items()}


TABLE = read_table((resources.files("dclip.models") / "weights.yaml").read_text("utf-8"))


def find(name: str, kind: str | None = None) -> KnownWeights | None:
    """The entry of a name, or of an alias (``google/ddpm-celebahq-256``) that is no local path.

    Networks of different kinds may share a name (``toonfaces``): ``kind`` decides. Without one of
    that kind, the caller gets the other, to refuse it.
    """
    if name not in TABLE and Path(name).exists():
        return None
    named = [entry for entry in TABLE.values() if name in (entry.name, *entry.aliases)]
    for entry in named:
        if kind in (None, entry.kind):
            return entry
    return named[0] if named else None


def entry_of(name: str) -> KnownWeights | None:
    """The entry of a name, or of a path that ends like a published file or folder."""
    entry = find(name)
    if entry is not None:
        return entry
    last = Path(name).name
    for entry in TABLE.values():
        alone = not entry.folder and any(last in file.names for file in entry.files)
        if alone or last == entry.folder:
            return entry
    return None


def get(name: str) -> KnownWeights:
    """The entry of a name. DclipError with the choices."""
    entry = find(name)
    if entry is None:
        raise DclipError(f"no weights are called {name!r}; known: {', '.join(TABLE)}")
    return entry


# ------------------------------------------------------------ the files


def package_folder() -> Path:
    """The package's folder of weights."""
    return Path(str(resources.files("dclip"))) / "weights"


def torch_folder() -> Path:
    """Where torch keeps what it downloads."""
    home = os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch")
    return Path(home) / "hub" / "checkpoints"


def folders() -> tuple[Path, ...]:
    """Where weights are looked for, in this order."""
    own = os.environ.get("DCLIP_WEIGHTS")
    common = (Path("pretrained"), cache_dir() / "weights")
    if not own:
        return common
    return (Path(own).expanduser(), *common)


def home() -> Path:
    """Where fetched weights are put: ``$DCLIP_WEIGHTS``, or the cache folder."""
    if os.environ.get("DCLIP_WEIGHTS"):
        return folders()[0]
    return folders()[-1]


def _folder_of(entry: KnownWeights) -> Path | None:
    """The first folder that has all of an entry."""
    for root in folders():
        if not entry.missing_in(root):
            return entry.place(root)
    return None


def located(entry: KnownWeights) -> Path | None:
    """The file, or the folder of an entry with several; None if no search folder has all of it."""
    folder = _folder_of(entry)
    if folder is None or len(entry.files) > 1:
        return folder
    return entry.files[0].inside(folder)


def paths(entry: KnownWeights) -> Iterator[tuple[File, Path]]:
    """The files of an entry that is there."""
    folder = _folder_of(entry)
    if folder is None:
        return
    for file in entry.files:
        path = file.inside(folder)
        if path is not None:
            yield file, path


# ------------------------------------------------------------ check


def digest(path: Path, name: str) -> str:
    """Hash of a file; ``name`` is ``sha256`` or ``md5``."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()


def differs(path: Path, source: Source) -> str | None:
    """How a file differs from what is known of a source's copy; None if nothing known differs."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, not {source.size:,}"
    for name, published in (("sha256", source.sha256), ("md5", source.md5)):
        if published is None:
            continue
        own = digest(path, name)
        if own.startswith(published):
            return None
        return f"its {name} is {own[:12]}..., not {published[:12]}..."
    return None


def verdict(path: Path, file: File, name: str = "") -> tuple[bool, str]:
    """(fine, why): whether a local file is the published one, as far as size and hash are known.

    Where the hash of any source is known, the file must have one of them. ``name`` is the published
    name where the path has another.
    """
    if not file.sources:
        return True, "part of the package"
    called = name or path.name
    copies = [source for source in file.sources if (source.name or file.name) == called]
    hashed = [source for source in copies if source.checkable]
    first_difference = ""
    for source in hashed or copies:
        difference = differs(path, source)
        if difference is None:
            return True, _passed(source)
        first_difference = first_difference or difference
    return False, first_difference


def _passed(source: Source) -> str:
    if source.sha256 and len(source.sha256) < 64:
        return "sha256 begins as published"
    if source.sha256:
        return "sha256 as published"
    if source.md5:
        return "md5 as published"
    return "no hash is published"
