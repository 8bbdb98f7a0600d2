"""The experiments of conf/experiment, by what is tested of them."""

from helpers.runs import ROOT

FOLDER = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _starting(*beginnings):
    return [name for name in EXPERIMENTS if name.startswith(beginnings)]


def lines_of(name):
    """The lines of an experiment's file, and of those that it extends."""
    lines = (FOLDER / f"{name}.yaml").read_text("utf-8").splitlines()
    for line in list(lines):
        if line.removeprefix("  - ") in EXPERIMENTS:
            lines += lines_of(line.removeprefix("  - "))
    return lines


def _sampling():
    return [name for name in EXPERIMENTS if "  - override /task: sample" in lines_of(name)]


SAMPLING = _sampling()
TRAININGS = _starting("pretrain_")
OWN = _starting("cifar10_own_")  # they need networks of one's own
OPEN = [
    "photographs",
    "pretrain",
    *OWN,
]  # they need more words; the first two are what others extend
APPLICATIONS = _starting("apply_", "translate_")
OF_PICTURES = _starting("single_", "examples")
TRAINING_FREE = _starting("toonfaces_h_edit")  # tests/methods/test_h_edit.py runs it
_ELSEWHERE = {*TRAINING_FREE, *SAMPLING, *TRAININGS, *OPEN, *APPLICATIONS, *OF_PICTURES}
FINE_TUNING = [name for name in EXPERIMENTS if name not in _ELSEWHERE]
DRAWN = [name for name in FINE_TUNING if name.startswith("toonfaces")]
PHOTOGRAPHS = [name for name in FINE_TUNING if name not in DRAWN]
