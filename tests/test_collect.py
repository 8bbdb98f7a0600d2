"""Reports over any runs, and the preference page."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from conftest import configure
from omegaconf import OmegaConf

from dclip import files
from dclip.cli import command as cli
from dclip.config import plain
from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.pages import preference
from dclip.record import identity
from dclip.study import collect


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two t0, two seeds, a repeated run, one that failed, one of another sweep: files only."""
    root = tmp_path_factory.mktemp("runs")
    base = configure("task=reconstruct", "trainer=cpu")

    def write(t0, seed, mae, folder, status="finished", sweep="mine", **more):
        cfg = replace(
            base, sampler=replace(base.sampler, t0=t0), seed=seed, sweep=sweep, note=folder
        )
        who = {"config": identity.config_hash(cfg), "sweep": sweep, "host": "elsewhere", "pid": 1}
        place = root / "outputs" / "reconstruct" / folder
        files.write_json(
            place / "status.json",
            {"status": status, "seconds": 60, **who, **more, "environment": {"cpus": 2}},
        )
        OmegaConf.save(OmegaConf.create(plain(cfg)), place / "config.yaml")
        if status == "finished":
            files.write_json(place / "metrics.json", {"mae": mae, "ssim": 1 - mae, "images": 3})
            save_png(torch.zeros(3, 8, 8), place / "samples" / "before_after.png")

    write(300, 0, 0.9, "2026-01-01_00-00-00_a")
    write(300, 0, 0.1, "2026-01-02_00-00-00_a")  # the newer of one configuration
    write(300, 1, 0.3, "2026-01-02_00-00-01_b")
    write(400, 0, 0.5, "2026-01-02_00-00-02_c")
    write(400, 1, 0.0, "2026-01-02_00-00-03_d", "failed", reason="ValueError: no")
    write(500, 0, 0.7, "2026-01-02_00-00-04_e", sweep="other")
    write(300, 2, 0.0, "2026-01-02_00-00-05_f", "failed", reason="OSError: disk")
    return root / "outputs"


def table(folder):
    return list(csv.DictReader((folder / "table.csv").open(encoding="utf-8")))


def test_runs_become_rows_of_the_settings_that_differ(runs, tmp_path, capsys):
    assert collect.main([f"runs={runs}", "sweep=mine", f"output={tmp_path}"]) == 0
    rows = table(tmp_path)
    assert [(r["t0"], r["seeds"]) for r in rows] == [("300", "2"), ("400", "1")]
    assert [float(r["mae"]) for r in rows] == pytest.approx([0.2, 0.5])
    assert float(rows[0]["mae_std"]) == pytest.approx(0.1 * 2**0.5)
    page = (tmp_path / "table.md").read_text("utf-8")
    assert (
        "failed: ValueError: no" in page and "failed: OSError: disk" in page and "other" not in page
    )
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("data:image/png;base64,") == 3  # the plot, and a picture a row
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//|file:)""", html)
    assert (tmp_path / "figure.png").is_file() and "written to" in capsys.readouterr().out


def test_without_a_sweep_all_runs_count_and_columns_can_be_chosen(runs, tmp_path):
    collect.main([f"runs={runs}", f"output={tmp_path}", "columns=ssim", "by=sampler.t0,seed"])
    rows = table(tmp_path)
    assert len(rows) == 6 and "mae" not in rows[0]
    assert [r["state"] for r in rows if r["t0"] == "400"] == ["", "failed"]


def test_a_repeated_configuration_counts_once(runs):
    from dclip.record.runs import find_runs

    kept = collect.chosen(find_runs([runs]), "mine")
    assert len(kept) == 5
    assert {run.folder.name[:10] for run in kept} == {"2026-01-02"}


def test_as_few_settings_as_tell_runs_apart():
    one = {"edit.name": "a", "edit.target": "x", "lr": "1"}
    assert collect.differing([one, {**one, "edit.name": "b", "edit.target": "y"}]) == ["edit.name"]
    assert collect.differing(
        [one, {**one, "lr": "2"}, {**one, "edit.name": "b", "edit.target": "y"}]
    ) == ["edit.name", "lr"]
    assert collect.differing([one, one]) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs runs="),
        (["runs=/nowhere"], "runs=/nowhere is no folder"),
        (["runs=RUNS", "sweep=x"], "there are: mine, other"),
        (["runs=RUNS", "by=sampler.t9"], "by=sampler.t9"),
        (["runs=RUNS", "sampler.t0=3"], "sampler.t0=3: task=report knows runs="),
    ],
)
def test_a_bad_report_is_refused_in_one_line(words, said, runs, tmp_path):
    with pytest.raises(DclipError, match=re.escape(said)):
        collect.main([w.replace("RUNS", str(runs)) for w in words])


def test_words_find_their_command():
    assert (
        cli._command(["task=report", "runs=x"])
        == cli._command(["report", "runs=x"])
        == "study.collect"
    )
    assert cli._command(["task=preference", "a=x"]) == "pages.preference"
    assert cli._command(["study=toonfaces_table1"]) == "study.command"
    assert (
        cli._command(["experiment=celeba"])
        is cli._command([])
        is cli._command(["task=edit"])
        is None
    )
    with pytest.raises(DclipError, match="leave -m away"):
        cli._command(["-m", "study=a,b"])


# ------------------------------------------------------------------------------------------- preference


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A page of six pairs with sources; a's pictures are dark, b's light."""
    root = tmp_path_factory.mktemp("preference")
    for k in range(6):
        save_png(torch.full((3, 8, 8), -0.5) + k / 100, root / "a" / f"p{k}.png")
        save_png(torch.full((3, 8, 8), 0.5) + k / 100, root / "b" / f"p{k}.png")
        save_png(torch.zeros(3, 8, 8), root / "source" / f"p{k}.png")
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


def test_the_same_seed_makes_the_same_page():
    names = [f"n{k}" for k in range(20)]
    assert preference.paired(names, 3) == preference.paired(names, 3) != preference.paired(names, 4)


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
    votes = preference.count_votes(key, [asked / "voted.json"])["votes"]
    assert votes["equal"] == 1 and votes["a"] + votes["b"] == 5
