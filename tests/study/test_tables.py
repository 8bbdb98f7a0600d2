"""Cells of tables, and where they are drawn."""

import json

from dclip.record.runs import Run
from dclip.study.figures import figure
from dclip.study.tables import Cell, Row, Table, cell_of, cell_text, markdown, read_csv, write_csv


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


def test_a_row_that_is_read_again_has_its_intervals(tmp_path):
    cells = {"ratio": Cell(0.6435, interval=(0.6165, 0.67)), "closer": Cell(0.97, 0.17)}
    table = Table("", ["edit"], ["ratio", "closer"], [Row({"edit": "beard"}, cells, 100, 1)])
    write_csv(table, tmp_path / "table.csv")
    assert read_csv(tmp_path / "table.csv", table) == table.rows


def test_a_bar_in_a_label_ends_no_cell():
    table = Table("t", ["edit"], ["closer"], [Row({"edit": "a|b"}, {"closer": Cell(0.5)}, 4, 1)])
    assert "| a\\|b | 4 | 1 | 0.5 |" in markdown(table)


def test_a_row_without_one_of_the_labels_has_its_place_on_the_heat_map():
    rows = []
    for value, method in enumerate("ab"):
        rows.append(Row({"method": method}, {"mae": Cell(value)}, 4, 1))
        rows.append(Row({"method": method, "t0": "500"}, {"mae": Cell(value + 5)}, 4, 1))
    [panel] = figure(Table("t", ["method", "t0"], ["mae"], rows), ["mae"]).axes
    assert [text.get_text() for text in panel.texts] == ["0", "5", "1", "6"]
    assert [text.get_text() for text in panel.get_xticklabels()] == ["", "500"]
