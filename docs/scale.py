"""Writes docs/scale.md: what large runs and sweeps need, by the constants of the plan.

python docs/scale.py
"""

from __future__ import annotations

from pathlib import Path

from dclip.config import Config
from dclip.methods.contract import BACKWARD
from dclip.models import registry, sizes
from dclip.prepare import plan
from dclip.prepare.compose import configured

PAGE = Path(__file__).with_suffix(".md")
RUNS = 1000


def hours(cfg: Config) -> float:
    """GPU hours of a run on the Quadro RTX 6000 of the paper."""
    size = sizes.size_of(cfg)
    assert size is not None
    return sum(plan.calls(cfg).values()) * size.gflop / plan.RTX6000_GFLOPS / 3600


def memory(cfg: Config) -> str:
    """What is counted, and at most, in GB."""
    size = sizes.size_of(cfg)
    assert size is not None
    counted = plan.memory_mb(cfg, size) / 1e3
    return f"{counted:.0f} to {counted * plan.OVERHEAD:.0f}"


def disk(cfg: Config) -> tuple[float, float]:
    """GB of a fine-tuning's edit, and of its two checkpoints (weights and Adam's two moments)."""
    size = sizes.size_of(cfg)
    assert size is not None
    weights = size.parameters * plan.BYTES / 1e9
    return weights, 2 * 3 * weights


def page() -> str:
    """The page."""
    imagenet = configured(["experiment=imagenet"])
    faces = configured(["experiment=celeba"])
    tuned = {
        "imagenet": imagenet,
        "imagenet, `method=gpu_efficient` (as published)": configured(
            ["experiment=imagenet", "method=gpu_efficient"]
        ),
        "imagenet, `method=chain_checkpointed`": configured(
            ["experiment=imagenet", "method=chain_checkpointed"]
        ),
        "celeba": faces,
        "celeba, `preset=[chain_checkpointed,lora]`": configured(
            ["experiment=celeba", "preset=[chain_checkpointed,lora]"]
        ),
    }
    rows = [
        f"| {name} | {sum(plan.calls(cfg).values()):,.0f} | {hours(cfg):.1f} | {memory(cfg)} |"
        for name, cfg in tuned.items()
    ]
    big, small = sizes.size_of(imagenet), sizes.size_of(faces)
    assert big is not None and small is not None
    edit, checkpoints = disk(faces)
    data = faces.dataset
    images = data.train + data.validation + data.test
    latent = 3 * 256 * 256 * plan.BYTES / 1e6
    work = plan.calls(faces)
    shared = work["invert"] * small.gflop / plan.RTX6000_GFLOPS / 3600
    alone = hours(faces) * RUNS
    return f"""# What large runs need

**These are estimates**, not measurements: the network calls that a plan counts, times the
operations of a call, divided by the speed that the paper's Quadro RTX 6000 reached
({plan.RTX6000_GFLOPS / 1000:.1f} TFLOP/s). A newer GPU is faster. Nothing here has been run with the
published weights. `python docs/scale.py` writes this page; for a run of your own, on your
device: `python run.py plan=true experiment=NAME`.

## ImageNet at 512 x 512

{big.parameters / 1e6:.0f} million parameters ({registry.get("imagenet512").megabytes / 1e3:.1f} GB of weights), \
{big.gflop / 1e3:.1f} TFLOP per call, and {big.kept_mb / 1e3:.1f} GB kept for the backward
pass of one call: {big.gflop / small.gflop:.0f} times the work of the 256 x 256 face model ({small.gflop / 1e3:.2f} TFLOP).

| fine-tuning (`experiment=`) | network calls | hours on an RTX 6000 | GB of GPU memory |
|---|---|---|---|
{chr(10).join(rows)}

A call is the forward pass of one image; forward and backward together count {BACKWARD:.0f}. Memory is weights,
gradients, Adam's moments and what the chain keeps; the upper number allows for what an allocator
may need. `method=chain_checkpointed` keeps one step instead of the chain, and `preset=lora`
trains about 2.4 % of the weights.

## A sweep of {RUNS:,} fine-tunings of the face model

| | each run alone | with what dclip shares or leaves out |
|---|---|---|
| GPU hours | {alone:,.0f} | {alone - shared * (RUNS - 1):,.0f}, if all runs invert the same images at the same t0 (the latent cache) |
| edits on disk | {edit * RUNS:,.0f} GB | {0.012 * edit * RUNS:,.0f} GB with `preset=lora` (rank 8 in half precision: 1.2 % of the base's bytes) |
| checkpoints on disk | {checkpoints * RUNS:,.0f} GB | 0: delete `checkpoints/` of finished runs; only resuming needs them |
| latents | {images * latent / 1e3:.2f} GB | the same, once for every t0 and number of steps |

- {alone / 24:.0f} days of one RTX 6000, or {alone / 16:.0f} hours of sixteen if the jobs are even.
- Start `python run.py study=NAME` on as many machines as share `outputs/`. A job is locked while it
  runs, and a finished one never runs again. Re-running the command resumes killed jobs from their
  last checkpoint.
- Studies log to files only (`logger=csv`), because {RUNS:,} online runs with pictures exceed the
  limits of most Weights & Biases plans. `task=report runs=outputs` makes the table without it;
  `logger=wandb` brings it back.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
