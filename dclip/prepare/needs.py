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

from dclip.config import Config, DemoTask, Net, PretrainTask, SampleTask, option_name, planned
from dclip.config.metric import Features
from dclip.data.domains import domain_of
from dclip.data.missing import missing_data
from dclip.data.pictures import suffixes
from dclip.errors import DclipError, need
from dclip.models import fetch, registry
from dclip.models.header import read_header
from dclip.models.registry import KnownWeights, Source
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
    if isinstance(cfg.task, PretrainTask) and cfg.task.start is not None:
        _check_start(cfg.task.start, "clip" if cfg.task.net is Net.heldout else cfg.task.net.value)
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
            need(
                Path(name).suffix.lower() not in suffixes(),
                f"{setting}={name} is a picture, not weights (pictures to edit are input=)",
            )
            return
        choices = ", ".join(known.name for known in registry.TABLE.values() if known.kind == kind)
        need(
            bool(name), f"{setting} is not set; name a weights file ({setting}=FILE) or: {choices}"
        )
        raise DclipError(f"{setting}={name} is neither a file nor a known name; known: {choices}")
    if entry.kind != kind:
        raise DclipError(
            f"{setting}={name} is a network of kind {entry.kind!r}; "
            f"here one of kind {kind!r} is needed"
        )


