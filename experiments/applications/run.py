"""Every application of fine-tuned edits on ToonFaces: learn what is needed, run, then collect numbers and pictures.

    python -m experiments.applications.run [mix degrees stochastic translate single examples] [--test 100] [setting=value ...]
    python -m experiments.applications.run --collect

What is finished is not run again. Edits are learned by conf/experiment/toonfaces_EDIT.yaml as low-rank
updates, once.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from dclip.data.toonfaces.drawing import render
from dclip.data.toonfaces.faces import sample_face
from dclip.data.toonfaces.truths import TRUTHS, counterfactual
from dclip.files import read_json
from experiments.grid import ROOT, call, finished, markdown, note, value, write_csv

HERE = Path(__file__).resolve().parent
BOTH = "edit.name='red_hair+beard'"
MIX = ["experiment=apply_mix"]
SECTIONS: dict[str, dict[str, list[str]]] = {  # section -> row -> its command
    "mix": {
        "red hair alone": [*MIX, "edit.adapter=red_hair", "gamma=1", BOTH],
        "beard alone": [*MIX, "edit.adapter=beard", "gamma=1", BOTH],
        "mixed, gamma 1": [*MIX, "gamma=1"],
        "mixed, gamma 2": MIX,
        "mixed, gamma 2, 0.4 and 0.6": [*MIX, "mix.weights=[0.4,0.6]"],
        "beard first, then red hair (cosine)": ["experiment=apply_fade"],
        "beard first, then red hair (linear)": ["experiment=apply_fade", "mix.weights=linear"],
        "beard above t = 300, then red hair": [
            "experiment=apply_fade",
            "mix.weights={300:[1,0],0:[0,1]}",
        ],
        "soup, gamma 1": ["experiment=apply_soup", "gamma=1"],
        "soup, gamma 2": ["experiment=apply_soup"],
    },
    "degrees": {
        f"gamma {g:g}": ["experiment=apply_degrees", f"gamma={g}"]
        for g in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)
    },
    "stochastic": {
        "eta 0.5": ["experiment=apply_stochastic", "sampler.eta=0.5"],
        "eta 1": ["experiment=apply_stochastic"],
        "ancestral": ["experiment=apply_stochastic", "sampler=ddpm", "sampler.eta=0"],
    },
    "translate": {
        f"{domain}, {rounds} rounds": [
            f"experiment=translate_{domain}",
            f"task.rounds={rounds}",
            f"variants={1 if rounds == 0 else 3}",
        ]
        for domain in ("strokes", "sketch", "pixel")
        for rounds in (0, 1, 3, 6)
    },
    "single": {
        f"face {i}": ["experiment=single_image", f"input={{work}}/faces/{i}.png"] for i in range(4)
    },
    "examples": {
        "red hair by 16 examples": [
            "experiment=examples",
            "edit.examples={work}/red_hair",
            "edit.source_examples={work}/before",
        ],
        "red hair by words": ["experiment=toonfaces_red_hair"],
    },
}
COUNTS = {"mix", "degrees", "examples"}  # sections that --test sets the number of faces of
LEARNED = {
    "mix": ("red_hair", "beard"),
    "degrees": ("red_hair",),
    "stochastic": ("red_hair",),
    "translate": ("red_hair",),
}
METRICS = (
    "judge_success", "judge_success_hair_color", "judge_success_beard", "judge_preservation", "counterfactual_ratio", "s_dir",
    "s_dir_heldout", "id", "sc", "mae", "kid", "judge_domain_before", "judge_domain", "judge_painted", "coarse_mae", "variety",
    "seconds_translate", "seconds_adapt", "seconds_edit",
)  # fmt: skip


def learn(edit: str, output: Path, more: list[str]) -> None:
    """Fine-tune an edit unless that was done."""
    if not list(output.glob(f"finetune_{edit}/*/metrics.json")):
        call(f"experiment=toonfaces_{edit}", "preset=lora", f"output={output}", "logger=csv", *more)


def draw(work: Path) -> None:
    """Pictures that some runs read from disk: faces to edit one by one; examples of red hair, and of the same people before."""
    truth = TRUTHS["red_hair"]
    faces = [
        face for face in (sample_face("train", 5000 + i) for i in range(64)) if truth.applies(face)
    ][:16]
    tests = [face for face in (sample_face("test", i) for i in range(64)) if truth.applies(face)][
        :4
    ]
    several = {
        "before": faces,
        "red_hair": [counterfactual(face, truth) for face in faces],
        "faces": tests,
    }
    for name, drawn in several.items():
        (work / name).mkdir(parents=True, exist_ok=True)
        for i, face in enumerate(drawn):
            Image.fromarray(render(face)).save(work / name / f"{i}.png")


def earlier() -> dict[tuple[str, str], dict[str, Any]]:
    """Metrics of every row of table.csv: what was not run anew stays as it was."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    if (HERE / "table.csv").is_file():
        with (HERE / "table.csv").open(newline="", encoding="utf-8") as stream:
            for line in csv.DictReader(stream):
                name = "images" if line["metric"] == "n" else line["metric"]
                found.setdefault((line["section"], line["row"]), {})[name] = value(line["value"])
    return found


