"""``python run.py task=preference a=DIR b=DIR``: which of two pictures do people prefer? One page to send around, and the tally.

The page is one HTML file that needs no network and no other file: pairs in an order of the voter's own, sides drawn by ``seed``
(each system as often left as right), answers kept in the browser, so that one can stop and go on, and exported as a small JSON
file. Which side is which system is only in ``key.json``, which is not for voters. ``tally=`` counts the exported answers.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dclip.errors import DclipError
from dclip.files import read_json, write_json
from dclip.prepare.words import told

BUILD = ("a", "b", "source", "question", "count", "seed", "output")


TALLY = ("tally", "key", "output")


QUESTION = "Which of the two pictures do you prefer?"


DRAWS = 2000  # of the bootstrap over voters


SIDES = ("left", "right", "equal")


def pictures_in(folder: str, setting: str) -> dict[str, Path]:
    """Pictures of a folder by name; of a run's folder, those it edited (samples/image_*). DclipError if there are none."""
    from dclip.data.pools import find_images

    root = Path(folder)
    if not root.is_dir():
        raise DclipError(
            f"{setting}={folder} is no folder; give a folder of pictures, or of a run of task=edit"
        )
    if (root / "status.json").is_file():
        found = {
            path.stem.removeprefix("image_"): path
            for path in sorted((root / "samples").glob("image_*.png"))
        }
        if not found:
            raise DclipError(
                f"{setting}={folder} keeps no single pictures; runs of task=edit and task=translate do (samples/image_*)"
            )
        return found
    found = {path.relative_to(root).with_suffix("").as_posix(): path for path in find_images(root)}
    if not found:
        raise DclipError(f"{setting}={folder} holds no pictures")
    return found


