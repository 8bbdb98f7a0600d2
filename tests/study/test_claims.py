"""Claims of a study: read from its file, tested on hand-made runs, written as a table and a figure."""

from dataclasses import replace
from math import inf

import pytest
from PIL import Image

from dclip.errors import DclipError
from dclip.files import write_json, write_rows
from dclip.record.runs import Run
from dclip.study.claims import CONFIRMED, OPEN, REFUTED, Claim, pairs_of, read_claims
from dclip.study.claims_table import markdown, write_claims
from dclip.study.findings import find
from dclip.study.grid import read_study
from dclip.study.jobs import Folders
from dclip.study.progress import Progress

ENTRY = {
    "claim": "More is better",
    "source": "Fig. 1",
    "of": {"part": "images"},
    "rows": {"images": 16},
    "against": {"images": 4},
    "metric": "score",
    "expected": "more",
}
SIXTEEN = (("part", "images"), ("images", "16"))
FOUR = (("part", "images"), ("images", "4"))
MORE = read_claims([ENTRY], "x.yaml")[0]


def run_of(folder, rows=None, **metrics):
    """A finished run with rows {column: {image: value}}."""
    folder.mkdir(parents=True)
    write_json(folder / "metrics.json", metrics)
    if rows:
        names = list(next(iter(rows.values())))
        columns = {name: [by_image[image] for image in names] for name, by_image in rows.items()}
        write_rows(folder / "rows.csv", {"image": names, **columns})
    return Run(folder)


def runs_of(folder, tables, column="score"):
    """Runs by seed, from one {image: value} each."""
    runs = {}
    for seed, table in enumerate(tables):
        runs[seed] = run_of(folder / str(seed), {column: table})
    return runs


def images(*values):
    return {f"i{k}": value for k, value in enumerate(values)}


# ----------------------------------------------------------------------------------- the form


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expected": "better"}, "claim 1: expected: better; choose from more, less"),
        ({"expected": "same"}, "a margin above 0 belongs to no_less, no_more, same"),
        ({"margin": 0.1}, "a margin above 0 belongs to"),
        ({"metrics": "mae"}, "claim 1 has metrics, which no claim has"),
    ],
)
def test_a_claim_that_cannot_be_tested_is_refused(change, message):
    with pytest.raises(DclipError, match=message):
        read_claims([{**ENTRY, **change}], "x.yaml")
    with pytest.raises(DclipError, match="claim 1 has no metric, source"):
        read_claims([{k: v for k, v in ENTRY.items() if k not in ("metric", "source")}], "x.yaml")


@pytest.mark.parametrize(
    ("expected", "margin", "low", "high", "verdict"),
    [
        ("more", 0, 0.1, 0.3, CONFIRMED),
        ("more", 0, -0.3, -0.1, REFUTED),
        ("more", 0, -0.1, 0.3, OPEN),
        ("less", 0, -0.3, -0.1, CONFIRMED),
        ("less", 0, 0.1, 0.3, REFUTED),
        ("no_less", 0.1, -0.05, 0.3, CONFIRMED),
        ("no_less", 0.1, -0.3, -0.2, REFUTED),
        ("no_more", 0.1, -0.3, 0.05, CONFIRMED),
        ("no_more", 0.1, 0.05, 0.3, OPEN),
        ("same", 0.1, -0.05, 0.05, CONFIRMED),
        ("same", 0.1, 0.2, 0.3, REFUTED),
        ("same", 0.1, -0.3, -0.2, REFUTED),
        ("same", 0.1, -0.2, 0.2, OPEN),
    ],
)
def test_the_interval_decides(expected, margin, low, high, verdict):
    claim = replace(MORE, expected=expected, margin=margin)
    assert claim.verdict(low, high) == verdict


def test_one_seed_that_disagrees_leaves_it_open():
    assert MORE.verdict(0.1, 0.3, [0.2, 0.2]) == CONFIRMED
    assert MORE.verdict(0.1, 0.3, [0.2, -0.01]) == OPEN
    assert MORE.allowed == (0, inf)


def test_rows_that_agree_in_their_other_labels_are_compared():
    rows = []
    for edit in ("hair", "beard"):
        rows += [(("edit", edit), ("t0", "300")), (("edit", edit), ("t0", "500"))]
    claim = Claim("c", "s", {"t0": "300"}, {"t0": "500"}, "mae", "more")
    assert pairs_of(claim, rows) == [(rows[0], rows[1]), (rows[2], rows[3])]
    assert pairs_of(replace(claim, of={"edit": "beard"}), rows) == [(rows[2], rows[3])]
    assert pairs_of(replace(claim, against=0.5), rows) == [(rows[0], None), (rows[2], None)]
    assert pairs_of(replace(claim, rows={"t0": "9"}), rows) == []


# ---------------------------------------------------------------------------------- the test


