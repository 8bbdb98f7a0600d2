"""Time and memory of one batch of every fine-tuning objective, for several numbers of steps, side
by side.

    python benchmarks/objectives.py [--model toonfaces] [--batch 2] [--steps 6,12,24] [--repeats 3]

Rounds are interleaved, so that a machine that slows down slows down all of them; the time is the
best round's (CPU time without a GPU). ``kept`` is what autograd holds for the way back when it is
most (counted tensor by tensor; the checkpointed chain's one recomputed call included). On a GPU,
``peak`` is what the allocator saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common import arguments, table
from dclip.config import OPTIONS, Lora, Loss
from dclip.data.toonfaces.images import toonfaces
from dclip.diffusion.timesteps import pairs_down
from dclip.files import write_json
from dclip.methods.diffusionclip.loss import EditLoss
from dclip.methods.diffusionclip.objectives import Work
from dclip.methods.diffusionclip.options import ChainCheckpointed, DiffusionClip
from dclip.methods.diffusionclip.threads import BatchThreads
from dclip.models.checkpoints import load_clip, load_identity, load_model
from dclip.models.lora import LowRankUpdates
from dclip.models.memory import saved_for_backward
from dclip.models.unet import DiffusionModel
from dclip.record.machine import environment

# objective, rank of low-rank updates
ROWS = [
    ("chain", 0),
    ("chain_checkpointed", 0),
    ("gpu_efficient", 0),
    ("last_k", 0),
    ("onestep", 0),
    ("annealed", 0),
    ("chain", 8),
    ("onestep", 8),
]


@dataclass
class Case:
    """One objective at one number of steps, ready to run a batch."""

    name: str
    steps: int
    model: DiffusionModel
    options: DiffusionClip
    work: Work
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    def batch(self, watch: Callable[[], None] = lambda: None) -> None:
        """All updates of one batch; ``watch`` is called when the graph is complete."""
        for terms in self.options(self.work):
            watch()
            self.optimizer.zero_grad()
            terms["total"].backward()
            self.optimizer.step()

    def shared(self, threads: BatchThreads) -> None:
        """The same as a fine-tuning on a CPU does it: threads share the images."""
        for _ in threads.updates(self.options, self.work, self.trained):
            self.optimizer.step()


def make_case(
    name: str, rank: int, steps: int, checkpoint: str, loss: EditLoss, latents: Tensor
) -> Case:
    """Fresh weights, so that no case trains on another's."""
    model = load_model(checkpoint).to(latents.device)
    model.unet.requires_grad_(rank == 0)
    trained: Iterable[nn.Parameter] = model.unet.parameters()
    if rank:
        lora = LowRankUpdates(model.unet, Lora(rank))
        lora.attach(model.unet)
        trained = lora.parameters()
    options = OPTIONS["method"][name](s_train=steps)
    assert isinstance(options, DiffusionClip)
    index = list(range(len(latents)))
    work = Work(model.predict, loss, model.schedule, pairs_down(500, steps), latents, index, 0, 0.5)
    trained = list(trained)
    label = name + (f" + LoRA {rank}" if rank else "")
    optimizer = torch.optim.Adam(trained, 1e-6, fused=True)
    return Case(label, steps, model, options, work, trained, optimizer)


def kept_bytes(case: Case) -> int:
    """Most bytes held for backward at once."""
    weights = [*case.model.parameters(), *case.trained]
    most = 0
    with saved_for_backward(weights) as saved:

        def watch() -> None:
            nonlocal most
            most = max(most, saved.total)
            saved.storages.clear()

        case.batch(watch)
    if isinstance(case.options, ChainCheckpointed):
        with saved_for_backward(weights) as call:
            t = torch.full((len(case.work.latents),), 500, device=case.work.latents.device)
            made = case.model.eps(case.work.latents, t)
        most += call.total
        del made
    return most


def seconds(case: Case) -> float:
    """Time of one batch: by the clock with a GPU, else CPU time: other work counts less in it."""
    clock = time.perf_counter if case.work.latents.is_cuda else time.process_time
    _wait(case)
    start = clock()
    case.batch()
    _wait(case)
    return clock() - start


def _wait(case: Case) -> None:
    if case.work.latents.is_cuda:
        torch.cuda.synchronize()


def measure(cases: list[Case], repeats: int) -> list[dict[str, Any]]:
    """One line a case."""
    lines = []
    for case in cases:
        if case.work.latents.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        line: dict[str, Any] = {
            "objective": case.name,
            "steps": case.steps,
            "kept_mb": kept_bytes(case) / 1e6,
        }
        if case.work.latents.is_cuda:
            line["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        lines.append(line)
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(repeats):
        for case, mine in zip(cases, times, strict=True):
            mine.append(seconds(case))
    for line, mine in zip(lines, times, strict=True):
        line["seconds"] = min(mine)
    chains = {line["steps"]: line for line in lines if line["objective"] == "chain"}
    for line in lines:
        chain = chains[line["steps"]]
        line["time_vs_chain"] = line["seconds"] / chain["seconds"]
        line["memory_vs_chain"] = line["kept_mb"] / chain["kept_mb"]
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, __file__)
    parser.add_argument("--model", default="toonfaces")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", default="6,12,24")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, clip = toonfaces("train", args.batch), load_clip().to(device)
    loss = EditLoss.prepare(
        Loss(), clip, load_identity().to(device), images, ("person", "person with red hair")
    )
    latents = torch.randn(images.pixels.shape, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    lines = []
    for steps in map(int, args.steps.split(",")):
        cases = [make_case(name, rank, steps, args.model, loss, latents) for name, rank in ROWS]
        lines += measure(cases, args.repeats)
        print(table(lines[-len(cases) :]), flush=True)
    content = {
        "batch": args.batch,
        "model": args.model,
        "lines": lines,
        "environment": environment(),
    }
    write_json(args.output, content)


if __name__ == "__main__":
    main()
