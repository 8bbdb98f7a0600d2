"""Reports over any runs, and the preference page."""

import csv
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from dclip import files
from dclip.config import plain
from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.record import identity
from dclip.study import collect, figures
from dclip.study.differences import differing, tails
from dclip.study.tables import Cell, Row, Table
from helpers.odd_files import half_and_half
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
    assert html.count("data:image/png;base64,") == 4  # the plot, and a picture a finished run
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
    assert differing([one, {**one, "edit.name": "b", "edit.target": "y"}]) == ["edit.name"]
    assert differing([one, {**one, "lr": "2"}, {**one, "edit.name": "b", "edit.target": "y"}]) == [
        "edit.name",
        "lr",
    ]
    assert differing([one, one]) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs runs="),
        (["runs=/nowhere"], "runs=/nowhere is no folder"),
        (["runs=RUNS", "sweep=x"], "there are: mine, other"),
        (["runs=RUNS", "by=sampler.t9"], "by=sampler.t9"),
        (["runs=RUNS", "columns=mae,sim"], "columns=sim: no run has it; did you mean ssim?"),
        (["runs=RUNS", "sampler.t0=3"], "sampler.t0=3: task=report knows runs="),
    ],
)
def test_a_bad_report_is_refused_in_one_line(words, said, runs, tmp_path):
    with pytest.raises(DclipError, match=re.escape(said)):
        collect.main([w.replace("RUNS", str(runs)) for w in words])


# ------------------------------------------------------------------------- an hour's use


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Runs of several tasks, as after an hour: files only."""
    root = tmp_path_factory.mktemp("mixed")
    adapter = str(
        root / "outputs" / "finetune_red_hair" / "2026-01-01_00-00-00_{}" / "adapter.safetensors"
    )
    photo = root / "photo.png"
    half_and_half().save(photo)

    def write(number, task, *words, **metrics):
        cfg = configure(*words)
        place = root / "outputs" / f"{task}_x" / f"2026-01-01_00-00-0{number}_{number}"
        status = {"status": "finished", "seconds": 1, "config": identity.config_hash(cfg)}
        files.write_json(place / "status.json", {**status, "environment": {"cpus": 2}})
        OmegaConf.save(OmegaConf.create(plain(cfg)), place / "config.yaml")
        files.write_json(place / "metrics.json", {"images": 3, **metrics})
        return cfg

    write(1, "finetune", "experiment=toonfaces_red_hair", judge_success=0.9, mae=0.1)
    write(
        2, "finetune", "experiment=toonfaces_zombie", "method.epochs=3", judge_success=0.8, mae=0.2
    )
    write(3, "reconstruct", "task=reconstruct", "edit=red_hair", mae=0.01)
    write(4, "reconstruct", "task=reconstruct", "edit=beard", "sampler=ab2", mae=0.02)
    write(5, "sample", "task=sample", "task.count=4", seconds_per_image=1.5)
    for number, name in ((6, "a"), (7, "b")):
        path = Path(adapter.format(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_edit_header(path)
        words = ["task=edit", f"edit.adapter={path}", f"input={photo}"]
        write(number, "edit", *words, mae=number / 10)
    return root / "outputs"


def write_edit_header(path):
    """An edit's file, but for its tensors."""
    from dclip.study.progress import _write_standin

    _write_standin(configure("experiment=toonfaces_red_hair"), path.parent)


def test_runs_of_several_tasks_make_a_table_each(mixed, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collect.main([f"runs={mixed}", f"output={tmp_path}"])
    text = (tmp_path / "table.md").read_text("utf-8")
    heads = re.findall(r"^## (.*)$", text, re.M)
    assert heads == ["finetune", "edit", "reconstruct", "sample"]
    blocks = dict(zip(heads, text.split("\n## ")[1:], strict=True))
    finetune = blocks["finetune"].splitlines()[2]
    assert finetune.startswith("| edit | ") and "judge_success ↑" in finetune
    assert finetune.index("mae") < finetune.index("| n | seeds |")
    assert "red_hair" not in blocks["reconstruct"] and "judge_success" not in blocks["reconstruct"]
    assert str(mixed) not in text and "2026-01-01_00-00-00_a" in blocks["edit"]
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count('<div class="scroll">') == 4 and "overflow: auto" in html
    rows = table(tmp_path)
    assert [row["task"] for row in rows].count("edit") == 2


def test_a_figure_is_drawn_only_where_it_can_be_read(runs, mixed, tmp_path):
    many = Table("", ["edit"], ["mae"], [])
    for number in range(figures.MOST_ROWS + 1):
        many.rows.append(Row({"edit": str(number)}, {"mae": Cell(0.1)}))
    assert not figures.readable(many)
    many.rows = many.rows[:3]
    assert figures.readable(many)
    many.rows[0].key["edit"] = "x" * 60
    assert not figures.readable(many)
    many.rows = many.rows[1:2]
    assert not figures.readable(many)


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ({"/x/a/adapter.safetensors", "/x/b/adapter.safetensors"}, {"a", "b"}),
        ({"/x/one/d.png", "/x/two/d.png", "red"}, {"one/d.png", "two/d.png"}),
        ({"red", "blue"}, set()),
    ],
)
def test_paths_are_shown_by_the_ends_that_tell_them_apart(labels, shown):
    assert set(tails(labels).values()) == shown
