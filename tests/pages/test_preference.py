import json
import re
import shutil
import subprocess

import pytest
import torch

from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.pages import preference, votes


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A page of six pairs with sources; a's pictures are dark, b's light."""
    root = tmp_path_factory.mktemp("preference")
    names = ["<img src=x onerror=alert(1)>", "'; alert(1); '", *(f"p{k}" for k in range(4))]
    for k, name in enumerate(names):
        save_png(torch.full((3, 8, 8), -0.5) + k / 100, root / "a" / f"{name}.png")
        save_png(torch.full((3, 8, 8), 0.5) + k / 100, root / "b" / f"{name}.png")
        save_png(torch.zeros(3, 8, 8), root / "source" / f"{name}.png")
    save_png(torch.zeros(3, 8, 8), root / "a" / "alone.png")
    words = [
        f"a={root / 'a'}",
        f"b={root / 'b'}",
        f"source={root / 'source'}",
        "question=Which is <better>?",
        f"output={root / 'out'}",
    ]
    assert preference.main(words) == 0
    return root / "out"


def items(page):
    return json.loads(re.search(r"const data = (.*);\n", page)[1])


def brightness(address):
    import base64
    import io

    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).getpixel((0, 0))[0]


def test_the_page_is_whole_blinded_and_shuffled(asked):
    page = (asked / "preference.html").read_text("utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//|file:)""", page)
    assert (
        "<script src" not in page and "@import" not in page and "Which is &lt;better&gt;?" in page
    )
    key = json.loads((asked / "key.json").read_text("utf-8"))
    for hidden in (key["a"], key["b"], *(pair["name"] for pair in key["pairs"].values())):
        assert hidden not in page
    found = items(page)
    assert len(found["items"]) == 6 and found["page"] == key["page"]
    assert [pair["a"] for pair in key["pairs"].values()].count("left") == 3
    for item in found["items"]:
        dark = "left" if brightness(item["left"]) < brightness(item["right"]) else "right"
        assert dark == key["pairs"][item["id"]]["a"]
        assert 120 < brightness(item["source"]) < 136
    assert [pair["name"] for pair in key["pairs"].values()] != sorted(
        pair["name"] for pair in key["pairs"].values()
    )


def run_folder(root, name, task, target, pictures=True):
    """A run's folder, as far as the page looks at it."""
    from omegaconf import OmegaConf

    from dclip.files import write_json

    folder = root / name
    write_json(folder / "status.json", {"status": "finished"})
    edit = {"name": "red_hair", "target": target}
    OmegaConf.save(OmegaConf.create({"task": {"name": task}, "edit": edit}), folder / "config.yaml")
    for k in range(2 if pictures else 0):
        save_png(torch.zeros(3, 8, 8) + k / 10, folder / "samples" / f"image_p{k}.png")
        save_png(torch.ones(3, 8, 8), folder / "sources" / f"image_p{k}.png")
    save_png(torch.zeros(3, 8, 8), folder / "samples" / "before_after.png")
    return f"{'ab'[name == 'b']}={folder}"


def test_of_two_runs_voters_see_the_source_and_the_words(tmp_path):
    told = [run_folder(tmp_path, name, "finetune", "person with red hair") for name in "ab"]
    preference.main([*told, f"output={tmp_path}"])
    page = (tmp_path / "preference.html").read_text("utf-8")
    assert "<h1>Which of the two shows it better: person with red hair?</h1>" in page
    assert [brightness(item["source"]) for item in items(page)["items"]] == [255, 255]
    assert "pixelated" not in page


def test_words_that_runs_do_not_share_or_do_not_follow_are_not_shown(tmp_path):
    run_folder(tmp_path, "a", "finetune", "person with red hair")
    run_folder(tmp_path, "b", "finetune", "person with grey hair")
    told = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    assert preference.question_of(told) == preference.QUESTION
    for name in "ab":
        run_folder(tmp_path, name, "sample", "person with red hair")
    assert preference.question_of(told) == preference.QUESTION


def test_a_run_that_kept_no_pictures_names_the_way_to_some(tmp_path):
    told = [run_folder(tmp_path, name, "finetune", "x", pictures=False) for name in "ab"]
    said = f"python run.py task=edit edit.adapter={tmp_path / 'a'}"
    with pytest.raises(DclipError, match=re.escape(said)):
        preference.main([*told, f"output={tmp_path}"])


def test_a_question_may_hold_any_word(asked, tmp_path):
    folders = [f"{name}={asked.parent / name}" for name in ("a", "b")]
    question = "DATA or QUESTION? {{ data }} </script>"
    preference.main([*folders, f"question={question}", f"output={tmp_path}"])
    page = (tmp_path / "preference.html").read_text("utf-8")
    shown = "DATA or QUESTION? {{ data }} &lt;/script&gt;"
    assert f"<title>{shown}</title>" in page and f"<h1>{shown}</h1>" in page
    assert len(items(page)["items"]) == 6
    assert json.loads((tmp_path / "key.json").read_text("utf-8"))["question"] == question


def test_the_same_seed_makes_the_same_page():
    names = [f"n{k}" for k in range(20)]
    assert preference.paired(names, 3) == preference.paired(names, 3) != preference.paired(names, 4)


