"""What the page of a run says that failed or was stopped: in which stage, why, how to go on."""

from __future__ import annotations

from dclip.pages.summary import Answer, Step
from dclip.record.runs import Run
from dclip.runtime.typed import typed

LINES = 15  # of the log's end that are shown
STAGES = {
    "": "before its first stage",
    "invert": "inverting the images",
    "adapt": "learning",
    "calibrate": "calibrating the edit's degree",
    "edit": "editing the pictures",
    "optimise": "optimising latents",
    "translate": "bringing the images into the domain",
    "per_image": "sampling",
}
VERBS = {"failed": "Failed", "stopped": "Stopped", "killed": "Killed"}


def stage_of(run: Run) -> str:
    """What a run was at when it ended, in words; empty where it did not say."""
    stage = run.status.get("stage")
    if not isinstance(stage, str):
        return ""
    name = stage.removeprefix("after ")
    words = STAGES.get(name, name)
    return f"after {words}" if name != stage else f"while {words}" if name else words


def unfinished(run: Run) -> Answer:
    """Why a run has no results, in one sentence."""
    short = " ".join(filter(None, (VERBS.get(run.state, run.state), stage_of(run))))
    reason = run.reason.removeprefix("DclipError: ").removeprefix("stopped ")
    return Answer("bad", short, f"{reason or 'its folder does not say why'}.".replace("..", "."))


def resuming(run: Run) -> list[Step]:
    """The command that takes the run up again."""
    if not run.command:
        return []
    words = "Run it again in the same folder"
    if (run.folder / "checkpoints" / "last.ckpt").is_file():
        words = "Continue from its last checkpoint"
    if run.state == "failed":
        words += ", once the cause is mended"
    return [Step(words, typed([*run.command, "resume=true"]))]


def last_lines(run: Run) -> str:
    """The end of its log."""
    path = run.folder / "run.log"
    if not path.is_file():
        return ""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LINES:])
