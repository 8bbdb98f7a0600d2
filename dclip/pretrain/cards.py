"""The model card: how a network was made, and how good it is."""

from __future__ import annotations

from typing import Any

from dclip.pretrain.course import Subject


def write_card(
    name: str,
    command: str,
    scores: dict[str, float],
    seconds: float,
    environment: dict[str, Any],
    parameters: int,
    pictures: list[str],
    subject: Subject,
) -> str:
    """The model card, in Markdown."""
    rows = "\n".join(f"| {metric} | {value:.4f} |" for metric, value in scores.items())
    machine = environment["gpu"]
    if not machine:
        machine = f"{environment['cpus']} CPU cores, {environment['threads']} thread(s)"
    images = "".join(f"\n![{picture}]({picture}.png)\n" for picture in pictures)
    torch_version = environment["versions"].get("torch")
    return f"""# {name}

{subject.about}

- command: `{command}`
- time: {seconds / 60:.0f} minutes on {machine}
- parameters: {parameters:,}, stored in half precision
- data: {subject.data}
- software: torch {torch_version}, Python {environment["python"]}

| on the test split | |
|---|---|
{rows}
{images}
Licence: {subject.licence}
"""
