"""Every command in README, docs and the experiments' pages can be typed as it stands."""

import re
import shlex
import tomllib

import pytest

from dclip.cli import benchmark as benchmark_command
from dclip.cli import command
from dclip.cli import metrics as metrics_command
from dclip.cli import weights as weights_command
from dclip.pages import preference
from dclip.prepare import launchers
from dclip.study import collect, document
from helpers.networks import write_edit
from helpers.odd_files import half_and_half
from helpers.runs import ROOT, SMALL

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "experiments").glob("*/README.md"),
    ]
)
FILES = ("FILE", "DDPM", "CLIP", "HELDOUT", "mine.yaml")  # placeholders of the pages
ELSEWHERE = "extend.md"  # its files are written and its commands are run by test_extend.py


def commands_of(page):
    """The words of every command in the fenced ``sh`` blocks of a page, a backslash joining two lines."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


COMMANDS = [(page, words) for page in PAGES for words in commands_of(page)]
RUNS = sorted({tuple(words[2:]) for page, words in COMMANDS
               if words[:2] == ["python", "run.py"] and page.name != ELSEWHERE})  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, nets):
    """A folder where what the commands name exists: two learned edits, a face, some files."""
    folder = tmp_path_factory.mktemp("user")
    tiny = {"experiment": "toonfaces_red_hair", **SMALL, "clip.name": nets["clip"]}
    runs = {}
    for name in ("red_hair", "beard", "tanned"):
        run = folder / "outputs" / f"finetune_{name}" / "2026-01-01_00-00-00_00000000"
        runs[name] = write_edit(run, tiny, nets["model64"], name)
    (folder / "outputs" / "latest").symlink_to(runs["red_hair"])
    for name in FILES:
        (folder / name).write_bytes(b"")
    (folder / "human_zombie_t601.pth").write_bytes(b"")
    half_and_half().save(folder / "photo.jpg")
    half_and_half().convert("L").save(folder / "mask.png")
    for name in ("DIR", "RUN"):
        (folder / name).mkdir()
    for number in range(150):  # as many as the pages' runs look at
        half_and_half((8, 8)).save(folder / "DIR" / f"{number}.png")
    (folder / "docs").mkdir()
    (folder / "docs" / "face.png").write_bytes((ROOT / "docs" / "face.png").read_bytes())
    return folder


@pytest.fixture
def only_checked(monkeypatch, folder):
    """Nothing is fetched, printed or started: a command line is composed and checked."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(command, "obtain", lambda cfgs: None)
    monkeypatch.setattr("dclip.prepare.plan.show", lambda cfg: None)


def check_words(words):
    """Refuse what the command line would refuse before anything is built."""
    if words[0] == "metrics":
        metrics_command.build_parser().parse_args(words[1:])
    elif words[0] == "benchmark":
        benchmark_command.build_parser().parse_args(words[1:])
    elif words[0] == "weights":
        weights_command.parser().parse_args(words[1:])
    elif words[0] in ("task=report", "task=preference"):
        known = collect.ARGUMENTS if words[0] == "task=report" else preference.SETTINGS
        assert {word.split("=")[0] for word in words[1:]} <= set(known)
    elif any(word.startswith("study=") for word in words):
        (name,) = (word.removeprefix("study=") for word in words if word.startswith("study="))
        assert name in document.studies() or name == "mine.yaml"
    else:
        try:
            command.precheck(words)
        except SystemExit as end:  # a plan ends here
            assert not end.code


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_a_command_on_a_page_is_accepted(words, only_checked):
    launcher = dict(word.split("=", 1) for word in words if "=" in word).get("hydra/launcher")
    if launcher in launchers.PLUGINS and not launchers.installed(launcher):
        pytest.skip(f"the extra of hydra/launcher={launcher} is not installed")
    check_words([word.replace("=dclip/", f"={ROOT}/dclip/") for word in words])


def test_the_pages_have_the_commands():
    """So that the test above cannot pass because nothing was found."""
    assert len(RUNS) > 80
    pages = {page.name for page, _ in COMMANDS}
    assert {"README.md", "editing.md", "photographs.md", "studies.md", "metrics.md"} <= pages


def test_other_commands_name_what_exists(only_checked, monkeypatch):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    monkeypatch.setenv("DCLIP_PASSWORD", "something long")
    for page, words in COMMANDS:
        match words:
            case ["python", "run.py", *_] | ["source", ".venv/bin/activate"]:
                continue
            case ["mkdir" | "cp", *_]:
                continue
            case ["make", target]:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), (page, words)
            case ["python", "-m", module, *_]:
                assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), (page, words)
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), (page, words)
            case ["pip", "install", "dist/*.whl"] | ["pip", "install", "--find-links", "dist", _]:
                continue
            case ["docker", "build", "-t", "dclip", "."]:
                continue
            case ["docker", "run", *options] if "dclip" in options:
                check_words(options[options.index("dclip") + 1 :] or ["preset=quick"])
            case _:
                pytest.fail(f"{page}: what is {' '.join(words)}?")
    for page in PAGES:
        for named in re.findall(r"dclip\[([\w,]+)\]", page.read_text("utf-8")):
            assert set(named.split(",")) <= set(extras), (page, named)
    table = re.findall(
        r"^\| `(\w+)` \|", (ROOT / "docs" / "install.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(table) == sorted(extras)
    assert "install --no-cache-dir '.[demo]'" in (ROOT / "Dockerfile").read_text("utf-8")


def test_the_hints_of_make_demo_are_commands(only_checked):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    hints = re.findall(r'^\t@echo "[^"]*?python run\.py (.*?)"$', makefile, re.MULTILINE)
    assert len(hints) >= 4
    for hint in hints:
        check_words(shlex.split(hint.split("  (")[0]))


def test_links_on_the_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target.split("#")[0]).exists(), (page, target)