def _check_start(name: str, kind: str) -> None:
    """DclipError unless ``task.start`` is weights of ours, of the kind that is trained."""
    _check_name("task.start", name, kind)
    entry = registry.find(name, kind)
    path = registry.located(entry) if entry is not None else None
    try:
        found = read_header(path or Path(name).expanduser()).get("kind")
    except DclipError as error:
        raise DclipError(f"task.start={error}") from error
    need(
        found == kind,
        f"task.start={name} holds a network of kind {found!r}; here one of kind {kind!r} is needed",
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
    measures = names.model is not None
    if cfg.metric.lpips and measures and (not isinstance(task, SampleTask) or task.from_images):
        add("lpips_alexnet", "LPIPS (metric.lpips)", "metric.lpips=false", optional=True)
    if cfg.metric.kid and measures and cfg.metric.features is Features.auto and not names.judge:
        add("inception", "KID (metric.kid)", "metric.kid=false", optional=True)
    return list(needs.values())


def _without_clip(cfg: Config) -> str:
    """The setting with which a run does without a CLIP; empty where nothing does."""
    learned = planned(cfg).task.learns and cfg.loss.needs_clip
    return "" if learned else "metric.clip=false"


def _without_identity(cfg: Config) -> str:
    settings = []
    if cfg.metric.identity:
        settings.append("metric.identity=false")
    if planned(cfg).task.learns and cfg.loss.id > 0:
        settings.append("loss.id=0")
    return " ".join(settings)


def absent(cfgs: Sequence[Config]) -> tuple[list[Need], list[str]]:
    """What these runs cannot do without and is not here: weights, and one line per data set."""
    weights: dict[str, Need] = {}
    data: dict[str, None] = {}
    for cfg in cfgs:
        for one in needed(cfg):
            if one.path is None and not one.optional:
                weights[one.name] = one
        data |= dict.fromkeys(missing_data(cfg))
    return list(weights.values()), list(data)


def obtain(cfgs: Sequence[Config]) -> None:
    """Fetch what these runs need and is not here.

    Optional files are left alone: a run that can do without a download does so.

    Raises:
        MissingFilesError: it cannot be fetched; said within seconds.
    """
    for cfg in cfgs:
        if isinstance(cfg.task, DemoTask) and not cfg.plan:
            check_page(cfg.task)
    weights, data = absent(cfgs)
    if not weights and not data:
        return
    reason = fetch.offline_reason(any(cfg.offline for cfg in cfgs))
    if reason is None and weights and not data:  # nothing is fetched for a run that cannot start
        reason = _fetch_all(weights, all(cfg.trainer.progress for cfg in cfgs))
        weights = [one for one in weights if registry.located(one.entry) is None]
    if (weights and reason) or data:
        raise MissingFilesError(message(weights, data, reason))


SHORTEST_PASSWORD = 8  # letters


def check_page(task: DemoTask) -> None:
    """Refuse a page that cannot be opened.

    Raises:
        DclipError: Gradio is missing, the port is in use, or others may come without a password.
    """
    need(
        task.is_local or bool(task.secret),
        f"task.host={task.host} lets other machines in; set a password, best as the variable "
        "DCLIP_PASSWORD (or task.password=...), or leave task.host out",
    )
    need(
        not task.secret or len(task.secret) >= SHORTEST_PASSWORD,
        f"the password of the page has {len(task.secret)} letters; choose one of "
        f"{SHORTEST_PASSWORD} or more (DCLIP_PASSWORD or task.password=)",
    )
    need(
        find_spec("gradio") is not None,
        "task=demo needs Gradio, which is not installed: pip install 'dclip[demo]', "
        "or in a checkout make install",
    )
    try:
        with socket.socket() as probe:
            # as the server does: a port just left is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((task.host, task.port))
    except OSError as error:
        raise DclipError(
            f"task.host={task.host} task.port={task.port} cannot be used ({error.strerror}); "
            "choose another port, or task.port=0 for any free one"
        ) from error


def _fetch_all(weights: Sequence[Need], progress: bool) -> str | None:
    """Fetch everything; why it failed, None if it did not."""
    silent = fetch.silent_hosts(url for one in weights for url in one.sources)
    reason = _unreachable(weights, silent)
    if reason is not None:
        return reason
    total = sum(one.megabytes for one in weights)
    log.info("fetching %d weights, %s MB, into %s", len(weights), f"{total:,.0f}", registry.home())
    for one in weights:
        log.info("%s: %s MB, licence: %s", one.name, f"{one.megabytes:,.0f}", one.licence)
        try:
            fetch.fetch(one.entry, progress=progress, skip=silent)
        except DclipError as error:
            return str(error)
    return None


def _unreachable(weights: Sequence[Need], silent: Mapping[str, str]) -> str | None:
    """Why some file has no source that answers; None if every file has one."""
    for one in weights:
        for file in one.entry.files:
            hosts = dict.fromkeys(fetch.host(s.url) for s in fetch.sources(one.entry, file))
            if not file.optional and hosts.keys() <= silent.keys():
                answers = "; ".join(f"{host}: {silent[host]}" for host in hosts)
                return f"no server has {file.name} ({answers})"
    return None


# ------------------------------------------------------------------------------------------ the message


def message(weights: Sequence[Need], data: Sequence[str], reason: str | None) -> str:
    """Every missing file with its sources, size and place, and how to run without it."""
    count = len(weights) + len(data)
    what = "1 thing that is" if count == 1 else f"{count} things that are"
    lines = [f"this run needs {what} not here{_why(weights, reason)}"]
    for line in data:
        lines.append(f"\n  data: {line}")
    for one in weights:
        lines += _described(one)
    if weights:
        places = " or ".join(map(str, _other_places()))
        lines.append(f"\n  every file may also lie in {places}")
        names = " ".join(one.name for one in weights)
        lines.append(f"  with a network: dclip weights fetch {names}")
    return "\n".join([*lines, *_at_hand(weights)])


def _why(weights: Sequence[Need], reason: str | None) -> str:
    if reason:
        return f"; they were not fetched: {reason}"
    return "; the weights will be fetched once the data is there" if weights else ""


def _other_places() -> list[Path | str]:
    own, *_, cache = registry.folders()
    if own == Path("pretrained"):
        return ["the folder that $DCLIP_WEIGHTS names", cache]
    return [own, cache]


def _described(one: Need) -> list[str]:
    lines = [f"\n  {one.name}: {one.why}; {one.megabytes:,.0f} MB; {one.licence}"]
    for file in one.entry.files:
        if file.optional:
            continue
        lines.append(f"    put   {one.entry.place(Path('pretrained')) / file.name}")
        word = "from"
        for source in fetch.sources(one.entry, file):
            lines.append(f"    {word}  {source.url}{_note(source, file.name)}")
            word = "  or"
    return lines


def _note(source: Source, name: str) -> str:
    """What is special about a source, or the name that the file has there."""
    if source.note:
        return f"  ({source.note})"
    return f"  (as {source.name})" if source.name not in ("", name) else ""


def _at_hand(weights: Sequence[Need]) -> list[str]:
    settings = " ".join(one.without for one in weights if one.without)
    always = ", ".join(one.name for one in weights if not one.without)
    lines = ["\n  to run with what is at hand:"]
    if settings and always:
        settings += f"   (still needed: {always})"
    if settings:
        lines.append(f"    {settings}")
    lines.append(
        "    experiment=toonfaces_red_hair   (or any settings with dataset=toonfaces "
        "checkpoint=toonfaces clip=toonfaces)"
    )
    return lines
