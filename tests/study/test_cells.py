"""Cells of tables from runs' files."""

import json

import pytest

from dclip.record.runs import Run
from dclip.study.tables import cell_of


def test_an_image_for_which_a_metric_means_nothing_has_no_part_in_the_spread(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"effectiveness": 0.5}), "utf-8")
    (tmp_path / "rows.csv").write_text("image,effectiveness\na,0.25\nb,nan\nc,0.75\n", "utf-8")
    cell = cell_of([[Run(tmp_path)]], "effectiveness")
    assert cell.value == 0.5 and cell.std == pytest.approx(0.5 / 2**0.5)