def embedded(path: Path) -> str:
    """A picture as a data address. It is written anew, so that nothing in the file tells where it is from."""
    from dclip.data.images import decode

    stream = io.BytesIO()
    decode(path, str(path)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


@dataclass(frozen=True)
class Pair:
    """One question: its number on the page, the picture's name, and whether system a is on the left."""

    number: str
    name: str
    a_left: bool


def paired(names: Sequence[str], seed: int) -> list[Pair]:
    """Pairs in an order of their own, a on the left in half of them."""
    draw = random.Random(seed)
    order = list(names)
    draw.shuffle(order)
    sides = [k % 2 == 0 for k in range(len(order))]
    draw.shuffle(sides)
    return [
        Pair(f"q{k:04d}", name, side)
        for k, (name, side) in enumerate(zip(order, sides, strict=True))
    ]


def build(asked: dict[str, str]) -> Path:
    """Write the page and its key; returns the page. DclipError where there are no pairs."""
    a, b = pictures_in(asked["a"], "a"), pictures_in(asked["b"], "b")
    source = pictures_in(asked["source"], "source") if "source" in asked else {}
    names = [name for name in a if name in b and (not source or name in source)]
    if not names:
        raise DclipError(
            f"a={asked['a']} and b={asked['b']} have no picture's name in common; pairs are found by name"
        )
    seed, count = (
        _whole(name, asked.get(name, str(default)))
        for name, default in (("seed", 0), ("count", len(names)))
    )
    pairs = paired(names, seed)[: max(count, 1)]
    items = []
    for pair in pairs:
        left, right = (a, b) if pair.a_left else (b, a)
        item = {
            "id": pair.number,
            "left": embedded(left[pair.name]),
            "right": embedded(right[pair.name]),
        }
        items.append(item | ({"source": embedded(source[pair.name])} if source else {}))
    question = asked.get("question", QUESTION)
    digest = hashlib.sha256(json.dumps([question, items]).encode()).hexdigest()[:16]
    folder = Path(asked.get("output", "outputs/preference"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "preference.html"
    path.write_text(_page(question, digest, items), "utf-8")
    key = {"page": digest, "question": question, "a": asked["a"], "b": asked["b"], "seed": seed}
    write_json(
        folder / "key.json",
        {
            **key,
            "pairs": {
                p.number: {"name": p.name, "a": "left" if p.a_left else "right"} for p in pairs
            },
        },
    )
    missing = len(a) + len(b) - 2 * len(names)
    print(f"{len(pairs)} pairs: {path}\nthe key, not for voters: {folder / 'key.json'}")
    if missing:
        print(f"{missing} pictures have no partner of their name and are left out")
    return path


def _whole(name: str, value: str) -> int:
    if not value.isdigit():
        raise DclipError(f"{name}={value} must be a whole number")
    return int(value)


# ---------------------------------------------------------------------------------------------------- the tally


def wilson(votes: float, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    z, share = 1.959964, votes / of
    middle, width = (
        share + z * z / (2 * of),
        z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)),
    )
    return (middle - width) / (1 + z * z / of), (middle + width) / (1 + z * z / of)


def over_voters(votes: Sequence[tuple[int, int]], seed: int = 0) -> tuple[float, float] | None:
    """95 % bootstrap interval of the share over voters (votes for a, votes), whose answers belong together; None for one voter."""
    if len(votes) < 2:
        return None
    draw = random.Random(seed)
    shares = []
    for _ in range(DRAWS):
        some = draw.choices(votes, k=len(votes))
        total = sum(n for _, n in some)
        shares += [sum(v for v, _ in some) / total] if total else []
    shares.sort()
    return shares[round(0.025 * (len(shares) - 1))], shares[round(0.975 * (len(shares) - 1))]


def count_votes(key: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Votes for a, for b, for neither, with intervals. One voter's later file replaces an earlier one.

    DclipError for the answers to another page.
    """
    voters: dict[str, dict[str, Any]] = {}
    for path in files:
        content = read_json(path)
        if content.get("page") != key.get("page"):
            raise DclipError(
                f"{path} holds no answers to this page (key.json is of page {key.get('page')}); give the exported files"
            )
        voter = str(content.get("voter") or path.stem)
        if voter not in voters or content.get("exported", "") >= voters[voter].get("exported", ""):
            voters[voter] = content
    tallied = {"a": 0, "b": 0, "equal": 0}
    by_pair: dict[str, dict[str, int]] = {}
    per_voter: list[tuple[int, int]] = []
    for content in voters.values():
        mine = {"a": 0, "b": 0, "equal": 0}
        for number, side in dict(content.get("answers", {})).items():
            if number not in key["pairs"] or side not in SIDES:
                raise DclipError(
                    f"an answer {number}: {side} is none of this page's; give the files as they were exported"
                )
            pair = key["pairs"][number]
            choice = "equal" if side == "equal" else "a" if side == pair["a"] else "b"
            mine[choice] += 1
            by_pair.setdefault(pair["name"], {"a": 0, "b": 0, "equal": 0})[choice] += 1
        tallied = {name: tallied[name] + mine[name] for name in tallied}
        per_voter.append((mine["a"], mine["a"] + mine["b"]))
    decided = tallied["a"] + tallied["b"]
    result: dict[str, Any] = {"votes": tallied, "voters": len(voters), "pairs": by_pair}
    if decided:
        result["share_a"] = tallied["a"] / decided
        result["interval_votes"] = wilson(tallied["a"], decided)
        result["interval_voters"] = over_voters([one for one in per_voter if one[1]])
    return result


def tally(asked: dict[str, str]) -> int:
    """Count exported answers, print the shares, write tally.json and tally.md."""
    files = [Path(name) for name in asked["tally"].split(",")]
    files = [
        one
        for path in files
        for one in (sorted(path.glob("*.json")) if path.is_dir() else [path])
        if one.name != "key.json"
    ]
    key_path = Path(asked.get("key", "outputs/preference/key.json"))
    key = read_json(key_path)
    if "pairs" not in key:
        raise DclipError(
            f"key={key_path} is no key of a page; give the key.json that was written with it"
        )
    absent = [str(path) for path in files if not path.is_file()]
    if absent or not files:
        raise DclipError(
            f"tally={asked['tally']}: {', '.join(absent) or 'no answers'} not found; give exported files or their folder"
        )
    result = count_votes(key, files)
    folder = Path(asked.get("output", str(key_path.parent)))
    text = tally_text(key, result)
    write_json(folder / "tally.json", {**result, "a": key["a"], "b": key["b"]})
    (folder / "tally.md").write_text(text, "utf-8")
    print(f"{text}\nwritten to {folder}")
    return 0


def tally_text(key: dict[str, Any], result: dict[str, Any]) -> str:
    """The tally as Markdown."""
    votes = result["votes"]
    lines = [
        f"# {key['question']}", "", "| | votes | share of decided votes |", "|---|---|---|",
        f"| a: {key['a']} | {votes['a']} | {_share(result.get('share_a'))} |",
        f"| b: {key['b']} | {votes['b']} | {_share(1 - result['share_a'] if 'share_a' in result else None)} |",
        f"| equal | {votes['equal']} | |", "",
        f"- {result['voters']} voters, {len(result['pairs'])} pairs",
    ]  # fmt: skip
    if "share_a" in result:
        low, high = result["interval_votes"]
        lines.append(
            f"- a's share, 95 % interval over votes (Wilson): {_share(low)} to {_share(high)}"
        )
        spread = result["interval_voters"]
        over = f"{_share(spread[0])} to {_share(spread[1])}" if spread else "none: one voter"
        lines.append(f"- a's share, 95 % interval over voters (bootstrap): {over}")
    return "\n".join(lines) + "\n"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def main(words: Sequence[str]) -> int:
    """``a=DIR b=DIR [source=DIR] [question=TEXT] [count=N] [seed=N]``, or ``tally=FILES key=FILE``; the exit code."""
    counting = any(word.startswith("tally=") for word in words)
    asked = told(words, TALLY if counting else BUILD, "task=preference")
    if counting:
        return tally(asked)
    if "a" not in asked or "b" not in asked:
        raise DclipError(
            "task=preference needs a=DIR and b=DIR (runs or folders of pictures), or tally=ANSWERS key=key.json"
        )
    build(asked)
    return 0


# ---------------------------------------------------------------------------------------------------- the page


def _page(question: str, digest: str, items: list[dict[str, str]]) -> str:
    data = json.dumps({"page": digest, "items": items}).replace("</", "<\\/")
    return _HTML.replace("QUESTION", html.escape(question)).replace("DATA", data)


_HTML = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>QUESTION</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:960px;margin:1.5em auto;padding:0 1em;color:#222;text-align:center}
h1{font-size:1.4em}img{width:100%;max-width:340px;image-rendering:pixelated;border:1px solid #ccc}.pair{display:flex;gap:1em;
justify-content:center;margin:1em 0}.pair button{background:none;border:3px solid transparent;padding:0;cursor:pointer;flex:1}
.pair button:hover,.pair button:focus{border-color:#36c;outline:none}#source img{max-width:200px}.bar{height:6px;background:#ddd}
.bar div{height:6px;background:#36c}.tools button,.tools input{font:inherit;margin:.3em}.sub{color:#666;font-size:.9em}
</style>
<h1>QUESTION</h1>
<div class="bar"><div id="bar"></div></div><p id="progress" class="sub"></p>
<div id="source"></div>
<div class="pair" id="pair"><button id="left" aria-label="left picture"></button>
<button id="right" aria-label="right picture"></button></div>
<p id="done" hidden>All pairs are answered. Thank you: please export your answers and send the file back.</p>
<div class="tools"><button id="equal">no preference (space)</button><button id="back">back (backspace)</button></div>
<div class="tools"><input id="voter" placeholder="your name or initials"><button id="export">export answers</button>
<label class="sub">go on from a file: <input type="file" id="import" accept=".json"></label></div>
<p class="sub">Keys: left and right arrow, space, backspace. Answers stay in this browser;
you can close the page and go on later.</p>
<script>
"use strict";
const data = DATA;
const slot = "dclip-preference-" + data.page;
const byId = new Map(data.items.map(item => [item.id, item]));
const get = id => document.getElementById(id);

function shuffled(ids) {
  const order = ids.slice();
  for (let i = order.length - 1; i > 0; i--) {
    const k = Math.floor(Math.random() * (i + 1));
    [order[i], order[k]] = [order[k], order[i]];
  }
  return order;
}

function fresh() {
  return {page: data.page, voter: "", order: shuffled([...byId.keys()]), answers: {}, given: []};
}

function fits(found) {
  return found && found.page === data.page && Array.isArray(found.order) && found.order.length === byId.size
    && found.order.every(id => byId.has(id)) && typeof found.answers === "object" && Array.isArray(found.given);
}

let state = fresh();
try {
  const kept = JSON.parse(localStorage.getItem(slot));
  if (fits(kept)) state = kept;
} catch (error) { /* nothing kept, or nothing may be */ }

function keep() {
  try { localStorage.setItem(slot, JSON.stringify(state)); } catch (error) { /* the export still has everything */ }
}

function current() { return state.order.find(id => !(id in state.answers)); }

function picture(address) {
  const image = document.createElement("img");
  image.src = address;
  image.alt = "";
  return image;
}

function show() {
  const item = byId.get(current());
  const count = Object.keys(state.answers).length;
  get("progress").textContent = count + " of " + byId.size + " answered";
  get("bar").style.width = (100 * count / byId.size) + "%";
  get("done").hidden = Boolean(item);
  get("pair").hidden = !item;
  get("pair").style.display = item ? "" : "none";
  get("equal").disabled = !item;
  get("back").disabled = state.given.length === 0;
  get("source").replaceChildren(...(item && item.source ? [picture(item.source)] : []));
  for (const side of ["left", "right"]) get(side).replaceChildren(...(item ? [picture(item[side])] : []));
}

function answer(side) {
  const id = current();
  if (id === undefined) return;
  state.answers[id] = side;
  state.given.push(id);
  keep();
  show();
}

function back() {
  const id = state.given.pop();
  if (id === undefined) return;
  delete state.answers[id];
  keep();
  show();
}

function exported() {
  return JSON.stringify({...state, exported: new Date().toISOString()}, null, 1);
}

get("left").onclick = () => answer("left");
get("right").onclick = () => answer("right");
get("equal").onclick = () => answer("equal");
get("back").onclick = back;
get("voter").value = state.voter;
get("voter").oninput = event => { state.voter = event.target.value; keep(); };
get("export").onclick = () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([exported()], {type: "application/json"}));
  link.download = "answers_" + (state.voter.replace(/\\W+/g, "_") || "anonymous") + ".json";
  link.click();
  URL.revokeObjectURL(link.href);
};
get("import").onchange = event => {
  event.target.files[0].text().then(text => {
    const found = JSON.parse(text);
    if (!fits(found)) throw new Error("other page");
    state = found;
    delete state.exported;
    get("voter").value = state.voter;
    keep();
    show();
  }).catch(() => alert("This file holds no answers to this page."));
};
document.onkeydown = event => {
  if (event.target.tagName === "INPUT") return;
  const side = {ArrowLeft: "left", ArrowRight: "right", " ": "equal"}[event.key];
  if (side) { event.preventDefault(); answer(side); }
  if (event.key === "Backspace") { event.preventDefault(); back(); }
};
show();
</script></html>
"""
