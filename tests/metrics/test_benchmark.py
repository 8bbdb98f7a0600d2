"""ToonFaces-CF: what is exported is the same to the byte, and known methods score what they must."""

import hashlib
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from dclip.config import Edit
from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.metrics.benchmark import minimality
from dclip.metrics.benchmark.bootstrap import Draws, interval, macro_means
from dclip.metrics.benchmark.export import export, true_masks
from dclip.metrics.benchmark.results import read_results
from dclip.metrics.benchmark.score import Measures, score, with_truth
from dclip.metrics.benchmark.tasks import FACES, TEXTS, task_named, tasks_named
from dclip.pages.benchmark import write_outcome
from dclip.types import to_uint8
from helpers.runs import configure

RED, BEARD, PAIR, SKETCH = (
    task_named(name) for name in ("red_hair", "beard", "red_hair+beard", "sketch")
)
FEW = 4
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few faces to compare with: each is drawn."""
    patch = pytest.MonkeyPatch()
    patch.setattr(minimality.Minimality, "references", 3)
    measures = Measures.load(CPU)
    patch.setattr(Measures, "load", lambda device: measures)
    yield measures
    patch.undo()


@pytest.fixture(scope="module")
def faces():
    """Sources and truths of the first faces, by task."""
    return {task.name: with_truth(task, task.faces(FEW)) for task in (RED, BEARD, PAIR, SKETCH)}


def write(folder, ids, pictures):
    for name, picture in zip(ids, pictures, strict=True):
        save_png(picture, folder / f"{name}.png")


def write_task(root, task, faces, pictures):
    write(root / task.name, faces[task.name].source.ids, pictures)


def scored(root, tasks=(RED,), faces=FEW, draws=0):
    return score(read_results(root), tasks, faces, draws, Measures.load(CPU))


def noise(like, seed=0):
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# -------------------------------------------------------------------------------- what is exported


def test_the_benchmark_has_fifteen_edits_and_pairs_of_them_of_a_hundred_faces():
    tasks = tasks_named([])
    assert sum(not task.is_pair for task in tasks) == 15
    assert {part for task in tasks for part in task.parts} <= set(TEXTS)
    assert len(set(BEARD.ids())) == FACES
    assert all(task.truth.applies(face) for task in (BEARD, PAIR) for face in task.faces(FEW).facts)


@pytest.mark.parametrize("name", [name for name in TEXTS if "+" not in name])
def test_the_texts_are_those_that_the_experiments_learn_from(name):
    options = configure(f"experiment=toonfaces_{name}").edit
    assert isinstance(options, Edit) and TEXTS[name] == (options.source, options.target)


def test_kid_of_the_truth_is_below_zero_and_that_of_noise_is_not(quick, faces):
    truth = faces["red_hair"].truth.repeat(
        25, 1, 1, 1
    )  # half as many make a subset, of at least 50
    assert quick.kid(RED, truth, truth, 2).values["kid"] < 0
    assert quick.kid(RED, noise(truth), truth, 2).values["kid"] > 100


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_export_is_the_same_to_the_byte_and_a_part_is_a_part(tmp_path):
    export(tmp_path / "a", [RED, SKETCH], 2)
    export(tmp_path / "b", [RED, SKETCH], 2)
    export(tmp_path / "part", [RED], 1)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    source = "red_hair/source/test_00000.png"
    assert (tmp_path / "part" / source).read_bytes() == (tmp_path / "a" / source).read_bytes()
    assert not list((tmp_path / "part").glob("*/*/test_00001.png"))


def test_the_pictures_are_those_of_this_version(tmp_path):
    """Another hash is another benchmark: raise VERSION."""
    manifest = export(tmp_path / "cf", [RED, BEARD], 3)
    red, beard = (manifest["edits"][name] for name in ("red_hair", "beard"))
    assert red["faces"][0]["source"].startswith("c4fca38b2b05")
    assert red["faces"][0]["mask"].startswith("d5216a21052184")
    assert red["truths"].startswith("e87caae1463f78")
    assert beard["truths"].startswith("b653cf24de31b3")
    assert manifest == read_json(tmp_path / "cf" / "manifest.json")


def test_no_task_of_this_version_has_changed(tmp_path):
    manifest = export(tmp_path / "cf", tasks_named([]), 1)
    text = json.dumps(manifest["edits"], sort_keys=True)
    assert len(manifest["edits"]) == 21
    assert hashlib.sha256(text.encode()).hexdigest().startswith("fdaff5d9685098b7")


def test_masks_are_where_the_truth_differs_and_a_style_has_none(tmp_path, faces):
    export(tmp_path / "cf", [RED, SKETCH], 2)
    mask = np.asarray(Image.open(tmp_path / "cf" / "red_hair" / "mask" / "test_00001.png"))
    red = faces["red_hair"]
    source, truth = (np.asarray(to_uint8(x)[1]) for x in (red.source.pixels, red.truth))
    assert ((mask == 255) == (source != truth).any(0)).all() and set(np.unique(mask)) == {0, 255}
    assert not (tmp_path / "cf" / "sketch" / "mask").exists()
    assert not [name for name in (tmp_path / "cf").rglob("*") if "truth" in name.name]


def test_an_export_overwrites_nothing(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DclipError, match="holds something already"):
        export(tmp_path, [RED], 1)
    with pytest.raises(DclipError, match=r"mine\.txt/new cannot be written"):
        export(tmp_path / "mine.txt" / "new", [RED], 1)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]


# ---------------------------------------------------------------------------- known methods


def test_the_truth_scores_one(tmp_path, faces):
    write_task(tmp_path, RED, faces, faces["red_hair"].truth)
    values = scored(tmp_path).tasks[0].values
    for name in ("truth_score", "truth_score_in_region", "closer", "effectiveness"):
        assert values[name] == pytest.approx(1, abs=1e-5)
    for name in ("edit_accuracy", "preservation_accuracy", "edit_iou", "true_success"):
        assert values[name] == 1
    assert values["counterfactual_ratio"] == 0 and values["amplification"] < 1e-5


def test_the_untouched_source_scores_nothing(tmp_path, faces):
    write_task(tmp_path, RED, faces, faces["red_hair"].source.pixels)
    values = scored(tmp_path).tasks[0].values
    for name in ("truth_score", "truth_score_in_region", "closer", "effectiveness", "true_success"):
        assert values[name] == 0
    assert values["preservation_accuracy"] == 1 and values["counterfactual_ratio"] == 1
    assert values["cld"] == pytest.approx(math.log(0.8 + 0.2 * math.e))


def test_a_random_picture_is_worse_than_nothing_and_its_mask_helps(tmp_path, faces):
    write_task(tmp_path, RED, faces, noise(faces["red_hair"].truth))
    values = scored(tmp_path).tasks[0].values
    assert values["truth_score"] < -1 and values["closer"] == 0
    assert values["truth_score"] < values["truth_score_in_region"] < 1


def test_an_oracle_mask_reaches_its_ceiling(tmp_path, faces):
    red = faces["red_hair"]
    result = (red.truth + 0.4 * noise(red.truth)).clamp(-1, 1)
    write_task(tmp_path / "whole", RED, faces, result)
    write_task(
        tmp_path / "masked", RED, faces, torch.where(red.region > 0, result, red.source.pixels)
    )
    whole, masked = (scored(tmp_path / name).tasks[0].values for name in ("whole", "masked"))
    ceiling = whole["truth_score_in_region"]
    assert whole["truth_score"] < ceiling
    assert masked["truth_score"] == masked["truth_score_in_region"] == pytest.approx(ceiling)
    assert masked["preservation_accuracy"] == 1


def test_the_judge_looks_once_at_a_picture(quick, faces, monkeypatch):
    judge, looked = quick.scorers.judge, []
    sees = judge.sees
    monkeypatch.setattr(judge, "sees", lambda images: looked.append(len(images)) or sees(images))
    rows = quick.rows(RED, faces["red_hair"])
    assert looked == [FEW] and {"judge_success", "true_success", "attribute_skin"} <= set(rows)


def test_source_and_truth_stand_beside_every_result(tmp_path, faces):
    write_task(tmp_path, RED, faces, faces["red_hair"].truth)
    known = scored(tmp_path).known
    assert known.source["red_hair"]["truth_score"] == 0
    assert known.truth["red_hair"]["truth_score"] == 1


def test_a_style_has_a_judge_and_no_truth(tmp_path, faces):
    write_task(tmp_path, SKETCH, faces, faces["sketch"].source.pixels)
    values = scored(tmp_path, [SKETCH]).tasks[0].values
    assert values["judge_success"] == 0 and "no single true picture" in values["closer_absent"]


# --------------------------------------------------------------------- more than one picture a face


def test_composition_and_reversibility_are_scored_where_their_pictures_are(tmp_path, faces):
    red = faces["red_hair"]
    write_task(tmp_path, RED, faces, red.truth)
    write(tmp_path / "red_hair" / "reversibility", red.source.ids[:2], red.source.pixels[:2])
    write(tmp_path / "red_hair" / "composition_1", red.source.ids, red.truth)
    outcome = scored(tmp_path)
    values = outcome.tasks[0].values
    assert values["reversibility"] == 0 and values["composition_1"] > 0
    assert "red_hair/composition_10" in values["composition_10_absent"]
    assert outcome.results.troubles == []


def test_commutativity_compares_the_two_orders_of_a_pair(tmp_path, faces):
    pair = faces["red_hair+beard"]
    write_task(tmp_path, PAIR, faces, pair.truth)
    one = scored(tmp_path, [PAIR]).tasks[0].values
    assert "beard+red_hair" in one["commutativity_absent"] and one["judge_success_beard"] == 1
    darker = pair.truth - 0.2
    write(tmp_path / "beard+red_hair", pair.source.ids, darker)
    other = scored(tmp_path, [PAIR]).tasks[0].values
    expected = (to_uint8(pair.truth).float() - to_uint8(darker).float()).abs().mean() / 255
    assert other["commutativity"] == pytest.approx(float(expected), abs=1e-5)


def test_seeds_are_scored_together(tmp_path, faces):
    red = faces["red_hair"]
    write_task(tmp_path / "seed_0", RED, faces, red.truth)
    write_task(tmp_path / "seed_1", RED, faces, red.source.pixels)
    one = scored(tmp_path, draws=50).tasks[0]
    assert one.seeds == ("seed_0", "seed_1") and one.expected == 2 * FEW
    assert one.values["truth_score"] == pytest.approx(0.5)
    assert one.values["truth_score_low"] == pytest.approx(0)  # two seeds that disagree say little
    assert one.values["truth_score_high"] == pytest.approx(1)


# ----------------------------------------------------------------------------- what is not right


@pytest.fixture
def odd(tmp_path, faces):
    """Results of which only the second face can be scored, from a missing, a resized and a broken file."""
    red = faces["red_hair"]
    write_task(tmp_path, RED, faces, red.truth)
    folder = tmp_path / "red_hair"
    (folder / "test_00000.png").rename(folder / "face0.png")
    Image.new("RGB", (32, 32)).save(folder / "test_00002.png")
    (folder / "test_00003.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 64)).save(folder / "test_99999.png")
    Image.new("RGB", (64, 64)).save(folder / "image_test_00001.jpg")
    Image.new("RGB", (64, 64)).save(tmp_path / "stray.png")
    write(tmp_path / "red-hair", red.source.ids, red.truth)
    write(tmp_path / "red_hair" / "composition", red.source.ids, red.truth)
    return tmp_path


@pytest.mark.parametrize(
    "trouble",
    [
        "red_hair/face0.png is left out: no face is called face0; should it be test_00000?",
        "red_hair/test_00002.png is left out: it is 32x32, not 64x64",
        "red_hair/test_00003.png cannot be read as an image (not an image)",
        "red_hair/test_99999.png is left out: that face is not among this edit's",
        "red_hair/test_00001.png is left out: image_test_00001.jpg is of that face",
        "red_hair: 3 of 4 pictures are missing or cannot be scored: test_00000, test_00002, test_00003",
        "red-hair: there is no such edit; did you mean red_hair?",
        "red_hair/composition: no such pictures are scored; did you mean composition_1",
        "1 pictures lie beside the edits' folders: stray.png",
    ],
)
def test_what_cannot_be_scored_is_named(odd, trouble):
    outcome = scored(odd)
    assert any(said.startswith(trouble) for said in outcome.results.troubles), (
        outcome.results.troubles
    )


def test_the_rest_is_scored(odd):
    (odd / "red_hair" / "image_test_00001.jpg").unlink()
    outcome = scored(odd, [RED, BEARD])
    (one,) = outcome.tasks
    assert (one.count, one.expected) == (1, 4) and one.values["truth_score"] == 1
    assert outcome.absent == ["beard"] and not outcome.complete


def test_a_folder_without_results_is_refused_with_an_example(tmp_path):
    with pytest.raises(DclipError, match=r"expected .*red_hair/test_00000\.png"):
        scored(tmp_path)
    with pytest.raises(DclipError, match="is no folder"):
        read_results(tmp_path / "nowhere")


def test_results_of_another_version_are_refused(tmp_path):
    (tmp_path / "method.json").write_text(json.dumps({"benchmark": "0.9"}))
    with pytest.raises(DclipError, match=r"benchmark 0\.9; here is ToonFaces-CF"):
        read_results(tmp_path)


def test_an_unknown_edit_is_named():
    with pytest.raises(DclipError, match="did you mean red_hair"):
        tasks_named(["red_hairs"])


# ----------------------------------------------------------------------------------- intervals


def test_the_bootstrap_of_one_seed_is_that_of_faces():
    values = torch.arange(20.0)[None]
    low, high = interval(Draws.of(1, 20, 2000).means(values))
    spread = 1.96 * float(values.std(correction=0)) / math.sqrt(20)
    assert low == pytest.approx(9.5 - spread, abs=0.6)
    assert high == pytest.approx(9.5 + spread, abs=0.6)


def test_seeds_that_disagree_widen_the_interval_and_missing_pictures_do_not_count():
    alike = torch.arange(20.0).repeat(3, 1)
    apart = alike + torch.tensor([-5.0, 0, 5])[:, None]
    widths = []
    for values in (alike, apart):
        low, high = interval(Draws.of(3, 20, 1000).means(values))
        widths.append(high - low)
    assert widths[1] > 1.5 * widths[0]
    missing = torch.full((2, 5), torch.nan)
    missing[0] = 3
    found = Draws.of(2, 5, 100).means(missing)
    assert bool((found[~found.isnan()] == 3).all()) and float(found.nanmean()) == 3


def test_a_macro_interval_holds_the_edits_that_might_have_been_chosen():
    same = [torch.full((200,), value) for value in (0.2, 0.2, 0.2)]
    apart = [torch.full((200,), value) for value in (0.0, 0.2, 0.4)]
    assert interval(macro_means(same)) == pytest.approx((0.2, 0.2))
    low, high = interval(macro_means(apart))
    assert low < 0.1 and high > 0.3


def test_minimality_is_the_formula():
    shown = torch.tensor([[1.0, 0], [3.0, 0], [4.0, 0], [5.0, 0]])
    own = torch.tensor([[0.5, 0], [2.5, 0]])
    before, after = torch.zeros(2), torch.tensor([2.0, 0])
    expected = math.log(0.8 * math.exp(1 / 4) + 0.2 * math.exp(1 / 2))
    assert float(minimality.divergence(before, after, shown, own)) == pytest.approx(expected)


def test_a_card_with_a_wrong_key_or_no_number_is_told_of_and_the_rest_is_read(tmp_path):
    card = {"name": "mine", "nam": "x", "seconds": "fast", "calls": 3}
    (tmp_path / "method.json").write_text(json.dumps(card))
    results = read_results(tmp_path)
    assert (results.name, results.card["calls"]) == ("mine", 3)
    assert "seconds" not in results.card
    key, number = results.troubles
    assert "nam is left out: none of name, command" in key
    assert "seconds is left out: 'fast' is no number" in number


# ------------------------------------------------------------------------------------ the page


def test_the_page_shows_scores_best_and_worst_and_needs_no_other_file(tmp_path, faces):
    red = faces["red_hair"]
    halves = red.truth.clone()
    halves[0] = noise(red.truth)[0]
    write_task(tmp_path / "r", RED, faces, halves)
    card = {"name": "mine <b>", "command": "python mine.py", "benchmark": "ToonFaces-CF 1.0"}
    (tmp_path / "r" / "method.json").write_text(json.dumps(card))
    (tmp_path / "r" / "red_hair" / "test_00003.png").unlink()
    page = write_outcome(tmp_path / "out", scored(tmp_path / "r", draws=20)).read_text("utf-8")
    assert "mine &lt;b&gt;" in page and "python mine.py" in page
    assert "best: test_00001 1.00" in page and "worst: test_00000 -" in page
    assert "wrongly changed" in page and page.count("data:image/png") == 2
    assert 'src="' not in page.replace('src="data:', "") and "http" not in page.split("</style>")[0]
    rows = (tmp_path / "out" / "rows.csv").read_text("utf-8").splitlines()
    assert len(rows) == 4 and rows[1].startswith("red_hair,,test_00000,0.0")
    summary = read_json(tmp_path / "out" / "summary.json")
    assert summary["method"]["name"] == "mine <b>" and summary["complete"] is False
    assert summary["tasks"]["red_hair"]["scored"] == 3
    assert "3 of 4 pictures" in page and "1 of 4 pictures are missing" in page


def test_kid_compares_with_the_truths(quick, faces):
    red = faces["red_hair"]
    few = quick.kid(RED, red.truth, red.truth, 10).values
    assert "4 images are too few" in few["kid_absent"]
    truth = red.truth.repeat(15, 1, 1, 1)
    near = quick.kid(RED, truth, truth, 10).values["kid"]
    far = quick.kid(RED, noise(truth), truth, 10).values["kid"]
    assert near < far


def test_masks_of_pictures_by_hand():
    source, truth = torch.zeros(1, 3, 1, 3), torch.zeros(1, 3, 1, 3)
    truth[0, 1, 0, 2] = 0.5
    assert true_masks(source, truth).tolist() == [[[0, 0, 255]]]
    assert [a < b for a, b in pairwise(RED.indices(5))] == [True] * 4
