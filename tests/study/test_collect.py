"""Reports over any runs, and the preference page."""

import csv
import re
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from dclip import files
from dclip.config import plain
from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.record import identity
from dclip.study import collect
from helpers.runs import configure


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two t0, two seeds, a repeated run, one that failed, one of another sweep: files only."""
    root = tmp_path_factory.mktemp("runs")
    base = configure("task=reconstruct", "trainer=cpu")

    def write(t0, seed, mae, folder, status="finished", sweep="mine", **more):
        cfg = replace(
            base, sampler=replace(base.sampler, t0=t0), seed=seed, sweep=sweep, note=folder
        )
        who = {"config": identity.config_hash(cfg), "sweep": sweep, "host": "elsewhere", "pid": 1}
        place = root / "outputs" / "reconstruct" / folder
        files.write_json(
            place / "status.json",
            {"status": status, "seconds": 60, **who, **more, "environment": {"cpus": 2}},
        )
        OmegaConf.save(OmegaConf.create(plain(cfg)), place / "config.yaml")
        if status == "finished":
            files.write_json(place / "metrics.json", {"mae": mae, "ssim": 1 - mae, "images": 3})
            save_png(torch.zeros(3, 8, 8), place / "samples" / "before_after.png")

    write(300, 0, 0.9, "2026-01-01_00-00-00_a")
    write(300, 0, 0.1, "2026-01-02_00-00-00_a")  # the newer of one configuration
    write(300, 1, 0.3, "2026-01-02_00-00-01_b")
    write(400, 0, 0.5, "2026-01-02_00-00-02_c")
    write(400, 1, 0.0, "2026-01-02_00-00-03_d", "failed", reason="ValueError: no")
    write(500, 0, 0.7, "2026-01-02_00-00-04_e", sweep="other")
    write(300, 2, 0.0, "2026-01-02_00-00-05_f", "failed", reason="OSError: disk")
    return root / "outputs"


def table(folder):
    return list(csv.DictReader((folder / "table.csv").open(encoding="utf-8")))


def test_runs_become_rows_of_the_settings_that_differ(runs, tmp_path, capsys):
    assert collect.main([f"runs={runs}", "sweep=mine", f"output={tmp_path}"]) == 0
    rows = table(tmp_path)
    assert [(r["t0"], r["seeds"]) for r in rows] == [("300", "2"), ("400", "1")]
    assert [float(r["mae"]) for r in rows] == pytest.approx([0.2, 0.5])
    assert float(rows[0]["mae_std"]) == pytest.approx(0.1 * 2**0.5)
    page = (tmp_path / "table.md").read_text("utf-8")
    assert (
        "failed: ValueError: no" in page and "failed: OSError: disk" in page and "other" not in page
    )
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("data:image/png;base64,") == 3  # the plot, and a picture a row
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//|file:)""", html)
    assert (tmp_path / "figure.png").is_file() and "written to" in capsys.readouterr().out


def test_without_a_sweep_all_runs_count_and_columns_can_be_chosen(runs, tmp_path):
    collect.main([f"runs={runs}", f"output={tmp_path}", "columns=ssim", "by=sampler.t0,seed"])
    rows = table(tmp_path)
    assert len(rows) == 6 and "mae" not in rows[0]
    assert [r["state"] for r in rows if r["t0"] == "400"] == ["", "failed"]


def test_a_repeated_configuration_counts_once(runs):
    from dclip.record.runs import find_runs

    kept = collect.chosen(find_runs([runs]), "mine")
    assert len(kept) == 5
    assert {run.folder.name[:10] for run in kept} == {"2026-01-02"}


def test_as_few_settings_as_tell_runs_apart():
    one = {"edit.name": "a", "edit.target": "x", "lr": "1"}
    assert collect.differing([one, {**one, "edit.name": "b", "edit.target": "y"}]) == ["edit.name"]
    assert collect.differing(
        [one, {**one, "lr": "2"}, {**one, "edit.name": "b", "edit.target": "y"}]
    ) == ["edit.name", "lr"]
    assert collect.differing([one, one]) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs runs="),
        (["runs=/nowhere"], "runs=/nowhere is no folder"),
        (["runs=RUNS", "sweep=x"], "there are: mine, other"),
        (["runs=RUNS", "by=sampler.t9"], "by=sampler.t9"),
        (["runs=RUNS", "sampler.t0=3"], "sampler.t0=3: task=report knows runs="),
    ],
)
def test_a_bad_report_is_refused_in_one_line(words, said, runs, tmp_path):
    with pytest.raises(DclipError, match=re.escape(said)):
        collect.main([w.replace("RUNS", str(runs)) for w in words])
