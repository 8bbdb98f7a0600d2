"""What a wheel holds, and that it runs where no checkout is."""

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from helpers.runs import ROOT

NEEDED = ("dclip/py.typed", "dclip/conf/config.yaml", "dclip/weights/toonfaces.safetensors",
          "dclip/weights/toonfaces_merges.txt.gz", "dclip/models/weights.yaml",
          "dclip/pages/templates/report.html", "dclip/pages/templates/report.js",
          "dclip/pages/templates/plot.svg")  # fmt: skip
OUTSIDE = """
import dclip.prepare.paths as paths
from dclip.models.registry import package_folder
from dclip.runtime.typed import typed
print(paths.CONF, package_folder(), typed(["edit=red_hair"]), sep="\\n")
"""


def expected():
    """The files of the checkout that a wheel holds, by their name in it."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "dclip", "conf"],
        capture_output=True, text=True,
    )  # fmt: skip
    names = {name for name in listed.stdout.split("\n") if (ROOT / name).is_file() and name}
    return {name.replace("conf/", "dclip/conf/", 1) if name.startswith("conf/") else name
            for name in names}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return path


def test_a_wheel_holds_the_package_its_configuration_and_weights_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert not [name for name in NEEDED if name not in names]
    assert not [name for name in names if "__pycache__" in name or not name.startswith("dclip/")]
    files = expected()
    if files:  # a source archive has no list of files to compare with
        assert names == files


def test_an_unpacked_wheel_finds_its_files_and_quotes_its_own_command(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    found = subprocess.run(
        [sys.executable, "-c", OUTSIDE], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    conf, weights, command = found.stdout.splitlines()
    package = tmp_path / "site" / "dclip"
    assert (conf, weights) == (str(package / "conf"), str(package / "weights"))
    assert command == "dclip edit=red_hair"


def test_a_source_archive_holds_what_its_studies_and_tests_read(tmp_path):
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"experiments/paper.yaml", "experiments/applications/inputs/before/0.png"} <= names
