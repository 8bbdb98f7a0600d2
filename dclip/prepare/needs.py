"""What a configured run needs that is not in the package: which networks, where their files are, and what to do without them.

Imports nothing heavy: with something missing and no way to fetch it, one message answers within seconds.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dclip.config import Config, DemoTask, TaskName, option_name, planned
from dclip.data.domains import domain_of
from dclip.data.missing import missing_data
from dclip.errors import DclipError
from dclip.models import fetch, registry
from dclip.models.needed import networks
from dclip.models.registry import KnownWeights

log = logging.getLogger("dclip")


@dataclass(frozen=True)
class Need:
    """Published weights that a run uses.

    Attributes:
        why: what they are for, with the setting that asks for them.
        path: the file or folder, None if it is not here.
        without: settings that make the run do without them; empty where nothing does.
        optional: the run goes on without them, and says what is absent.
    """

    entry: KnownWeights
    why: str
    path: Path | None
    without: str = ""
    optional: bool = False

    @property
    def name(self) -> str:
        """The registry's name."""
        return self.entry.name

    @property
    def megabytes(self) -> float:
        """Size of all its files."""
        return self.entry.megabytes

    @property
    def licence(self) -> str:
        """A note, not legal advice."""
        return self.entry.licence

    @property
    def put(self) -> tuple[Path, ...]:
        """Where the files would be found."""
        root = self.entry.place(Path("pretrained"))
        return tuple(root / f.name for f in self.entry.files if not f.optional)

    @property
    def sources(self) -> tuple[str, ...]:
        """Every address of every file that is needed, in order."""
        return tuple(
            s.url for f in self.entry.files if not f.optional for s in fetch.sources(self.entry, f)
        )


class MissingFilesError(DclipError):
    """Files that a run needs are not here; the message lists all of them."""


def check_networks(cfg: Config) -> None:
    """Refuse names that are neither files nor known, and pictures that a known model cannot take. DclipError naming the setting."""
    names = networks(cfg)
    for setting, name, kind in (
        ("checkpoint.name", names.model, "ddpm"),
        ("clip.name", names.clip, "clip"),
        ("clip.heldout", names.heldout, "clip"),
        *(("guidance.clips", name, "clip") for name in names.guides),
    ):
        if name is not None:
            _check_name(setting, name, kind)
    entry = registry.find(names.model) if names.model else None
    size = domain_of(cfg.dataset).size
    pictures = cfg.input is None and cfg.task.name is not TaskName.sample
    if entry is not None and pictures and size not in (None, entry.image_size):
        raise DclipError(
            f"dataset={option_name('dataset', cfg.dataset)} draws {size}x{size} pictures, but checkpoint.name={names.model} "
            f"takes {entry.image_size}x{entry.image_size}; choose other images, such as dataset=folder dataset.root=..."
        )


def _check_name(setting: str, name: str, kind: str) -> None:
    entry = registry.find(name, kind)
    if entry is None:
        if name and Path(name).expanduser().exists():
            return
        choices = ", ".join(known.name for known in registry.TABLE.values() if known.kind == kind)
        raise DclipError(f"{setting}={name} is neither a file nor a known name; known: {choices}")
    if entry.kind != kind:
        raise DclipError(
            f"{setting}={name} is a network of kind {entry.kind!r}; "
            f"here one of kind {kind!r} is needed"
        )


# ---------------------------------------------------------------------------------------------------- needs


def needed(cfg: Config) -> list[Need]:
    """Everything published that a run uses, present or not; the package's own networks and plain paths are not listed."""
    names, tuning = networks(cfg), planned(cfg).task.name is TaskName.finetune
    off = {
        "clip": "" if tuning and cfg.loss.clip > 0 else "metric.clip=false",
        "heldout": "clip.heldout=null",
        "identity": " ".join(
            ["metric.identity=false"] * cfg.metric.identity
            + ["loss.id=0"] * (tuning and cfg.loss.id > 0)
        ),
        "parser": "metric.parser=none",
    }
    why = {
        "model": f"the diffusion model (checkpoint.name={names.model})",
        "clip": f"the CLIP that guides (clip.name={names.clip})",
        "heldout": f"the CLIP that only scores (clip.heldout={names.heldout})",
        "identity": "identity of faces (loss.id, metric.identity)",
        "parser": "parts of the image, for SC (metric.parser)",
    }
    found: dict[str, Need] = {}
    asked = [(role, getattr(names, role), reason) for role, reason in why.items()]
    asked += [
        ("guides", name, f"a CLIP that guides (guidance.clips has {name})") for name in names.guides
    ]
    for role, name, reason in asked:
        entry = registry.find(name) if name else None
        if entry is not None and not entry.shipped and entry.name not in found:
            found[entry.name] = Need(entry, reason, registry.located(entry), off.get(role, ""))
    if cfg.metric.lpips and names.model and planned(cfg).task.name is not TaskName.sample:
        entry = registry.get("lpips_alexnet")
        found[entry.name] = Need(
            entry,
            "LPIPS (metric.lpips)",
            registry.located(entry),
            "metric.lpips=false",
            optional=True,
        )
    return list(found.values())