def cells(known: dict[tuple[str, str], dict[str, Any]], section: str) -> list[dict[str, Any]]:
    """One line a row of the section, with the metrics that any of its rows has."""
    found = {row: known[section, row] for row in SECTIONS[section] if (section, row) in known}
    shown = [m for m in METRICS if any(m in metrics for metrics in found.values())]
    return [
        {"": row, "n": m["images"], **{k: m.get(k, "-") for k in shown}} for row, m in found.items()
    ]


def pictured(section: str, number: int, folder: Path) -> list[Path]:
    """The pictures of a run that are kept beside the table; one strip shows all degrees."""
    if section == "degrees" and number:
        return []
    name = "degree_of_change.png" if section == "degrees" else "before_after.png"
    return [p for p in [folder / "samples" / name] if p.is_file()]


def collect(output: Path) -> None:
    """Write table.md, table.csv and the pictures beside this file."""
    runs = finished(output, "applications")
    if not runs:
        sys.exit(f"no finished runs under {output}; first: python -m experiments.applications.run")
    known = earlier() | {
        (key[0], key[1]): read_json(folder / "metrics.json") for key, folder in runs.items()
    }
    text, rows = [], []
    for section in SECTIONS:
        table = cells(known, section)
        if not table:
            continue
        text.append(f"## {section}\n\n{markdown(table)}")
        rows += [
            {"section": section, "row": line[""], "metric": k, "value": v}
            for line in table
            for k, v in line.items()
            if k and v != "-"
        ]
        for number, row in enumerate(SECTIONS[section]):
            for picture in (
                pictured(section, number, runs[section, row]) if (section, row) in runs else []
            ):
                (HERE / "pictures").mkdir(exist_ok=True)
                shutil.copy(picture, HERE / "pictures" / f"{section}_{number}_{picture.name}")
    (HERE / "table.md").write_text("\n".join(text), "utf-8")
    write_csv(HERE / "table.csv", rows)
    print("\n".join(text))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="sections, then settings of every run")
    parser.add_argument(
        "--test", type=int, default=100, help="faces that mixtures and degrees are measured on"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "applications")
    parser.add_argument("--collect", action="store_true", help="only collect what was run")
    told = parser.parse_intermixed_args()
    more = [w for w in told.words if "=" in w]
    sections = [w for w in told.words if "=" not in w] or list(SECTIONS)
    done, work = finished(told.output, "applications"), told.output / "drawn"
    for section in [] if told.collect else sections:
        for edit in LEARNED.get(section, ()):
            learn(edit, told.output, more)
        if section in ("single", "examples") and not work.is_dir():
            draw(work)
        for number, (row, words) in enumerate(SECTIONS[section].items()):
            if (section, row) not in done:
                filled = [word.replace("{work}", str(work)) for word in words]
                count = [f"dataset.test={told.test}"] if section in COUNTS else []
                where = [f"output={told.output}", "logger=csv", f"name={section}_{number}"]
                call(*filled, *count, *where, note("applications", section, row), *more)
    collect(told.output)


if __name__ == "__main__":
    main()
