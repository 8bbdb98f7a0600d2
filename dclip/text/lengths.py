"""Texts that a CLIP would cut off are refused before anything is encoded."""

from __future__ import annotations

from dclip import losses
from dclip.config import Config, SampleTask
from dclip.models.networks import Networks
from dclip.text.features import in_forms


def check_texts(cfg: Config, networks: Networks) -> None:
    """The edit's texts must fit into every CLIP that reads them, prompt templates included.

    Prompts of a guidance are checked where they are read. DclipError names the setting.
    """
    edit = cfg.edit
    from_noise = isinstance(cfg.task, SampleTask) and not cfg.task.from_images
    if edit.examples is not None or from_noise:
        return
    guiding = losses.templates(cfg.loss.templates if cfg.task.learns else "none")
    texts = [("edit.source", edit.source), ("edit.target", edit.target)]
    texts += [("edit.against", text) for text in edit.against or ()]
    texts += [("edit.keep", text) for text in edit.keep or ()]
    for setting, text in texts:
        if networks.clip is not None:
            networks.clip.check_lengths(in_forms([text], guiding), setting)
        if networks.heldout is not None:
            networks.heldout.check_lengths([text], setting)