def absent(cfgs: Sequence[Config]) -> tuple[list[Need], list[str]]:
    """What these runs cannot do without and is not here: weights, and one line for each missing data set."""
    weights: dict[str, Need] = {}
    data: dict[str, None] = {}
    for cfg in cfgs:
        for need in needed(cfg):
            if need.path is None and not need.optional:
                weights[need.name] = need
        data |= dict.fromkeys(missing_data(cfg))
    return list(weights.values()), list(data)


def obtain(cfgs: Sequence[Config]) -> None:
    """Fetch what these runs need and is not here. MissingFilesError, within seconds, if that cannot be done.

    Optional files are left alone: a run that can do without a download does so.
    """
    for cfg in cfgs:
        if isinstance(cfg.task, DemoTask) and not cfg.plan:
            check_page(cfg.task)
    wanted, data = absent(cfgs)
    if not wanted and not data:
        return
    reason = fetch.offline_reason(any(cfg.offline for cfg in cfgs))
    silent: Mapping[str, str] = {}
    if reason is None and wanted and not data:  # nothing is fetched for a run that cannot start
        silent = fetch.silent_hosts(url for need in wanted for url in need.sources)
        reason = _unreachable(wanted, silent)
        if reason is None:
            reason = _fetch_all(wanted, silent, all(cfg.trainer.progress for cfg in cfgs))
            wanted = [need for need in wanted if registry.located(need.entry) is None]
    if (wanted and reason) or data:
        raise MissingFilesError(message(wanted, data, reason))


def check_page(task: DemoTask) -> None:
    """Refuse a page that cannot be opened. DclipError where Gradio is missing, or the port is in use."""
    if find_spec("gradio") is None:
        raise DclipError(
            "task=demo needs Gradio, which is not installed: pip install 'dclip[demo]', or in a checkout make install"
        )
    try:
        with socket.socket() as probe:
            probe.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as the server does: a port just left is free
            probe.bind((task.host, task.port))
    except OSError as error:
        raise DclipError(
            f"task.host={task.host} task.port={task.port} cannot be used ({error.strerror}); choose another port, "
            "or task.port=0 for any free one"
        ) from error


def _unreachable(needs: Sequence[Need], silent: Mapping[str, str]) -> str | None:
    """Why some file has no source that answers; None if every file has one."""
    for need in needs:
        for file in need.entry.files:
            hosts = [fetch.host(s.url) for s in fetch.sources(need.entry, file)]
            if not file.optional and all(name in silent for name in hosts):
                said = "; ".join(f"{name}: {silent[name]}" for name in dict.fromkeys(hosts))
                return f"no server has {file.name} ({said})"
    return None


def _fetch_all(needs: Sequence[Need], silent: Mapping[str, str], progress: bool) -> str | None:
    total = sum(need.megabytes for need in needs)
    log.info("fetching %d weights, %s MB, into %s", len(needs), f"{total:,.0f}", registry.home())
    for need in needs:
        log.info("%s: %s MB, licence: %s", need.name, f"{need.megabytes:,.0f}", need.licence)
        try:
            fetch.fetch(need.entry, progress=progress, skip=silent)
        except DclipError as error:
            return str(error)
    return None


# ---------------------------------------------------------------------------------------------------- the message


def message(needs: Sequence[Need], data: Sequence[str], reason: str | None) -> str:
    """One text with every missing file, its sources, its size, its place, and how to run without it."""
    count = len(needs) + len(data)
    why = (
        f"; they were not fetched: {reason}"
        if reason
        else "; the weights will be fetched once the data is there"
        if needs
        else ""
    )
    lines = [
        f"this run needs {count} thing{'s' if count > 1 else ''} that {'are' if count > 1 else 'is'} not here{why}"
    ]
    lines += [f"\n  data: {line}" for line in data]
    lines += [line for need in needs for line in _described(need)]
    if needs:
        lines += [
            f"\n  every file may also lie in {' or '.join(map(str, _other_places()))}",
            f"  with a network: dclip weights fetch {' '.join(need.name for need in needs)}",
        ]
    return "\n".join([*lines, *_at_hand(needs)])


def _other_places() -> list[Path | str]:
    own, *_, cache = registry.folders()
    return [own if own != Path("pretrained") else "the folder that $DCLIP_WEIGHTS names", cache]


def _described(need: Need) -> list[str]:
    lines = [f"\n  {need.name}: {need.why}; {need.megabytes:,.0f} MB; {need.licence}"]
    for file in (f for f in need.entry.files if not f.optional):
        lines.append(f"    put   {need.entry.place(Path('pretrained')) / file.name}")
        for i, source in enumerate(fetch.sources(need.entry, file)):
            note = (
                f"  ({source.note})"
                if source.note
                else f"  (as {source.name})"
                if source.name not in ("", file.name)
                else ""
            )
            lines.append(f"    {'from' if i == 0 else '  or'}  {source.url}{note}")
    return lines


def _at_hand(needs: Sequence[Need]) -> list[str]:
    settings = " ".join(need.without for need in needs if need.without)
    always = [need.name for need in needs if not need.without]
    lines = ["\n  to run with what is at hand:"]
    if settings:
        lines.append(
            f"    {settings}" + (f"   (still needed: {', '.join(always)})" if always else "")
        )
    return [
        *lines,
        "    experiment=toonfaces_red_hair   (or any settings with dataset=toonfaces checkpoint=toonfaces clip=toonfaces)",
    ]
