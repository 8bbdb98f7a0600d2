"""The experiments of conf/experiment, by what is tested of them."""

from helpers.runs import ROOT

FOLDER = ROOT / "conf" / "experiment"
EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def _starting(*beginnings):
    return [name for name in EXPERIMENTS if name.startswith(beginnings)]


def _sampling():
    return [
        name
        for name in EXPERIMENTS
        if "/task: sample" in (FOLDER / f"{name}.yaml").read_text("utf-8")
    ]


SAMPLING = _sampling()
TRAININGS = _starting("pretrain_")
OBJECTIVES = _starting("objective_")
APPLICATIONS = _starting("apply_", "translate_")
OF_PICTURES = _starting("single_", "examples")
_ELSEWHERE = {*SAMPLING, *TRAININGS, *OBJECTIVES, *APPLICATIONS, *OF_PICTURES}
FINE_TUNING = [name for name in EXPERIMENTS if name not in _ELSEWHERE]
DRAWN = [name for name in FINE_TUNING if name.startswith("toonfaces")]
PHOTOGRAPHS = [name for name in FINE_TUNING if name not in DRAWN]
