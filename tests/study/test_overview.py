"""Many runs at a glance: groups, what differs, which pairs there are, and which runs are meant."""

import re

import pytest
from omegaconf import OmegaConf

from dclip.config import plain
from dclip.errors import DclipError
from dclip.files import write_json
from dclip.record.identity import config_hash
from dclip.study import collect, overview
from dclip.study.places import places_of
from helpers.run_folders import write_run
from helpers.runs import configure

IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one edit on the same faces, one of another, one that failed."""
    root = tmp_path_factory.mktemp("overview") / "outputs"

    def write(folder, ratio, state, *words):
        cfg = configure(*words)
        status = {"config": config_hash(cfg), "reason": "ValueError: no <b>"}
        place = write_run(root / folder, IDS, **status | {"status": state})
        OmegaConf.save(OmegaConf.create(plain(cfg)), place / "config.yaml")
        write_json(place / "metrics.json", ratio)

    red, beard = "experiment=toonfaces_red_hair", "experiment=toonfaces_beard"
    bounds = {"counterfactual_ratio_low": 0.4, "counterfactual_ratio_high": 0.6}
    write("finetune_red_hair/1", {"counterfactual_ratio": 0.5, **bounds}, "finished", red)
    write(
        "finetune_red_hair/2", {"counterfactual_ratio": 0.9}, "finished", red, "seed=1",
        "method.epochs=3",
    )  # fmt: skip
    write("finetune_beard/3", {"counterfactual_ratio": 0.7}, "finished", beard)
    write("finetune_beard/4", {}, "failed", beard, "seed=1")
    return root


def test_runs_stand_below_their_task_and_edit_with_what_differs(runs, tmp_path, capsys):
    assert collect.main([f"runs={runs}", f"output={tmp_path}"]) == 0
    html = (tmp_path / "report.html").read_text("utf-8")
    assert re.findall(r"<h2>(.*)</h2>", html)[:2] == ["finetune · beard", "finetune · red_hair"]
    assert "2 settings differ" in html and "<b>method.epochs</b>: 3 | " in html
    assert html.count('<span class="range">') == 2  # nothing to compare the one beard with
    assert "failed: ValueError: no &lt;b&gt;" in html
    assert html.count('<tr class="reference">') == 4  # before and truth, in both groups
    (pair,) = (tmp_path / "pairs").iterdir()
    first_cell = html.partition('<td data-value="3">')[2].partition("</td>")[0]
    assert f'href="pairs/{pair.name}"' in first_cell and "epochs=3" in pair.read_text("utf-8")
    said = capsys.readouterr().out
    assert "1 of 4 runs are not finished (#2 failed)." in said and "1 comparison" in said


def test_two_runs_are_compared_whatever_they_are(runs, tmp_path):
    both = f"runs={runs}/finetune_red_hair/1,{runs}/finetune_beard/3"
    collect.main([both, f"output={tmp_path}"])
    assert len(list((tmp_path / "pairs").iterdir())) == 1


def test_of_many_runs_each_is_compared_with_the_best(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(overview, "MOST_PAIRS", 0)
    collect.main([f"runs={runs}/finetune_red_hair", f"output={tmp_path}"])
    assert "compared with the best, #1" in capsys.readouterr().out


def test_where_nothing_is_finished_that_is_said(runs, tmp_path, capsys):
    collect.main([f"runs={runs}/finetune_beard/4", f"output={tmp_path}"])
    assert "No run is finished, so nothing can be compared" in capsys.readouterr().out
    assert not (tmp_path / "pairs").exists()


def test_runs_are_meant_by_folders_patterns_and_names(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert places_of("outputs/finetune_*") == [
        "outputs/finetune_beard",
        "outputs/finetune_red_hair",
    ]
    assert places_of("outputs,outputs") == ["outputs"]
    (runs / "finetune_red_hair" / "1" / "adapter.safetensors").write_bytes(b"")
    assert places_of("red_hair") == ["outputs/finetune_red_hair/1"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("outputs/none_*", "matches no folder"),
        ("red_nose", "is neither a folder nor an edit that was learned under outputs"),
        ("outputs/none", "is no folder"),
    ],
)
def test_what_no_run_is_meant_by_is_refused(setting, said, runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    with pytest.raises(DclipError, match=f"runs={re.escape(setting)} {said}"):
        places_of(setting)
