"""``make docs``: the site builds without a warning, holds the written pages, and needs no network."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from helpers.runs import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    for older in ("0.0.9", "0.0.10"):
        (folder / older).mkdir()
        (folder / older / "index.html").touch()
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    result = subprocess.run(
        [*build, "-f", "docs/mkdocs.yml", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0 and not result.stderr.strip(), result.stderr
    return folder / VERSION


def test_the_site_lists_every_option_and_metric(site):
    from dclip.config import OPTIONS
    from dclip.metrics.contract import METRICS

    options = (site / "docs" / "reference" / "options.html").read_text("utf-8")
    named = [f"{group}={name}" for group, choices in OPTIONS.items() for name in choices]
    assert len(named) > 30 and all(name in options for name in named)
    assert "degree of change: 0 the original model" in options  # a comment beside a field
    metrics = (site / "docs" / "reference" / "metrics.html").read_text("utf-8")
    assert all(f"<code>{name}</code>" in metrics for name in METRICS)


def test_every_version_has_a_folder_and_the_newest_is_shown(site):
    versions = json.loads((site.parent / "versions.json").read_text("utf-8"))
    assert versions == [VERSION, "0.0.10", "0.0.9"]
    first = (site.parent / "index.html").read_text("utf-8")
    assert f"url={VERSION}/index.html" in first and 'href="0.0.9/index.html"' in first
    assert f"dclip {VERSION}</title>" in (site / "index.html").read_text("utf-8")


def test_the_site_has_the_api_from_the_docstrings(site):
    notebook = (site / "docs" / "reference" / "notebook.html").read_text("utf-8")
    assert 'id="dclip.api.invert"' in notebook


def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text("utf-8")
        )
        assert not loaded, page
