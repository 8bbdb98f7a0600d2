"""Where the configuration's files lie."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def _find_conf() -> Path:
    """Beside the package in a checkout, inside it in a wheel."""
    inside, beside = PACKAGE / "conf", PACKAGE.parent / "conf"
    if (beside / "config.yaml").is_file() and not (inside / "config.yaml").is_file():
        return beside
    return inside


CONF = _find_conf()