def test_each_system_is_as_often_left_also_where_few_pairs_are_asked(asked, tmp_path):
    folders = [f"{name}={asked.parent / name}" for name in ("a", "b")]
    for seed in range(6):
        preference.main([*folders, f"output={tmp_path}", "count=2", f"seed={seed}"])
        pairs = json.loads((tmp_path / "key.json").read_text("utf-8"))["pairs"]
        assert sorted(pair["a"] for pair in pairs.values()) == ["left", "right"]


def answers(asked, voter, choose, exported="2026-01-01"):
    key = json.loads((asked / "key.json").read_text("utf-8"))
    other = {"left": "right", "right": "left"}
    given = {}
    for k, (number, pair) in enumerate(key["pairs"].items()):
        choice = choose(k)
        given[number] = (
            "equal" if choice == "equal" else pair["a"] if choice == "a" else other[pair["a"]]
        )
    return {"page": key["page"], "voter": voter, "answers": given, "exported": exported}


def test_the_tally_knows_who_was_left_and_how_sure_it_is(asked, tmp_path):
    ballots = {
        "ann": lambda k: "a" if k < 5 else "equal",
        "bob": lambda k: "a" if k < 3 else "b",
        "cy": lambda k: "b",
    }
    for voter, choose in ballots.items():
        (tmp_path / f"{voter}.json").write_text(json.dumps(answers(asked, voter, choose)))
    (tmp_path / "again.json").write_text(
        json.dumps(answers(asked, "cy", lambda k: "a", "2026-01-02"))
    )  # cy changed the mind
    assert (
        preference.main(
            [f"tally={tmp_path}", f"key={asked / 'key.json'}", f"output={tmp_path / 'out'}"]
        )
        == 0
    )
    result = json.loads((tmp_path / "out" / "tally.json").read_text("utf-8"))
    assert result["votes"] == {"a": 14, "b": 3, "equal": 1} and result["voters"] == 3
    assert result["share_a"] == pytest.approx(14 / 17)
    low, high = result["interval_votes"]
    assert (low, high) == pytest.approx((0.5897, 0.9381), abs=2e-3)  # Wilson's, from a table
    assert result["interval_voters"][0] < 14 / 17 < result["interval_voters"][1]
    assert "82.4 %" in (tmp_path / "out" / "tally.md").read_text("utf-8")


def test_answers_to_another_page_are_refused(asked, tmp_path):
    other = answers(asked, "x", lambda k: "a") | {"page": "0" * 16}
    (tmp_path / "x.json").write_text(json.dumps(other))
    with pytest.raises(DclipError, match="no answers to this page"):
        preference.main([f"tally={tmp_path / 'x.json'}", f"key={asked / 'key.json'}"])
    odd = answers(asked, "x", lambda k: "a")
    odd["answers"]["q9999"] = "left"
    (tmp_path / "x.json").write_text(json.dumps(odd))
    with pytest.raises(DclipError, match="q9999"):
        preference.main([f"tally={tmp_path / 'x.json'}", f"key={asked / 'key.json'}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a=x"], "needs a=DIR and b=DIR"),
        (["a=/nowhere", "b=/nowhere"], "a=/nowhere is no folder"),
        (["tally=/nowhere.json", "key=/nowhere/key.json"], "is no key"),
        (["a=x", "c=y"], "task=preference knows"),
    ],
)
def test_a_bad_preference_is_refused_in_one_line(words, said):
    with pytest.raises(DclipError, match=said):
        preference.main(words)


STUB = """
const made = {};
function element() { return {style: {}, children: [], hidden: false, replaceChildren(...c) { this.children = c; }, click() {}}; }
globalThis.document = {getElementById: id => made[id] ??= element(), createElement: element};
const kept = STORE;
globalThis.localStorage = {getItem: k => kept[k] ?? null, setItem: (k, v) => { kept[k] = v; }};
SCRIPT
const press = key => document.onkeydown({key, target: {tagName: "BODY"}, preventDefault() {}});
PRESSES.forEach(press);
console.log(JSON.stringify({kept, exported: JSON.parse(exported()), text: made.progress.textContent, done: !made.done.hidden}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_page_keeps_answers_goes_on_and_exports_them(asked):
    script = re.search(
        r"<script>(.*)</script>", (asked / "preference.html").read_text("utf-8"), re.S
    )[1]

    def played(presses, store):
        code = (
            STUB.replace("STORE", json.dumps(store))
            .replace("PRESSES", json.dumps(presses))
            .replace("SCRIPT", script)
        )
        done = subprocess.run(
            ["node", "-e", code.replace('"use strict";', "")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    first = played(["ArrowLeft", "ArrowRight", "Backspace", " ", "x"], {})
    assert first["text"] == "2 of 6 answered" and not first["done"]
    assert sorted(first["exported"]["answers"].values()) == ["equal", "left"]
    second = played(["ArrowRight"] * 4, first["kept"])  # the page is opened again
    assert second["done"] and second["text"] == "6 of 6 answered"
    assert second["exported"]["order"] == first["exported"]["order"]
    assert first["exported"]["answers"].items() <= second["exported"]["answers"].items()
    key = json.loads((asked / "key.json").read_text("utf-8"))
    assert sorted(second["exported"]["order"]) == sorted(key["pairs"])
    result = second["exported"]
    (asked / "voted.json").write_text(json.dumps(result))
    counted = votes.count_votes(key, [asked / "voted.json"])["votes"]
    assert counted["equal"] == 1 and counted["a"] + counted["b"] == 5
