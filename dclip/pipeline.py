"""What a run does, from its configuration to its report. Read this first.

words + images -> encode (invert, or draw noise) -> adapt -> edit / sample -> measure -> record
"""

from pathlib import Path

from dclip import config
from dclip.data.load import fetch_data
from dclip.edits.confined import confined
from dclip.edits.degree import calibrated
from dclip.edits.edit import apply_edit, keep
from dclip.edits.located import located
from dclip.edits.roundtrip import present_reconstruction, present_translation
from dclip.encode.invert import encode, encode_splits, encode_to_edit, encode_variants
from dclip.encode.source import images_to_edit, images_to_learn, source_images
from dclip.encode.start import start_of
from dclip.encode.translate import into_domain
from dclip.methods.contract import method_of
from dclip.methods.load import edits_to_apply
from dclip.models.networks import build_networks
from dclip.pages.report import finish_report
from dclip.prepare.networks import networks
from dclip.record.record import recording
from dclip.run import Run
from dclip.runtime import parallel
from dclip.runtime.device import device_of
from dclip.runtime.imports import before_lightning
from dclip.runtime.start import started
from dclip.text.known import warn_of_words
from dclip.text.lengths import check_texts


def run(cfg: config.Config) -> Path:
    """Do one run; returns its folder. DclipError for bad input, before anything expensive."""
    device_of(cfg.trainer)  # refuses a GPU that is not here
    parallel.begin(cfg.trainer.threads)
    with recording(cfg, finish_report) as record:
        fetch_data(cfg)
        warn_of_words(cfg)
        if isinstance(cfg.task, config.PretrainTask):
            before_lightning()
            from dclip.pretrain.run import train_network  # with Lightning, which takes seconds

            started()
            train_network(cfg, cfg.task, record)
        else:
            built = build_networks(cfg, networks(cfg))
            check_texts(cfg, built)
            started()
            TASKS[type(cfg.task)](Run(cfg, built, record))
    return record.folder


def finetune(run: Run) -> None:
    """Learn an edit, apply it to the test images, measure."""
    method = method_of(run.cfg)
    method.check_networks(run.cfg, run.networks)
    starts = encode_splits(run, images_to_learn(run), method.needs_latents)
    with run.record.timing("adapt"):
        learned = method.adapt(run, starts)
    placed = located(run, learned, starts)
    edit = confined(run.cfg, calibrated(run, placed, starts["validation"]))
    keep(run, edit)  # before anything else can fail
    edited = apply_edit(run, edit, starts["test"])
    keep(run, edit, edit.present(run, starts["test"], edited))


def edit(run: Run) -> None:
    """Apply edits that were learned before to a file, a folder, or the test images."""
    edit, start = edits_to_apply(run), encode_variants(run, images_to_edit(run))
    edit.present(run, start, apply_edit(run, edit, start))


def translate(run: Run) -> None:
    """Bring images of an unseen kind into the model's domain, and edit them there."""
    images = images_to_edit(run).repeat(run.cfg.variants)
    domain = into_domain(run, run.task(config.TranslateTask), images)
    edit = edits_to_apply(run) if run.cfg.edit.adapters else None
    edited = apply_edit(run, edit, encode_to_edit(run, domain)) if edit else None
    present_translation(run, images, domain, edited)


def reconstruct(run: Run) -> None:
    """Send the test images up to t0 and back through the unchanged model."""
    present_reconstruction(run, encode(run, source_images(run, "test")))


def sample(run: Run) -> None:
    """Draw images from noise or latents, freely or under guidance; measure what was asked for."""
    edit, start = method_of(run.cfg).adapt(run, {}), start_of(run, run.task(config.SampleTask))
    edit.present(run, start, edit.apply(run, start, run.cfg.gamma))


TASKS = {config.FinetuneTask: finetune, config.EditTask: edit, config.TranslateTask: translate}
TASKS |= {config.ReconstructTask: reconstruct, config.SampleTask: sample}
