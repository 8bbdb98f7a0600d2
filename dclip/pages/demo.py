"""``task=demo``: the part of a local page that edits pictures.

Pick a picture or upload one, choose edits, move a slider, see what becomes of it. :class:`Studio`
does the work and knows nothing of the page, which ``dclip.pages.demo_page`` lays out. Every picture
is the one that ``task=edit`` makes with the same settings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from dclip.config import Config, EditTask
from dclip.data.align import aligner
from dclip.data.domains import truth_of
from dclip.data.images import read_images
from dclip.data.pictures import decode
from dclip.diffusion.options import Ddim
from dclip.edits.confined import KeptPictures, confined
from dclip.edits.edit import Edit, truth_pixels
from dclip.edits.header import read_edit_header
from dclip.edits.named import FILE, edit_of_epoch, ranked, why_aside
from dclip.edits.paste import pasted
from dclip.edits.saved import SavedEdit
from dclip.encode.encoded import Encoded
from dclip.encode.invert import encode_variants
from dclip.encode.source import foreign_note, images_to_edit
from dclip.errors import DclipError, need
from dclip.methods.load import Loaded, load_apart
from dclip.metrics.scorers import Scorers
from dclip.metrics.suite import measure
from dclip.models.judge import Judge
from dclip.models.networks import build_networks
from dclip.pages.demo_settings import Sliders, low_of, regions_of, set_regions, shares, whole
from dclip.prepare.adopt import adopt_edit, set_eta
from dclip.prepare.checks import to_config
from dclip.prepare.networks import networks
from dclip.record import runs
from dclip.record.record import Record
from dclip.run import Run
from dclip.text.direction import direction_of
from dclip.types import Edited, Images, to_uint8

log = logging.getLogger("dclip")

# Ends of the sliders of chance; of the others: ``demo_settings``.
MOST_ETA, MOST_VARIANTS = 1.0, 8

NO_EDITS = (
    "No edit has been learned for this checkpoint yet; open Learn an edit, or learn one from the "
    "command line and load this page again."
)

Note = Callable[[float, str], object]  # how far (0 to 1), what is being done


@dataclass(frozen=True)
class Answer:
    """What became of one image.

    Attributes:
        result: the variants [V,3,H,W].
        scores: means over the variants; what cannot be computed is ``NAME_absent: reason``.
        seen: what the judge says changed: attribute -> (before, after); None without a judge.
        regions: where each edit acted on it, [1,H,W] in [0, 1]; empty where that is everywhere.
    """

    result: Tensor
    scores: dict[str, float | str]
    seen: dict[str, tuple[str, str]] | None
    seconds: float
    regions: list[Tensor]


@dataclass(frozen=True)
class Chosen:
    """The edits that were chosen last, and what they made of the picture."""

    key: object
    loaded: Loaded
    kept: KeptPictures


def finished_edits(output: str, digest: str) -> list[str]:
    """Edits of the checkpoint of this digest, of finished runs under ``output``.

    First those that an edit's name means (``dclip.edits.named``), the newest first, then variants.
    """
    finished = []
    for path in Path(output).glob(f"*/*/{FILE}"):
        try:
            _, header = read_edit_header(str(path))
        except DclipError as error:
            log.warning("left out: %s", error)
            continue
        run = runs.Run(path.parent)
        if header.get("base_sha256") == digest and run.state == "finished":
            finished.append(run)
    return [str(run.folder / FILE) for run in ranked(finished)]


def of_epoch(paths: Sequence[str], epoch: int | None) -> list[str]:
    """The edits as they were after an epoch, without those of which it was not kept."""
    if epoch is None:
        return list(paths)
    kept = []
    for path in paths:
        try:
            kept.append(edit_of_epoch(path, epoch))
        except DclipError as error:
            log.warning("left out: %s", error)
    return kept


def labelled(paths: Sequence[str], t0: int | None = None) -> dict[str, str]:
    """Edits by what the page calls them: their name, and what sets a run apart from others.

    ``t0`` is that of published files that do not say theirs.
    """
    edits: dict[str, str] = {}
    for path in paths:
        file, header = read_edit_header(path, t0)
        name = header["edit"].get("name") or header["edit"].get("target") or file.stem
        label = str(name).replace("_", " ")
        epoch = header.get("epoch")
        special = why_aside(runs.Run(file.parent))
        if epoch:
            label = f"{label}, epoch {epoch}"
        if special:
            label = f"{label} ({special})"
        if label in edits:
            label = f"{label} ({file.parent.name})"
        edits[label] = path
    return edits


def judged(judge: Judge, before: Tensor, after: Tensor) -> dict[str, tuple[str, str]]:
    """What the judge sees differently in two pictures [3,H,W]: attribute -> (before, after)."""
    device = next(judge.parameters()).device
    [old] = judge.sees(before[None].to(device))
    [new] = judge.sees(after[None].to(device))
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


class Studio:
    """Networks, pictures and edits of a page; :meth:`edit` does one at a time, however many ask."""

    def __init__(self, cfg: Config, overrides: Sequence[str] = ()) -> None:
        """``overrides``: the command line's settings, which win over those of an edit."""
        quiet = replace(cfg.trainer, progress=False)
        self.cfg = replace(cfg, trainer=quiet, dataset=cfg.dataset.everything())
        self.overrides = list(overrides)
        self.networks = build_networks(self.cfg, networks(self.cfg))
        self.model = self.networks.model
        self.record = Record.quiet(self.cfg)
        for path in cfg.edit.adapters:
            SavedEdit(*read_edit_header(path, cfg.sampler.t0)).check_base(self.model)
        self.images = images_to_edit(self.run(self.cfg))
        self.learned: Callable[[], list[Path]] = list  # files of edits that the page has learned
        self._lock = threading.Lock()
        self._chosen: Chosen | None = None
        self._encoded: tuple[object, Encoded] | None = None
        self._strip: tuple[object, Tensor] | None = None

    @property
    def eta(self) -> float:
        """The noise that the page starts with."""
        sampler = self.cfg.sampler
        return sampler.eta if isinstance(sampler, Ddim) else 0.0

    def run(self, cfg: Config) -> Run:
        """The page's networks under these settings."""
        return Run(cfg, self.networks, self.record)

    def edits(self) -> dict[str, str]:
        """The edits there are, by label: those of ``edit.adapter``, else all that were learned.

        What the page itself has learned is among them.
        """
        paths = finished_edits(self.cfg.output, self.model.digest)
        given = self.cfg.edit.adapters
        if given:
            taught = {str(file) for file in self.learned()}
            paths = [*given, *(path for path in paths if path in taught)]
        return labelled(of_epoch(paths, self.cfg.epoch), self.cfg.sampler.t0)

    def upload(self, path: Path) -> Images:
        """An uploaded picture. DclipError if it cannot be read as one."""
        data = BytesIO(path.read_bytes())
        files = [(path.name, lambda: data)]
        return read_images(files, self.model.image_size, "upload", aligner(self.cfg.dataset))

    def full_size(self, images: Images, result: Tensor, original: str) -> Image.Image:
        """An edited picture [3,H,W] at the size of the uploaded file; without one, as it is.

        Where nothing was changed, the pixels are the file's. A face that was turned before it was
        edited cannot be put back, and has the model's size.
        """
        if not original or self.cfg.dataset.align:
            return picture(result)
        file = Path(original)
        return pasted(decode(file, file.name), images.pixels[0], result.cpu())

    def note_on(self, images: Images) -> str:
        """What to say of pictures that are none of the model's kind; else empty."""
        return foreign_note(self.run(self.cfg), images)

    def settings(
        self, chosen: Sequence[str], sliders: Sliders, eta: float = 0.0, variants: int = 1
    ) -> Config:
        """The settings of ``task=edit`` for this picture. DclipError if it refuses them."""
        need(bool(chosen or self.edits()), NO_EDITS)
        need(bool(chosen), "no edit is chosen; choose one or more")
        sliders.check()
        edit = replace(self.cfg.edit, adapter=list(chosen))
        mine = replace(
            self.cfg,
            task=EditTask(),
            edit=edit,
            gamma=float(sliders.gamma) * self._whole(chosen, sliders),
            variants=int(variants),
            input=None,
            epoch=None,
        )
        node = OmegaConf.structured(mine)
        adopt_edit(node, self.overrides)
        set_eta(node, float(eta))
        if len(chosen) > 1 and node.mix.weights is None:
            node.mix.weights = shares(sliders.weights)
        set_regions(node, regions_of(to_config(node)), sliders.lows)
        return to_config(node)

    def _whole(self, chosen: Sequence[str], sliders: Sliders) -> float:
        return whole(self.cfg, len(chosen), sliders.weights)

    def lows(self, chosen: Sequence[str]) -> list[float]:
        """Where the regions' sliders of these edits stand before they are moved."""
        return [low_of(own) for own in regions_of(self.settings(chosen, Sliders()))]

    def edit(
        self,
        images: Images,
        chosen: Sequence[str],
        sliders: Sliders,
        eta: float = 0.0,
        variants: int = 1,
        note: Note = lambda share, what: None,
    ) -> Answer:
        """Edit one image.

        What was inverted before is not inverted again, and in another region the same edits take
        what they made before.
        DclipError for settings that ``task=edit`` refuses.
        """
        cfg = self.settings(chosen, sliders, eta, variants)
        run = self.run(cfg)
        with self._lock:
            start = time.perf_counter()
            if cfg.sampler.carry.inverts:
                note(0.05, f"inverting the picture in {cfg.sampler.s_for} steps")
            encoded = self._encode(run, images)
            note(0.5, f"generating in {cfg.sampler.s_gen} steps")
            edit = self._loaded(cfg)
            result = edit.apply(run, encoded, cfg.gamma)
            regions = [region[0] for region in edit.regions(encoded)]
            note(0.9, "measuring")
            edited = Edited(encoded.sources, result, truth_pixels(run, encoded))
            scores = self._scores(cfg, edited)
            seen = None
            if self.networks.judge is not None:
                seen = judged(self.networks.judge, images.pixels[0], result[0])
            return Answer(result, scores, seen, time.perf_counter() - start, regions)

    def strip(
        self,
        images: Images,
        chosen: Sequence[str],
        sliders: Sliders,
        eta: float = 0.0,
        variants: int = 1,
    ) -> Tensor | None:
        """One image at each of ``cfg.degrees``, [K,3,H,W]; None where there are none.

        The strip is the same whatever gamma is, and the last one is kept.
        """
        cfg = self.settings(chosen, sliders, eta, variants)
        unit = self._whole(chosen, sliders)
        degrees = [unit * gamma for gamma in cfg.degrees]
        if not degrees:
            return None
        run, made_of = self.run(cfg), (cfg.edit, cfg.sampler, cfg.variants, cfg.mix)
        key = (images.ids, _content(images), made_of, degrees, self._merged(cfg))
        with self._lock:
            if self._strip is None or self._strip[0] != key:
                first = self._encode(run, images).take([0])
                self._strip = key, self._loaded(cfg).strip(run, first, degrees)[0]
            return self._strip[1]

    def _encode(self, run: Run, images: Images) -> Encoded:
        """The picture and its variants; the last one is kept."""
        cfg = run.cfg
        key = (images.ids, _content(images), cfg.sampler, cfg.variants)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = key, encode_variants(run, images)
        return self._encoded[1]

    def _scores(self, cfg: Config, edited: Edited) -> dict[str, float | str]:
        """The metrics that one image has; it is no distribution."""
        metric = replace(cfg.metric, kid=False)
        direction = direction_of(cfg, edited.source)
        scorers = Scorers.of(self.networks)
        return measure(edited, metric, scorers, direction, truth_of(cfg)).values

    def _loaded(self, cfg: Config) -> Edit:
        """The chosen edits; the last ones are kept, with what they made."""
        key = (cfg.edit.adapters, cfg.sampler.t0, cfg.edit.degree, self._merged(cfg))
        if self._chosen is None or self._chosen.key != key:
            self._chosen = Chosen(key, load_apart(cfg, self.model), KeptPictures())
        joined = self._chosen.loaded.joined(cfg.mix, cfg.sampler.t0)
        return confined(cfg, joined, self._chosen.kept)

    def _merged(self, cfg: Config) -> object:
        """What the weights of a soup depend on; None where nothing is merged."""
        return (cfg.mix, cfg.gamma) if cfg.mix.soup else None


def _content(images: Images) -> bytes:
    return images.pixels.numpy().tobytes()


def picture(pixels: Tensor) -> Image.Image:
    """One image [3,H,W] in [-1, 1], as a PNG holds it."""
    return Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy())
