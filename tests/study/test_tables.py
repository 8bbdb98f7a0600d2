"""Cells of tables."""

import json

from dclip.record.runs import Run
from dclip.study.tables import Row, Table, cell_of, cell_text


def run_of(folder, **metrics):
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Run(folder)


def test_a_number_of_one_run_stands_with_its_interval_where_there_is_one(tmp_path):
    kid = {"kid_10": 0.5, "kid_low": -0.25, "kid_high": 0.75}
    one, two = run_of(tmp_path / "a", **kid), run_of(tmp_path / "b", **{**kid, "kid_10": 1.5})
    row = Row({"run": "a"}, {"kid_10": cell_of([[one]], "kid_10")}, 60, 1)
    assert cell_text(row, "kid_10") == "0.5 [-0.25, 0.75]"
    table = Table("t", ["run"], ["kid_10"], [row])
    table.note_spread("row")
    assert table.notes == ["[low, high]: 95 % bootstrap interval over images"]
    seeds = Row({}, {"kid_10": cell_of([[one], [two]], "kid_10")}, 60, 2)
    assert cell_text(seeds, "kid_10") == "1 ±0.71"
