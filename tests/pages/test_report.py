"""A run's numbers as its page and the console show them."""

import json

from PIL import Image

from dclip.files import write_json
from dclip.pages.report import headline, metric_rows, text_table, write_report

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
