"""``task=demo``: a local page to try edits on. Pick a picture or upload one, choose edits, move a slider, see what becomes of it.

:class:`Studio` does the work and knows nothing of the page; :func:`page` lays it out with Gradio, which is imported only there.
Every picture is the one that ``task=edit`` makes with the same settings.
"""

from __future__ import annotations

import html
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from dclip.config import Config, DemoTask, EditTask
from dclip.data.align import aligner
from dclip.data.domains import truth_of
from dclip.data.images import read_images
from dclip.data.load import load_input
from dclip.edits.editor import Editor, apply, encode_variants, read_editor, strip
from dclip.edits.header import read_edit_header
from dclip.edits.saved import SavedEdit
from dclip.encode.source import source_images
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.metrics.suite import measure
from dclip.models.judge import Judge
from dclip.models.networks import build_networks
from dclip.pages.report import metric_table
from dclip.prepare.checks import to_config
from dclip.prepare.compose import adopt_edit
from dclip.text.direction import direction_of
from dclip.types import Edited, Images, to_uint8

log = logging.getLogger("dclip")


MOST_GAMMA, MOST_ETA, MOST_VARIANTS = 2.0, 1.0, 8  # ends of the page's sliders


NO_EDITS = "No edit has been learned for this checkpoint yet: run `make demo` (about two minutes), then load this page again."


