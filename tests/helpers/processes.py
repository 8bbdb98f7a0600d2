"""Runs in processes of their own that have everything imported: kills hit the work, not the imports."""

import multiprocessing

import pytest

from helpers.runs import run

IMPORTED = [
    "dclip.pipeline",
    "dclip.methods.diffusionclip.fit",
    "diffusers.models.unets.unet_2d",
    "open_clip",
    "torch._dynamo",
]


def run_apart(settings, cache):
    """A started process with a run of these settings, whose cache is ``cache``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_run, args=(settings, str(cache)))
    process.start()
    return process


def _run(settings, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCLIP_CACHE", cache)
        run(*settings)
