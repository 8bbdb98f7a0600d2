"""The strip of degrees as a page shows it."""

import pytest

from dclip.pages.degrees import strip_of
from dclip.pages.report import write_report
from helpers.run_folders import write_strip


def test_a_strip_has_a_row_for_the_sources_and_each_degree(tmp_path):
    write_strip(tmp_path, [0, 0.5, 1, 2])
    strip = strip_of(tmp_path)
    assert (strip.rows, strip.width, strip.height) == (5, 600, 10)
    assert strip.gammas[strip.first] == 1
    page = write_report(tmp_path, "a run").read_text("utf-8")
    assert 'data-gammas="0.0 0.5 1.0 2.0"' in page and page.count(strip.address) == 2


@pytest.mark.parametrize(("gammas", "rows"), [([], 2), ([0, 1], 6), (["x", 1], 2), ([1], 1)])
def test_a_strip_of_other_settings_is_shown_as_it_is(tmp_path, gammas, rows):
    write_strip(tmp_path, gammas, rows)
    assert strip_of(tmp_path) is None
    assert 'alt="degree_of_change"' in write_report(tmp_path, "a run").read_text("utf-8")
