"""Two runs side by side: which is better on the same pictures, and what tells them apart."""

import pytest
from omegaconf import OmegaConf

from dclip.data.images import save_pngs
from dclip.files import write_json, write_rows
from dclip.metrics.paired import difference
from dclip.pages import against
from dclip.record.runs import Run
from helpers.images import images16
from helpers.run_folders import write_run

IDS = ["a", "b", "c", "d"]


def rows(**columns):
    return {name: {k: v[i] for k, v in columns.items()} for i, name in enumerate(IDS)}


def test_a_difference_is_taken_picture_by_picture():
    hard = rows(mae=[0.1, 0.4, 0.7, 1.0])
    easier = rows(mae=[0.08, 0.37, 0.68, 0.97])
    found = difference("mae", hard, easier)
    assert found.count == 4 and found.value == pytest.approx(-0.025)
    low, high = found.interval
    assert -0.031 < low < high < -0.019  # although the pictures themselves differ by 0.9
    assert difference("mae", hard, {"z": {"mae": 1.0}}) is None
    assert difference("mae", hard, {"a": {"mae": None}}) is None
    assert difference("mae", hard, {"a": {"mae": 0.2}}).interval is None  # of one picture


def test_a_ratio_is_compared_as_a_ratio_and_variants_count_once():
    base = [2.0, 2.0, 4.0, 4.0]
    one = rows(truth_distance=[1.0, 1.0, 2.0, 2.0], truth_distance_untouched=base)
    other = rows(truth_distance=[0.5, 0.5, 1.0, 1.0], truth_distance_untouched=base)
    found = difference("counterfactual_ratio", one, other)
    assert found.value == pytest.approx(-0.25) and found.interval == pytest.approx((-0.25, -0.25))
    zero = rows(truth_distance=[0.0] * 4, truth_distance_untouched=[0.0] * 4)
    assert difference("counterfactual_ratio", zero, zero) is None
    twice = {"a_v1": {"mae": 1.0}, "a_v2": {"mae": 3.0}}
    assert difference("mae", twice, twice, variants=True).count == 1
    assert difference("mae", twice, twice).count == 2  # somebody's own names


@pytest.fixture
def pair(tmp_path):
    """Two runs on the same four pictures; B is nearer to the truth on each of them."""
    runs = []
    for name, scale in (("one", 1.0), ("two", 0.5)):
        folder = write_run(tmp_path / name, IDS, seconds=600)
        distance = [scale * (0.5 + k) for k in range(4)]
        table = {"image": IDS, "truth_distance": distance, "truth_distance_untouched": [2.0] * 4}
        write_rows(folder / "rows.csv", table)
        write_json(
            folder / "metrics.json", {"counterfactual_ratio": scale, "kid": 0.1, "images": 4}
        )
        OmegaConf.save({"method": {"lr": scale}, "seed": 0, "output": name}, folder / "config.yaml")
        runs.append(Run(folder))
    return runs


def test_the_page_of_a_pair_says_which_is_better_and_shows_the_same_faces(pair, tmp_path):
    a, b = pair
    page = against.write_pair(
        tmp_path / "pair.html", against.Side("A", "lr=1", a), against.Side("B", "lr=0.5", b), "x"
    ).read_text("utf-8")
    assert "B is better" in page and "on the same 4 pictures; lower is better" in page
    assert "method.lr" in page and ">output<" not in page and "10 min" in page
    assert page.count('<button class="face"') == 4
    faces = against.faces_of(a, b, against.shared_pictures(a, b), ({}, {}))
    labels = [view.label for view in faces.faces[0].views]
    assert labels == ["before", "A", "B", "truth", "A and B differ"]
    (ratio, kid) = against.scores_of(a, b, ({}, {}))
    assert (ratio.name, kid.name, kid.difference) == ("counterfactual_ratio", "kid", "–")


def test_pictures_of_the_same_name_but_another_source_are_not_compared(pair):
    a, b = pair
    save_pngs(images16(4, seed=9).pixels, IDS, b.folder / "sources")
    assert against.shared_pictures(a, b) == []
    assert not against.nothing_shared(a, b)  # they still have scores in common
    (b.folder / "metrics.json").unlink()
    assert against.nothing_shared(a, Run(b.folder))


@pytest.mark.parametrize(
    ("name", "interval", "mood"),
    [
        ("mae", (-0.2, -0.1), "good"),
        ("mae", (0.1, 0.2), "bad"),
        ("mae", (-0.1, 0.1), ""),
        ("s_dir", (0.1, 0.2), "good"),
        ("mae", None, ""),
        ("images", (0.1, 0.2), ""),
    ],
)
def test_only_what_chance_does_not_explain_is_better(name, interval, mood):
    assert against.mood_of(name, against.Difference(0.1, interval, 4)) == mood
    score = against.ScoreRow(name, "", ("", ""), against.Difference(0.1, interval, 4), mood)
    said = against.verdict([score])
    assert said.short == {"good": "B is better", "bad": "A is better"}.get(
        mood, "Too close to call" if name == "mae" else "Not decided"
    )
