"""A run's numbers as its page and the console show them, and the page itself."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from dclip.config import plain
from dclip.data.images import save_pngs
from dclip.files import write_json
from dclip.metrics.contract import METRICS as QUANTITIES
from dclip.metrics.contract import Metric, Scores
from dclip.metrics.scorers import Scorers
from dclip.pages.faces import DISTANCE, faces_of
from dclip.pages.plots import Plot, plots_of, svg_of, with_mfu
from dclip.pages.report import headline, metric_rows, text_table, write_report
from dclip.pages.settings import changed
from dclip.pages.summary import answer, costs, next_steps
from dclip.runtime.durations import duration
from dclip.types import Edited
from helpers.browser import PHONE, open_browser
from helpers.images import images16
from helpers.run_folders import write_run, write_strip
from helpers.runs import configure

METRICS = {
    "mae": 0.03125,
    "mae_low": 0.03,
    "mae_high": 0.04,
    "judge_success": 0.97,
    "closer": 0.5,
    "closer_low": 0.25,
    "closer_high": 0.75,
    "id_absent": "no identity network",
    "images": 4,
    "kid_low": 0.1,  # an interval's end without its number is a number like others
}


def test_the_truth_comes_first_with_its_interval():
    rows = metric_rows(METRICS)
    names = [row.name for row in rows]
    assert names == ["closer", "judge_success", "id", "mae", "images", "kid_low"]
    assert rows[0].value == "0.5 [0.25, 0.75]" and rows[0].arrow == "↑"
    assert "nearer to the true edited picture" in rows[0].meaning
    assert rows[1].value == "0.97"
    assert rows[2].absent


def test_what_is_said_first_is_how_near_the_truth_an_edit_comes():
    said = headline({**METRICS, "counterfactual_ratio": 1.331})
    assert [number.value for number in said] == ["50 %", "1.33", "97 %"]
    assert "closer to the truth" in said[0].words and "judge" in said[2].words
    assert headline({"judge_success": 1.0}) == []  # nothing is known of the truth


def test_where_no_truth_is_known_it_is_what_others_see_and_how_much_was_changed():
    own = {"s_dir": 0.4, "s_dir_heldout": 0.312, "changed_pixels": 0.083, "background_psnr": 41.26}
    said = headline({**own, "id_absent": "none"})
    assert [number.value for number in said] == ["0.31", "8%", "41.3 dB"]
    assert "only scores" in said[0].words and "pixels changed" in said[1].words
    assert [number.value for number in headline({"p_target_heldout": 0.5})] == ["50%"]
    assert headline({"s_dir_heldout_absent": "no held-out CLIP"}) == []


def test_the_console_shows_the_same_in_the_same_order():
    lines = text_table(METRICS).splitlines()
    assert [line.split()[0] for line in lines] == [row.name for row in metric_rows(METRICS)]
    assert lines[0].endswith("0.5000 [0.25, 0.75]")
    assert "no identity network" in lines[2]


def test_kid_is_never_shown_without_its_interval():
    kid = {"kid_10": 0.5, "kid_10_std": 0.2, "kid_low": -0.25, "kid_high": 0.75}
    free = {"kid_10_free": 1.5, "kid_10_free_low": 1.0, "kid_10_free_high": 2.0}
    rows = {row.name: row.value for row in metric_rows({**kid, **free})}
    assert rows["kid_10"] == "0.5 [-0.25, 0.75]"
    assert rows["kid_10_free"] == "1.5 [1, 2]"
    assert not any(name.endswith(("_low", "_high")) for name in rows)
    assert "0.5000 [-0.25, 0.75]" in text_table({**kid, **free})


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>'\"&"


def test_texts_and_names_of_a_run_are_text_on_its_page(tmp_path):
    names = (f"{HOSTILE.replace('/', '_')}.png", "before_after.png")
    (tmp_path / "samples").mkdir()
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / "samples" / name)
    (tmp_path / "config.yaml").write_text(f"edit: {{target: {HOSTILE}}}\n")
    write_json(tmp_path / "status.json", {"status": HOSTILE, "reason": HOSTILE,
                                          "command": [f"edit.target={HOSTILE}"]})  # fmt: skip
    write_json(tmp_path / "metrics.json", {"closer": 0.5, "id_absent": HOSTILE, HOSTILE: 1.0})
    (tmp_path / "curves.jsonl").write_text(json.dumps({"step": 1, HOSTILE: 1.0}) + "\n")
    page = write_report(tmp_path, HOSTILE, HOSTILE).read_text("utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page and "<img src=x" not in page


# ------------------------------------------------------------ the verdict in one sentence

NEARER = {"counterfactual_ratio": 0.74, "images": 32}


def between(name, low, high):
    return {f"{name}_low": low, f"{name}_high": high}


@pytest.mark.parametrize(
    ("metrics", "mood", "short", "part"),
    [
        (NEARER | between("counterfactual_ratio", 0.68, 0.8), "good", "It worked",
         "the 32 edited pictures come 26 % nearer to the true pictures than the untouched ones "
         "(95 % interval 20 % to 32 %)."),
        (NEARER | between("counterfactual_ratio", 0.6, 1.1), "open", "Undecided", "0.60 to 1.10"),
        ({"counterfactual_ratio": 1.3, "images": 1}, "bad", "It did not work", "1 edited picture "),
        ({"s_dir_heldout": 0.3, "s_dir": 0.5} | between("s_dir_heldout", 0.2, 0.4), "good",
         "The edit shows", "by 0.30 (95 % interval 0.20 to 0.40)"),
        ({"s_dir": -0.1} | between("s_dir", -0.2, 0.0), "bad", "The edit does not show",
         "the CLIP that guided"),
        ({"s_dir_heldout": 0.1} | between("s_dir_heldout", -0.01, 0.21), "open", "Undecided",
         "The interval holds 0: it may be chance."),
        ({"s_dir": 0.4, "images": 1}, "open", "Too few pictures to say", "by 0.40; 0 is not"),
        ({"p_target_heldout": 0.1, "clip_calls": 0.0}, "plain", "Finished", "nothing guided; "),
        ({"p_target_heldout": 0.81, "count": 8}, "good", "The samples show the words", "81 %"),
        ({"psnr": 52.4, "images": 2}, "plain", "Finished", "PSNR of 52.4 dB"),
        ({}, "plain", "Finished", "below"),
    ],
)  # fmt: skip
def test_the_verdict_is_a_sentence_with_its_interval(metrics, mood, short, part):
    said = answer(metrics)
    assert (said.mood, said.short) == (mood, short) and part in said.words


def test_a_good_verdict_is_doubted_where_something_speaks_against_it():
    assert answer(NEARER, doubt=True).short == "It worked in part"
    assert answer({"counterfactual_ratio": 1.3}, doubt=True).short == "It did not work"
    assert answer({}, running=True).short == "Running"


def test_what_a_run_cost_is_said_as_people_say_it():
    status = {"seconds": 3720, "environment": {"gpu": None, "cpus": 2}}
    said = {fact.name: fact.value for fact in costs({"seconds_adapt": 20.04, "mfu": 0.82}, status)}
    assert said["whole run"] == "62 min" and said["learning"] == "20 s"
    assert said["to run on"] == "2 CPU cores" and "82 %" in said.values()
    assert [duration(s) for s in (0.014, 99.6, 7500)] == ["0.014 s", "100 s", "2 h 5 min"]
    assert costs({}, {}) == []


# ------------------------------------------------------------ untouched and truth


def scored(metric, edited):
    """The mean of a metric that needs no network."""
    scores = Scores()
    scores.take(metric.name, metric.compute(edited, Scorers()))
    return scores.values[metric.name]


def of_pixels():
    """The metrics that need no network."""
    found = []
    for metric in QUANTITIES.values():
        if isinstance(metric, Metric) and set(metric.needs) <= {"true_pictures"}:
            found.append(metric)
    return [m for m in found if m.name != "lpips" and (m.untouched, m.truth) != (None, None)]


@pytest.mark.parametrize("metric", of_pixels(), ids=lambda metric: metric.name)
def test_what_untouched_and_true_pictures_score_is_what_the_metric_measures(metric):
    source, truth = images16(3), images16(3, seed=1).pixels
    if metric.untouched is not None:
        untouched = scored(metric, Edited(source, source.pixels, truth))
        assert untouched == pytest.approx(metric.untouched, abs=1e-5)
    if metric.truth is not None:
        assert scored(metric, Edited(source, truth, truth)) == pytest.approx(metric.truth, abs=1e-5)


def test_every_score_has_an_axis_of_its_own_with_both_lines():
    curves = {
        "loss_total": [(0, 2.0), (1, 1.5)],
        "loss_id": [(0, 0.5), (1, 0.25)],
        "val_id": [(0, 0.5), (1, 0.25)],  # a term of the loss, not the metric of this name
        "val_counterfactual_ratio": [(0, 1.5), (1, 0.5)],
        "lr": [(0, 1e-3), (1, 1e-4)],
        "images_per_s": [(1, 3.0)],
        "loss": [(0, 2.0), (1, 1.0)],
    }
    plots = {plot.title: plot for plot in plots_of(curves)}
    assert plots["validation loss by term"].names == ["val_id"]
    score = plots["counterfactual_ratio, validation images"]
    assert score.levels == {"untouched": 1, "truth": 0}
    drawn = svg_of(curves, score)
    assert drawn.count("<polyline") == 3 and drawn.count("stroke-dasharray") == 4
    assert "learning rate" in svg_of(curves, plots["learning rate"])
    assert svg_of(curves, plots["training images a second"]) == ""  # one point is no curve
    assert svg_of(curves, plots["training loss"]).count("<polyline") == 1  # of a pretraining


def test_how_much_of_the_device_was_used_follows_the_images_a_second():
    curves = {"images_per_s": [(1, 2.0), (2, 4.0)]}
    used = with_mfu(curves, {"mfu": 0.3, "images_per_s": 3.0})["mfu"]
    assert used == [(1, pytest.approx(0.2)), (2, pytest.approx(0.4))]
    assert with_mfu(curves, {"images_per_s": 3.0}) is curves


def test_curves_of_any_values_can_be_drawn():
    for values in ([0.0, 0.0], [1e-9, 1e9], [-3.0, float("nan"), -3.0], list(range(5000))):
        drawn = svg_of({"a<b": list(enumerate(values))}, Plot("t", ["a<b"], {}))
        places = re.findall(r"[\d.]+,[\d.]+", drawn)
        assert 2 <= len(places) < 700 and "nan" not in drawn and "<b" not in drawn


# ------------------------------------------------------------ the page


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, texts, and what scripts hold."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.inside, self.texts = [], [], {}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data):
        tag = self.inside[-1] if self.inside else ""
        self.texts.setdefault(tag, []).append(data)

    def of_class(self, name):
        return [(tag, a) for tag, a in self.tags if name in (a.get("class") or "").split()]

    @property
    def data(self):
        return json.loads(self.texts["script"][0])


EVIL = "<img src=x onerror=alert(1)>&</script>\"'"


def test_pictures_are_shown_with_truth_errors_and_numbers(tmp_path):
    write_run(tmp_path, ["c", "a", "b"])
    faces = faces_of(tmp_path)
    assert [face.id for face in faces.faces] == ["c", "a", "b"]  # as in rows.csv
    assert [view.label for view in faces.faces[0].views] == ["before", "after", "truth", "errors"]
    assert faces.judged_by == DISTANCE == faces.orders[0].name
    assert [(name, face.id) for name, face in faces.chosen] == [
        ("best", "c"), ("median", "a"), ("worst", "b"),
    ]  # fmt: skip
    assert {order.name: order.higher for order in faces.orders} == {
        DISTANCE: False, "mae": False, "truth_distance": False,
    }  # fmt: skip
    page = Page(write_report(tmp_path, "a run"))
    assert len(page.of_class("face")) == 3 and len(page.of_class("answer")) == 1
    first = page.data["faces"][0]
    assert first["numbers"][0] == [DISTANCE, 0.25]
    assert first["views"][0] == ["before", None] and first["views"][3][1].startswith("data:image/")


def test_ids_texts_and_commands_cannot_become_part_of_the_page(tmp_path):
    evil = EVIL.replace("/", "_")
    command = [f"edit.target={EVIL}", "a=b"]
    folder = write_run(tmp_path, [evil, "b", "c"], command=command)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "samples" / f"{evil}.png")
    OmegaConf.save({"edit": {"target": EVIL}}, folder / "config.yaml")
    page = Page(write_report(folder, EVIL, EVIL))
    assert not [tag for tag, a in page.tags if "onerror" in a or a.get("src") == "x"]
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert page.data["faces"][0]["id"] == evil
    assert EVIL in "".join(page.texts["h1"]) and EVIL in "".join(page.texts["pre"])


def test_a_run_of_an_older_version_has_its_page(tmp_path):
    old = write_run(tmp_path / "old", ["a", "b", "c"], truth=False)
    views = faces_of(old).faces[0].views
    assert [view.label for view in views] == ["before", "after", "change"]
    for path in (old / "sources").iterdir():
        path.unlink()
    assert len(Page(write_report(old, "samples")).of_class("chosen")) == 1  # three in a row
    (old / "rows.csv").unlink()
    page = Page(write_report(old, "old"))
    assert len(page.of_class("face")) == 3 and len(page.of_class("chosen")) == 2
    assert [view.label for view in faces_of(old).faces[0].views] == ["picture"]
    bare = tmp_path / "bare"
    bare.mkdir()
    assert not Page(write_report(bare, "bare")).of_class("face")


def test_damaged_and_large_pictures_do_no_harm(tmp_path):
    folder = write_run(tmp_path, ["a", "b"])
    (folder / "samples" / "image_a.png").write_bytes(b"no picture")
    save_pngs(torch.zeros(1, 3, 600, 300), ["b"], folder / "samples")
    (only,) = faces_of(folder).faces
    assert only.id == "b" and [view.label for view in only.views] == ["before", "after"]
    assert only.views[1].address.startswith("data:image/webp")


def test_of_very_many_pictures_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("dclip.pages.faces.MOST", 3)
    folder = write_run(tmp_path, [f"{k:03}" for k in range(5)])
    assert (len(faces_of(folder).faces), faces_of(folder).count) == (3, 5)
    assert "The first 3 of 5" in write_report(folder, "many").read_text("utf-8")


def test_settings_that_differ_from_the_default_come_first(tmp_path):
    cfg = configure("experiment=toonfaces_red_hair", "method.lr=0.5", "output=here")
    OmegaConf.save(OmegaConf.create(plain(cfg)), tmp_path / "config.yaml")
    found = {setting.name: setting for setting in changed(tmp_path / "config.yaml")}
    assert found["method.lr"].value == "0.5" and 0 < float(found["method.lr"].default) < 0.1
    assert "output" not in found and "seed" not in found
    assert changed(tmp_path / "none.yaml") == []


def test_what_was_learned_is_applied_by_the_commands_that_the_page_says(tmp_path):
    folder = write_run(tmp_path / "my runs", ["a"], command=["edit=red_hair", "method.epochs=3"])
    assert next_steps(folder, learn_more=True) == []  # nothing was learned
    OmegaConf.save({"method": {"epochs": 3}}, folder / "config.yaml")
    (folder / "adapter.safetensors").write_bytes(b"")
    commands = [step.command for step in next_steps(folder, learn_more=True)]
    assert commands[0].endswith("edit=red_hair method.epochs=6")
    assert f"'edit.adapter={folder}' input=your_picture.png" in commands[1]
    assert not any("epoch=1" in command for command in commands)
    assert not any("method.epochs" in step.command for step in next_steps(folder, False))


# ------------------------------------------------------------ in a browser


@pytest.fixture
def browser(tmp_path):
    """Headless Chromium, as narrow as a phone."""
    opened = open_browser(tmp_path / "browser")
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    yield opened
    opened.quit()


STRIP = "return getComputedStyle(document.querySelector('.strip .row:last-child img')).transform"
SHOWN = "return [...document.querySelectorAll('.face')].map(tile => tile.dataset.face)"
SHEETS = "return [...document.querySelectorAll('.epoch')].map(sheet => sheet.hidden)"
REACHED = """return [...document.querySelectorAll("[src], link, image, use, iframe")]
    .map(one => one.src || one.href.baseVal || one.href)
    .concat(performance.getEntriesByType("resource").map(entry => entry.name))"""
TABLE = """document.querySelectorAll("details").forEach(folded => folded.open = true)
    const box = [...document.querySelectorAll(".scroll")].find(one => one.scrollHeight > one.clientHeight)
    box.scrollTop = 200
    const top = one => Math.round(one.getBoundingClientRect().top)
    return [top(box.querySelector("th")), top(box), top(box.querySelector("td")) - top(box)]"""
COLORS = """const style = getComputedStyle(document.body)
    return [style.backgroundColor, style.color].map(color => color.match(/[0-9]+/g).map(Number))"""
ENLARGED = "return document.querySelector('dialog[open] h3')?.textContent || ''"


def test_on_a_phone_the_report_can_be_used_also_in_the_dark_and_without_a_network(
    browser, tmp_path
):
    folder = write_run(tmp_path, ["b", "a", "c"])
    for epoch in (1, 2):
        sheet = Image.new("RGB", (900, 60), "red")
        sheet.save(folder / "samples" / f"epoch_{epoch:02d}.png")
    write_strip(folder, [0.0, 1.0])
    write_json(folder / "metrics.json", {"images": 3, **dict.fromkeys(QUANTITIES, 0.5)})
    browser.get(write_report(folder, "a run", 200 * "long ").as_uri())
    find, do = browser.find_element, browser.execute_script
    assert do(SHOWN) == ["0", "1", "2"] and do(SHEETS) == [True, False]
    find("id", "turn").click()
    assert do(SHOWN) == ["2", "1", "0"] and find("id", "turn").text == "worst first"
    find("css selector", "#order option:nth-child(2)").click()  # mae falls where the distance grows
    assert do(SHOWN) == ["0", "1", "2"]
    find("id", "epoch").send_keys("\ue012")  # arrow to the left
    assert do(SHEETS) == [False, True]
    first = do(STRIP)
    find("id", "degree").send_keys("\ue012")
    assert find("id", "gamma").text == "0" and do(STRIP) != first
    find("class name", "face").click()
    assert do(ENLARGED) == "b" and len(browser.find_elements("css selector", "dialog img")) == 4
    browser.switch_to.active_element.send_keys("\ue014")  # arrow to the right
    assert do(ENLARGED) == "a"
    assert do("return document.documentElement.scrollWidth") <= 390
    assert do(REACHED) and all(address.startswith("data:") for address in do(REACHED))
    browser.switch_to.active_element.send_keys("\ue00c")  # escape
    header, box, rows = do(TABLE)
    assert header == box and rows < 0  # the header stays where rows are scrolled away
    light = do(COLORS)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert sum(light[0]) > 2 * sum(light[1]) and 2 * sum(do(COLORS)[0]) < sum(do(COLORS)[1])