Note = Callable[[float, str], object]  # how far (0 to 1), what is being done


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        result: the variants [V,3,H,W].
        degrees: the first of them at each of ``cfg.degrees``, [K,3,H,W]; None where there are none.
        scores: means over the variants; what cannot be computed is ``NAME_absent: reason``.
        seen: what the judge says changed: attribute -> (before, after); None without a judge.
    """

    result: Tensor
    degrees: Tensor | None
    scores: dict[str, float | str]
    seen: dict[str, tuple[str, str]] | None
    seconds: float


def finished_edits(output: str, digest: str) -> list[str]:
    """Adapters of the finished runs under ``output`` that belong to the checkpoint of this digest, newest first."""
    found = []
    for path in Path(output).glob("*/*/adapter.safetensors"):
        try:
            header = read_edit_header(str(path))[1]
        except DclipError as error:
            log.warning("left out: %s", error)
            continue
        if (
            header.get("base_sha256") == digest
            and read_json(path.parent / "status.json").get("status") == "finished"
        ):
            found.append(str(path))
    return sorted(found, key=lambda name: Path(name).parent.name, reverse=True)


def labelled(paths: Sequence[str]) -> dict[str, str]:
    """Edits by what the page calls them: their name, and their run where several have the same."""
    edits: dict[str, str] = {}
    for path in paths:
        file, header = read_edit_header(path)
        name = header["edit"].get("name") or header["edit"].get("target") or file.stem
        label = str(name).replace("_", " ")
        edits[label if label not in edits else f"{label} ({file.parent.name})"] = path
    return edits


def judged(judge: Judge, before: Tensor, after: Tensor) -> dict[str, tuple[str, str]]:
    """The attributes that the judge sees differently in two pictures [3,H,W]: attribute -> (before, after)."""
    device = next(judge.parameters()).device
    [old], [new] = (judge.sees(picture[None].to(device)) for picture in (before, after))
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


class Studio:
    """Networks, pictures and edits of a page; :meth:`edit` does one at a time, however many ask."""

    def __init__(self, cfg: Config, told: Sequence[str] = ()) -> None:
        """``told``: words of the command line, whose settings win over those that an edit was made with."""
        quiet = replace(cfg.trainer, progress=False)
        self.cfg = replace(cfg, trainer=quiet, dataset=cfg.dataset.everything())
        self.told = list(told)
        self.networks = build_networks(self.cfg)
        self.model = self.networks.model
        for path in cfg.edit.adapters:
            SavedEdit(*read_edit_header(path, cfg.sampler.t0)).check_base(self.model)
        size = self.model.image_size
        self.images = (
            load_input(self.cfg, size) if cfg.input else source_images(self.cfg, self.model, "test")
        )
        self._lock = threading.Lock()
        self._editor: tuple[Any, Editor] | None = None
        self._strip: tuple[Any, Tensor] | None = None

    def edits(self) -> dict[str, str]:
        """The edits there are, by label: those that were given, else what has been learned for this checkpoint."""
        return labelled(
            self.cfg.edit.adapters or finished_edits(self.cfg.output, self.model.digest)
        )

    def upload(self, path: Path) -> Images:
        """An uploaded picture. DclipError if it cannot be read as one."""
        data = BytesIO(path.read_bytes())
        return read_images(
            [(path.name, lambda: data)], self.model.image_size, "upload", aligner(self.cfg.dataset)
        )

    def settings(
        self, chosen: Sequence[str], gamma: float, eta: float = 0.0, variants: int = 1
    ) -> Config:
        """The configuration of ``task=edit`` that makes this picture. DclipError for what it refuses."""
        if not chosen:
            raise DclipError("no edit is chosen; choose one or more" if self.edits() else NO_EDITS)
        if not 0 <= gamma <= MOST_GAMMA:
            raise DclipError(
                f"gamma={gamma} is out of range; choose 0 (original) to {MOST_GAMMA:g}"
            )
        edit = replace(self.cfg.edit, adapter=list(chosen))
        mine = replace(
            self.cfg,
            task=EditTask(),
            edit=edit,
            gamma=float(gamma),
            variants=int(variants),
            input=None,
        )
        node = OmegaConf.structured(mine)
        adopt_edit(node, self.told)
        node.sampler.eta = float(eta)
        return to_config(node)

    def edit(
        self,
        images: Images,
        chosen: Sequence[str],
        gamma: float = 1.0,
        eta: float = 0.0,
        variants: int = 1,
        note: Note = lambda share, what: None,
    ) -> Outcome:
        """Edit one image. What was inverted before is not inverted again, and a strip of degrees is made once.

        DclipError for settings that cannot be.
        """
        cfg = self.settings(chosen, gamma, eta, variants)
        with self._lock:
            start = time.perf_counter()
            note(0.05, f"inverting the picture in {cfg.sampler.s_for} steps")
            several, latents = encode_variants(cfg, self.model, images)
            note(0.4, f"generating in {cfg.sampler.s_gen} steps")
            editor = self._ready(cfg)
            result = apply(cfg, editor, several, latents, cfg.gamma)
            note(0.6, "making the strip of degrees")
            degrees = self._degrees(cfg, editor, several.take([0]), latents[:1])
            note(0.9, "measuring")
            metric, scorers = (
                replace(cfg.metric, kid=False),
                self.networks.scorers(),
            )  # one image is no distribution
            scores = measure(
                Edited(several, result), metric, scorers, direction_of(cfg, several), truth_of(cfg)
            )
            judge = self.networks.judge
            seen = judged(judge, images.pixels[0], result[0]) if judge is not None else None
            return Outcome(result, degrees, scores.values, seen, time.perf_counter() - start)

    def _ready(self, cfg: Config) -> Editor:
        """The editor of the chosen edits; the last one is kept."""
        key = (cfg.edit.adapters, cfg.sampler.t0, cfg.mix, cfg.gamma if cfg.mix.soup else None)
        if self._editor is None or self._editor[0] != key:
            self._editor = key, read_editor(cfg, self.model)
        return self._editor[1]

    def _degrees(
        self, cfg: Config, editor: Editor, image: Images, latents: Tensor
    ) -> Tensor | None:
        """The strip [K,3,H,W] of one image, which does not change with gamma; the last one is kept."""
        if not cfg.degrees:
            return None
        key = (image.ids, image.pixels.numpy().tobytes(), cfg.edit.adapters, cfg.sampler, cfg.mix)
        if self._strip is None or self._strip[0] != key:
            self._strip = key, strip(cfg, editor, image, latents, cfg.degrees)[0]
        return self._strip[1]


# ---------------------------------------------------------------------------------------------------- the page

SHOWN = (
    "s_dir",
    "s_dir_heldout",
    "id",
    "sc",
    "mae",
    "psnr",
    "ssim",
    "lpips",
    "judge_success",
    "judge_preservation",
)


CSS = """
.gradio-container {max-width: 1240px !important; margin: 0 auto !important}
#faces {max-height: 330px; overflow-y: auto}
#edits .wrap {max-height: 150px; overflow-y: auto}
#before img, #after img, #variants img, #strip img, #faces img {image-rendering: pixelated}
#before img, #after img {width: 100%; height: 100%; object-fit: contain}
.note {padding: .5em .8em; border-radius: 6px; background: var(--background-fill-secondary); min-height: 1.4em}
.note.error {background: #fde8e8; color: #8a1c1c}
#scores table {width: 100%; border-collapse: collapse; font-size: .85em}
#scores td, #scores th {padding: .15em .5em; text-align: left; border-bottom: 1px solid var(--border-color-primary)}
#scores .number {text-align: right; font-variant-numeric: tabular-nums}
#scores .absent {opacity: .6}
"""


def picture(pixels: Tensor) -> Image.Image:
    """One image [3,H,W] in [-1, 1], as a PNG holds it."""
    return Image.fromarray(to_uint8(pixels).permute(1, 2, 0).cpu().numpy())


def noted(text: str, wrong: bool = False) -> str:
    """The page's line that says what happens, as HTML."""
    kind = "note error" if wrong else "note"
    words = html.escape(text)
    return f'<div class="{kind}">{words.replace("`make demo`", "<code>make demo</code>")}</div>'


def scores_html(outcome: Outcome) -> str:
    """The numbers of an edit, and what the judge says, as HTML."""
    told = {k: v for k, v in outcome.scores.items() if k.removesuffix("_absent") in SHOWN}
    if outcome.seen is None:
        return metric_table(told)
    changes = [
        f"{name.replace('_', ' ')} {old} → {new}" for name, (old, new) in outcome.seen.items()
    ]
    said = html.escape(", ".join(changes).replace("_", " ")) or "no difference"
    return (
        f"<p id='judge'>The judge, which no loss uses, sees: <b>{said}</b></p>{metric_table(told)}"
    )


def done(outcome: Outcome, gamma: float, count: int) -> str:
    """What to say after an edit."""
    share = f"; {count} edits share the change, each is whole at gamma {count}" if count > 1 else ""
    return f"gamma {gamma:g}, made in {outcome.seconds:.1f} s{share}"


def page(studio: Studio) -> Any:
    """The page, as Gradio's Blocks."""
    import gradio as gr

    first, bar = studio.images.take([0]), gr.Progress()

    def find() -> tuple[Any, str]:
        labels = list(studio.edits())
        hint = "" if labels else noted(NO_EDITS)
        return gr.update(choices=labels, value=labels[:1], visible=bool(labels)), hint

    def show(images: Images, name: str) -> tuple[Any, ...]:
        return images, picture(images.pixels[0]), None, noted(name)

    def pick(event: Any) -> tuple[Any, ...]:
        return show(
            studio.images.take([event.index]),
            f"picture {studio.images.ids[event.index]}; now press Edit",
        )

    pick.__annotations__["event"] = (
        gr.SelectData
    )  # Gradio looks for the class, which a lazy annotation could not name

    def upload(path: str) -> tuple[Any, ...]:
        try:
            images = studio.upload(Path(path))
        except DclipError as error:
            return gr.skip(), gr.skip(), gr.skip(), noted(str(error), wrong=True)
        return show(
            images, f"uploaded {Path(path).name}; its middle square is used; now press Edit"
        )

    def edit(
        images: Images,
        labels: list[str],
        gamma: float,
        eta: float,
        variants: float,
        progress: Any = bar,
    ) -> tuple[Any, ...]:
        try:
            edits = studio.edits()
            chosen = [edits[label] for label in labels or [] if label in edits]
            outcome = studio.edit(
                images,
                chosen,
                gamma,
                eta,
                int(variants),
                lambda share, what: progress(share, desc=what),
            )
        except (DclipError, OSError) as error:
            return None, gr.update(visible=False), None, "", noted(str(error), wrong=True)
        made = [picture(x) for x in outcome.result]
        degrees = (
            []
            if outcome.degrees is None
            else list(zip(outcome.degrees, studio.cfg.degrees, strict=True))
        )
        strips = [(picture(x), f"gamma {g:g}") for x, g in degrees]
        several = gr.update(value=made, visible=len(made) > 1)
        return (
            made[0],
            several,
            strips,
            scores_html(outcome),
            noted(done(outcome, gamma, len(chosen))),
        )

    with gr.Blocks(title="dclip", analytics_enabled=False) as blocks:
        gr.Markdown(
            f"## dclip: edit a picture in words\nEdits of the model `{studio.model.info.name}`, on this machine."
        )
        chosen_image = gr.State(first)
        with gr.Row():
            with gr.Column(scale=5):
                faces = gr.Gallery(
                    [picture(x) for x in studio.images.pixels], label="1. Pick a picture", columns=8, allow_preview=False,
                    format="png", elem_id="faces", buttons=[], interactive=False, object_fit="contain",
                )  # fmt: skip
                given = gr.UploadButton(
                    "or upload one (PNG, JPEG, WebP)",
                    file_types=["image"],
                    elem_id="upload",
                    size="sm",
                )
                edits = gr.CheckboxGroup([], label="2. Choose edits", elem_id="edits")
                hint = gr.HTML(elem_id="hint")
                gamma = gr.Slider(
                    0, MOST_GAMMA, min(studio.cfg.gamma, MOST_GAMMA), step=0.05, label="3. How much: gamma", elem_id="gamma",
                    info="0: the original, 1: the edit as it was learned, beyond 1: more of it",
                )  # fmt: skip
                with gr.Accordion("Chance", open=False):
                    eta = gr.Slider(
                        0,
                        MOST_ETA,
                        min(studio.cfg.sampler.eta, MOST_ETA),
                        step=0.05,
                        label="eta: noise on the way",
                        elem_id="eta",
                    )
                    variants = gr.Slider(
                        1,
                        MOST_VARIANTS,
                        min(studio.cfg.variants, MOST_VARIANTS),
                        step=1,
                        label="variants",
                    )
                button = gr.Button("Edit", variant="primary", elem_id="button")
            with gr.Column(scale=6):
                with gr.Row():
                    shown: dict[str, Any] = {
                        "format": "png",
                        "interactive": False,
                        "height": 290,
                        "buttons": ["download"],
                    }
                    before = gr.Image(
                        picture(first.pixels[0]), label="before", elem_id="before", **shown
                    )
                    after = gr.Image(label="after", elem_id="after", **shown)
                note = gr.HTML(noted("choose, then press Edit"), elem_id="note")
                several = gr.Gallery(
                    label="variants",
                    columns=8,
                    visible=False,
                    format="png",
                    elem_id="variants",
                    buttons=[],
                )
                strips = gr.Gallery(
                    label="degrees of change", columns=len(studio.cfg.degrees) or 1, format="png", elem_id="strip", height=190,
                    allow_preview=False, buttons=[], object_fit="contain",
                )  # fmt: skip
                scores = gr.HTML(elem_id="scores")
        blocks.load(find, None, [edits, hint])
        faces.select(pick, None, [chosen_image, before, after, note])
        given.upload(upload, given, [chosen_image, before, after, note])
        work: dict[str, Any] = {
            "fn": edit,
            "inputs": [chosen_image, edits, gamma, eta, variants],
            "outputs": [after, several, strips, scores, note],
            "show_progress_on": [after],
            "concurrency_id": "networks",
            "concurrency_limit": 1,
        }
        button.click(**work)
        gamma.release(**work, trigger_mode="always_last")
    return blocks


def free_port(host: str) -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def serve(cfg: Config) -> None:
    """Open the page and keep it until Ctrl-C. It reaches out to nobody."""
    assert isinstance(cfg.task, DemoTask)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    studio = Studio(cfg, HydraConfig.get().overrides.task if HydraConfig.initialized() else ())
    host, port = cfg.task.host, cfg.task.port or free_port(cfg.task.host)
    with tempfile.TemporaryDirectory(prefix="dclip_demo_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        blocks = launch(page(studio), host, port)
        print(f"the page is http://{host}:{port} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("the page is closed")
        finally:
            blocks.close(verbose=False)


def launch(blocks: Any, host: str, port: int) -> Any:
    """Start Gradio's server without anything that needs a network. DclipError if it cannot listen there."""
    import gradio as gr

    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    try:
        blocks.queue().launch(
            server_name=host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, show_error=True, theme=theme,
            css=CSS, footer_links=[], max_file_size="50mb", ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False,
        )  # fmt: skip
    except OSError as error:
        raise DclipError(
            f"task.port={port} cannot be used ({error}); choose another, or task.port=0 for any free one"
        ) from error
    return blocks
