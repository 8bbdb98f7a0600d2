"""What a run needs that is not in the package: where its files are, and what to do without them.

Imports nothing heavy: with something missing and no way to fetch it, one message answers within seconds.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dclip.config import Config, DemoTask, SampleTask, option_name, planned
from dclip.data.domains import domain_of
from dclip.data.missing import missing_data
from dclip.errors import DclipError, need
from dclip.models import fetch, registry
from dclip.models.registry import KnownWeights
from dclip.prepare.networks import networks

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
    """Refuse names that are neither files nor known, and pictures that a known model cannot take.

    Raises:
        DclipError: names the setting.
    """
    names = networks(cfg)
    _check_name("checkpoint.name", names.model, "ddpm")
    _check_name("clip.name", names.clip, "clip")
    _check_name("clip.heldout", names.heldout, "clip")
    for name in names.guides:
        _check_name("guidance.clips", name, "clip")
    entry = registry.find(names.model) if names.model else None
    size = domain_of(cfg.dataset).size
    if entry is None or size is None or cfg.input is not None or isinstance(cfg.task, SampleTask):
        return
    dataset, taken = option_name("dataset", cfg.dataset), f"{entry.image_size}x{entry.image_size}"
    need(
        entry.image_size == size,
        f"dataset={dataset} draws {size}x{size} pictures, but checkpoint.name={names.model} takes "
        f"{taken}; choose other images, such as dataset=folder dataset.root=...",
    )


def _check_name(setting: str, name: str | None, kind: str) -> None:
    if name is None:
        return
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


# ------------------------------------------------------------------------------------------ needs


def needed(cfg: Config) -> list[Need]:
    """Everything published that a run uses, present or not.

    The package's own networks and plain paths are not listed.
    """
    names, task = networks(cfg), planned(cfg).task
    needs: dict[str, Need] = {}

    def add(name: str | None, why: str, without: str, optional: bool = False) -> None:
        entry = registry.find(name) if name else None
        if entry is not None and not entry.shipped and entry.name not in needs:
            located = registry.located(entry)
            needs[entry.name] = Need(entry, why, located, without, optional)

    add(names.model, f"the diffusion model (checkpoint.name={names.model})", "")
    add(names.clip, f"the CLIP that guides (clip.name={names.clip})", _without_clip(cfg))
    heldout = f"the CLIP that only scores (clip.heldout={names.heldout})"
    add(names.heldout, heldout, "clip.heldout=null")
    identity = "identity of faces (loss.id, metric.identity)"
    add(names.identity, identity, _without_identity(cfg))
    add(names.parser, "parts of the image, for SC (metric.parser)", "metric.parser=none")
    for name in names.guides:
        add(name, f"a CLIP that guides (guidance.clips has {name})", "")
    if cfg.metric.lpips and names.model and not isinstance(task, SampleTask):
        add("lpips_alexnet", "LPIPS (metric.lpips)", "metric.lpips=false", optional=True)
    return list(needs.values())


def _without_clip(cfg: Config) -> str:
    """The setting with which a run does without a CLIP; empty where nothing does."""
    learned = planned(cfg).task.learns and cfg.loss.clip > 0
    return "" if learned else "metric.clip=false"


def _without_identity(cfg: Config) -> str:
    settings = []
    if cfg.metric.identity:
        settings.append("metric.identity=false")
    if planned(cfg).task.learns and cfg.loss.id > 0:
        settings.append("loss.id=0")
    return " ".join(settings)


def absent(cfgs: Sequence[Config]) -> tuple[list[Need], list[str]]:
    """What these runs cannot do without and is not here: weights, and one line for each missing data set."""
    weights: dict[str, Need] = {}
    data: dict[str, None] = {}
    for cfg in cfgs:
        for one in needed(cfg):
            if one.path is None and not one.optional:
                weights[one.name] = one
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
    for one in needs:
        for file in one.entry.files:
            hosts = [fetch.host(s.url) for s in fetch.sources(one.entry, file)]
            if not file.optional and all(name in silent for name in hosts):
                said = "; ".join(f"{name}: {silent[name]}" for name in dict.fromkeys(hosts))
                return f"no server has {file.name} ({said})"
    return None


def _fetch_all(needs: Sequence[Need], silent: Mapping[str, str], progress: bool) -> str | None:
    total = sum(need.megabytes for need in needs)
    log.info("fetching %d weights, %s MB, into %s", len(needs), f"{total:,.0f}", registry.home())
    for one in needs:
        log.info("%s: %s MB, licence: %s", one.name, f"{one.megabytes:,.0f}", one.licence)
        try:
            fetch.fetch(one.entry, progress=progress, skip=silent)
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
