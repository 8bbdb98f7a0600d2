"""Configurations composed once: composing takes most of the time of the tests of studies."""

from dclip.prepare import compose

CONFIGURED = {}  # composing takes most of these tests' time


def configured(words):
    key = tuple(w for w in words if w.split("=")[0] not in ("output", "sweep", "resume"))
    if key not in CONFIGURED:
        CONFIGURED[key] = compose_job(key)
    return CONFIGURED[key]


compose_job = compose.configured
