"""What a wheel holds, and that it runs where no checkout is."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions

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


def imported(tree):
    """The outermost modules that are imported: those that loading the file needs, and all others."""
    needed, others = set(), set()

    def walk(node, at_once):
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom) and not child.level:
                names = [child.module]
            (needed if at_once else others).update(name.partition(".")[0] for name in names)
            later = isinstance(child, ast.FunctionDef | ast.Try | ast.If)
            walk(child, at_once and not later)

    walk(tree, True)
    return needed, others


def test_what_is_imported_is_a_dependency_and_what_is_optional_an_extra():
    """The wheel's own test borrows the packages of the checkout, and would not see one missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    def named(requirements):
        return {re.split(r"[\[<>=!~ ]", one)[0].replace("_", "-").lower() for one in requirements}

    required, extras = named(project["dependencies"]), {"pyarrow"}  # dclip metrics asks for it
    for extra, requirements in project["optional-dependencies"].items():
        if extra not in ("docs", "dev"):
            extras |= named(requirements)
    installed = packages_distributions()
    third = 0
    for path in sorted((ROOT / "dclip").rglob("*.py")):
        needed, others = imported(ast.parse(path.read_text("utf-8")))
        for module in (needed | others) - sys.stdlib_module_names - {"dclip"}:
            third += 1
            given = named(installed.get(module, [module]))
            # the page's own modules are loaded only to serve it
            allowed = required | {"gradio"} if module in needed else required | extras
            assert given & allowed, f"{path}: {module} is no dependency"
    assert third > 100
