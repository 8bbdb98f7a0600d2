"""Table 1 of the CLIP-guided sampling report on ToonFaces: methods x {time, KID, share of samples that show the prompt}.

    python -m experiments.sde_table1.run [--prompts beard,angry] [--methods contrastive] [--seeds 0,1,2] [setting=value ...]
    python -m experiments.sde_table1.run --collect

Every method of a seed starts from the same noise and sees the same step noise. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from dclip.files import read_json
from experiments.grid import (
    ROOT,
    call,
    finished,
    markdown,
    note,
    over_seeds,
    save_picture,
    strips,
    with_kept,
    write_csv,
)

HERE = Path(__file__).resolve().parent
PROMPTS: dict[str, str | list[str]] = {  # a list: several prompts at once
    "beard": "a person with a beard",
    "smiling beard": "a smiling person with a beard",
    "smiling and beard": ["a person with a beard", "a smiling person"],
    "angry": "an angry person",
    "red hair": "a person with red hair",
}
LATENT = ["experiment=toonfaces_latent"]  # 16 samples: each costs as much as 30 unguided ones
METHODS = {
    "unconditional": ["experiment=toonfaces_unconditional"],
    "contrastive": ["experiment=toonfaces_contrastive"],
    "spherical": ["experiment=toonfaces_spherical"],
    "contrastive to the end": [
        "experiment=toonfaces_contrastive",
        "guidance.scale=0.5",
        "guidance.t_end=0",
    ],
    "spherical to the end": [
        "experiment=toonfaces_spherical",
        "guidance.scale=0.5",
        "guidance.t_end=0",
    ],
    "spherical to t = 100": ["experiment=toonfaces_compound"],
    "directional": ["experiment=toonfaces_directional_sampling"],
    "contrastive directional": [
        "experiment=toonfaces_directional_sampling",
        "guidance=contrastive_directional",
    ],
    "latent": LATENT,
    "latent then contrastive": [*LATENT, "guidance=contrastive"],
}
METRICS = (
    "seconds_per_image", "network_calls", "clip_calls", "judge_success", "p_target_guide", "p_target_heldout",
    "kid_10", "kid_50", "fid",
)  # fmt: skip


def rows(runs: dict[tuple[str, ...], Path]) -> list[dict[str, Any]]:
    """One line a prompt and method: mean and spread over seeds. What was not run anew stays as it was."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for (prompt, method, _), folder in runs.items():
        groups[prompt, method].append(read_json(folder / "metrics.json"))
    cells = [(p, m) for p in PROMPTS for m in METHODS if (p, m) in groups]
    table = [
        {
            "prompt": str(PROMPTS[p]),
            "method": m,
            "n": groups[p, m][0]["count"],
            "seeds": len(groups[p, m]),
        }
        | over_seeds(groups[p, m], METRICS)
        for p, m in cells
    ]
    order = [(str(text), method) for text in PROMPTS.values() for method in METHODS]
    kept = with_kept(HERE / "table.csv", table, ("prompt", "method"))
    return sorted(kept, key=lambda line: order.index((line["prompt"], line["method"])))


def collect(output: Path) -> None:
    """Write table.md, table.csv and a picture a prompt beside this file."""
    runs = finished(output, "sde_table1")
    if not runs:
        sys.exit(f"no finished runs under {output}; first: python -m experiments.sde_table1.run")
    table = rows(runs)
    (HERE / "table.md").write_text(markdown(table), "utf-8")
    write_csv(HERE / "table.csv", table)
    for prompt in PROMPTS:
        shown = [runs[prompt, method, "0"] for method in METHODS if (prompt, method, "0") in runs]
        if shown:
            save_picture(HERE / f"{prompt.replace(' ', '_')}.png", strips(shown))
    print(markdown(table))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="settings of every run")
    parser.add_argument("--prompts", default=",".join(PROMPTS))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "sde_table1")
    parser.add_argument("--collect", action="store_true", help="only collect what was run")
    told = parser.parse_intermixed_args()
    if not told.collect:
        done = finished(told.output, "sde_table1")
        for seed in told.seeds.split(","):
            for prompt in told.prompts.split(","):
                for method in told.methods.split(","):
                    if (prompt, method, seed) in done:
                        continue
                    where = [
                        f"output={told.output}",
                        "logger=csv",
                        f"seed={seed}",
                        "task.paired=false",
                    ]
                    call(
                        *METHODS[method], f"guidance.targets={PROMPTS[prompt]!r}", *where, note("sde_table1", prompt, method, seed),
                        *told.words,
                    )  # fmt: skip
    collect(told.output)


if __name__ == "__main__":
    main()