def test_images_are_paired_by_name_and_seed(tmp_path):
    noise = [0.0, 5.0, -3.0, 1.0]  # far larger than the difference
    ours = runs_of(tmp_path / "a", [images(*(x + 0.1 for x in noise))] * 2)
    backwards = {f"i{k}": noise[k] for k in (3, 2, 1, 0)}
    theirs = runs_of(tmp_path / "b", [backwards] * 2)
    found = find(MORE, {SIXTEEN: ours, FOUR: theirs}, [0, 1])
    assert (found.difference, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.ours == pytest.approx(0.85) and found.seeds == pytest.approx((0.1, 0.1))
    assert (found.n, found.random, found.verdict) == (4, True, CONFIRMED)


def test_seeds_are_drawn_as_well_as_images(tmp_path):
    """Images agree within a seed, seeds do not: only what is drawn by seed can be uncertain."""
    ours = runs_of(tmp_path / "a", [images(*[x] * 8) for x in (0.3, 0.1, -0.1)])
    theirs = runs_of(tmp_path / "b", [images(*[0.0] * 8)] * 3)
    found = find(MORE, {SIXTEEN: ours, FOUR: theirs}, [0, 1, 2])
    assert found.difference == pytest.approx(0.1)
    assert found.low == pytest.approx(-0.1) and found.high == pytest.approx(0.3)
    assert found.verdict == OPEN
    fewer = find(MORE, {SIXTEEN: {0: ours[0]}, FOUR: {0: theirs[0]}}, [0, 1, 2])
    assert (fewer.low, fewer.high) == pytest.approx((0.3, 0.3))
    assert fewer.verdict == OPEN and fewer.why_open == "1 of 3 seeds were run"


def test_only_images_of_both_count_and_variants_are_averaged(tmp_path):
    ours = {0: run_of(tmp_path / "a", {"score": {"i0_v1": 1.0, "i0_v2": 3.0, "i1_v1": 9.0}})}
    theirs = {0: run_of(tmp_path / "b", {"score": {"i0": 1.5}})}
    found = find(MORE, {SIXTEEN: ours, FOUR: theirs}, [0])
    assert (found.ours, found.difference, found.n) == (2.0, 0.5, 1)


def test_a_ratio_is_of_means(tmp_path):
    def run(name, above):
        return {0: run_of(tmp_path / name, {"d": images(*above), "u": images(1.0, 3.0)})}

    claim = replace(MORE, metric="d / u", expected="less")
    found = find(claim, {SIXTEEN: run("a", (1, 1)), FOUR: run("b", (1, 3))}, [0])
    assert (found.ours, found.difference) == (0.5, -0.5)


def test_numbers_of_whole_runs_are_drawn_over_rows_and_seeds(tmp_path):
    finished = {}
    for prompt, shift in (("beard", 1.0), ("angry", 3.0)):
        for images_, kid in (("16", 10.0), ("4", 10.0 - shift)):
            runs = {}
            for seed in (0, 1):
                runs[seed] = run_of(tmp_path / f"{prompt}{images_}{seed}", kid_10=kid + seed)
            finished[(("part", "images"), ("prompt", prompt), ("images", images_))] = runs
    found = find(replace(MORE, metric="kid_10"), finished, [0, 1])
    assert (found.difference, found.low, found.high) == (2.0, 1.0, 3.0)
    assert (found.n, found.unit, found.seeds) == (2, "rows", (2.0, 2.0))
    assert found.verdict == CONFIRMED


def test_a_claim_may_name_a_number(tmp_path):
    claim = replace(MORE, against=0.5)
    runs = runs_of(tmp_path / "a", [images(0.8, 0.6)] * 2)
    found = find(claim, {SIXTEEN: runs}, [0, 1])
    assert found.difference == pytest.approx(0.2) and found.verdict == CONFIRMED
    assert "0.7 for images=16 against a mark of 0.5: +0.2" in markdown("t", [found], "origin")


def test_what_was_not_run_or_not_measured_is_said(tmp_path):
    nothing = find(MORE, {SIXTEEN: {}, FOUR: {}}, [0])
    assert (nothing.verdict, nothing.why_open) == (OPEN, "not run")
    runs = runs_of(tmp_path / "a", [images(1.0)])
    absent = find(replace(MORE, metric="lpips"), {SIXTEEN: runs, FOUR: runs}, [0])
    assert absent.why_open == "the runs have no lpips"
    ratio = find(replace(MORE, metric="score / lpips"), {SIXTEEN: runs, FOUR: runs}, [0])
    assert (ratio.verdict, ratio.why_open) == (OPEN, "the runs have no score / lpips")
    text = markdown("t", [nothing, absent], "origin")
    assert "**not decided**; not run." in text and "the runs have no lpips" in text


# ----------------------------------------------------------------------------------- a study

STUDY = """\
title: "Two steps"
base: [task=reconstruct]
seeds: [0, 1]
axes:
  t0: {"300": sampler.t0=300, "500": sampler.t0=500}
columns: [mae]
claims:
  - {claim: Less noise, source: Table 1, rows: {t0: "300"}, against: {t0: "NUMBER"}, metric: mae,
     expected: less}
"""


def study_of(folder, number="500"):
    path = folder / "claims.yaml"
    path.write_text(STUDY.replace("NUMBER", number), "utf-8")
    return read_study(str(path))


def test_claims_of_rows_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(DclipError, match="'Less noise' compares rows that the study does not have"):
        study_of(tmp_path, "700")


def test_a_study_writes_its_claims(tmp_path):
    progress = Progress(study_of(tmp_path), Folders(tmp_path / "runs", tmp_path / "table", True))
    assert write_claims(progress) is None
    for planned in progress.unique():
        mae = 0.1 if "sampler.t0=300" in planned.settings else 0.2
        folder = tmp_path / "runs" / planned.digest
        run_of(folder, {"mae": images(mae, mae)})
        write_json(folder / "status.json", {"status": "finished", "config": planned.digest})
    progress.refresh()
    path = write_claims(progress)
    text = path.read_text("utf-8")
    assert "| Less noise | Table 1 | t0=300 against t0=500 | mae | -0.1 [-0.1, -0.1] |" in text
    assert "**confirmed**. mae is 0.1 for t0=300 against 0.2 for t0=500: -0.1" in text
    assert "over 2 images; nothing is random" in text
    assert Image.open(tmp_path / "table" / "claims.png").size[0] > 400
    earlier = (tmp_path / "table" / "claims.csv").read_text("utf-8")
    (tmp_path / "table" / "claims.csv").write_text(earlier + earlier.splitlines()[1] + "\n")
    assert write_claims(progress).parent == tmp_path / "runs" / "table"  # of fewer claims
