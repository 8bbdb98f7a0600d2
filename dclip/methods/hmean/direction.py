"""The mean change of h that a true edit makes, and the edit that adds it.

    dh_t = scale (mean h_t of the true edited images - mean h_t of the images)

h_t is the output of the U-Net's middle block at timestep t on the way down from an image's inverted
latent: the supervised direction of Haas et al. (FG 2024), a step at a time. The edit is an
asymmetric step, as Asyrp's (Kwon et al., ICLR 2023): only the predicted x0 sees h + dh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dclip.config import option_name
from dclip.data.domains import true_images, truth_of
from dclip.diffusion.sampler import Prediction
from dclip.edits.edit import DenoiserEdit
from dclip.encode.encoded import Encoded
from dclip.encode.generate import generate
from dclip.encode.invert import encode
from dclip.errors import DclipError
from dclip.methods.asyrp.hspace import AsymmetricModel, HSpaceEdit
from dclip.models.saved import read_weights, save_weights
from dclip.models.unet import DiffusionModel
from dclip.run import Run
from dclip.runtime import parallel
from dclip.types import Images


class MeanChange(nn.Module):
    """What is added to h at each timestep; between those that were measured, the nearest one's.

    Args:
        steps: the timesteps [K].
        means: the changes [K,C,H,W].
    """

    steps: Tensor
    means: Tensor

    def __init__(self, steps: Tensor, means: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)
        self.register_buffer("means", means)
        self.t = 0  # where the network is called next

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """[N,C,H,W], the same for every image."""
        nearest = (self.steps - self.t).abs().argmin()
        return self.means[nearest].to(h.dtype).expand_as(h)


class MeanModel(AsymmetricModel):
    """The asymmetric model of a change that must be told the timestep."""

    change: MeanChange

    def predict(self, x: Tensor, t: Tensor) -> Prediction:
        """As of any asymmetric model."""
        self.change.t = int(t[0])
        return super().predict(x, t)


class MeanEdit(HSpaceEdit):
    """A measured dh, applied by asymmetric steps.

    Attributes:
        method: that measured it.
        kind: what its file says of its weights.
    """

    method: ClassVar[str] = "h_mean"
    kind: ClassVar[str] = "mean of h"

    def __init__(self, original: DiffusionModel, change: MeanChange, t_edit: int) -> None:
        self.change, self.t_edit = change, t_edit
        self.model = MeanModel(original, change, t_edit)
        DenoiserEdit.__init__(self, original, self.model.predict, (self.model,))

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"an edit of method={self.method}"

    def save(self, path: Path, header: Mapping[str, Any]) -> None:
        """Write dh."""
        own = {"kind_of_weights": self.kind, "t_edit": self.t_edit}
        save_weights(path, self.change, {**header, **own})


def read_change(path: Path) -> MeanChange:
    """dh from its file."""
    tensors = read_weights(path)
    return MeanChange(tensors["steps"], tensors["means"])


# ---------------------------------------------------------------------------------- measuring


def measured_change(run: Run, start: Encoded, scale: float) -> MeanChange:
    """dh between these images and their true edited pictures.

    Raises:
        DclipError: there are no true pictures.
    """
    edited = true_start(run, start)
    before, after = mean_h(run, start), mean_h(run, edited)
    changes = {t: scale * (after[t] - before[t]) for t in before}
    return change_of_steps(run, changes)


def true_start(run: Run, start: Encoded) -> Encoded:
    """The true edited pictures of these images, inverted.

    Raises:
        DclipError: there are none.
    """
    truth = true_images(start.sources, truth_of(run.cfg))
    if truth is None:
        raise DclipError(
            f"method={option_name('method', run.cfg.method)} needs the true edited pictures of its "
            "training images; a change of style has no single one"
        )
    names = tuple(f"{name}_true" for name in start.ids)
    return encode(run, Images(truth, names), "true pictures")


def change_of_steps(run: Run, changes: Mapping[int, Tensor]) -> MeanChange:
    """dh from what is added at each timestep, [C,H,W], on the run's device."""
    steps = sorted(changes, reverse=True)
    means = torch.stack([changes[t] for t in steps])
    return MeanChange(torch.tensor(steps), means).to(run.device)


def mean_h(run: Run, start: Encoded) -> dict[int, Tensor]:
    """The mean of h [C,H,W] over images at every timestep of the way down, on the CPU."""
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}

    def add(t: int, h: Tensor) -> None:
        total = h.sum(0)
        sums[t] = sums.get(t, torch.zeros_like(total)) + total
        counts[t] = counts.get(t, 0) + len(h)

    listen(run, start, add)
    totals: dict[int, Tensor] = {}
    numbers: dict[int, int] = {}
    for part, of_part in parallel.all_gather_objects((sums, counts)):
        for t, value in part.items():
            totals[t] = totals.get(t, torch.zeros_like(value)) + value
            numbers[t] = numbers.get(t, 0) + of_part[t]
    return {t: total / numbers[t] for t, total in totals.items()}


def listen(run: Run, start: Encoded, hear: Callable[[int, Tensor], None]) -> None:
    """Carry these images down, and hand on t and h [n,C,H,W] of every batch, on the CPU.

    Each process hears its share of the images, in their order.
    """
    listener = _Listener(run.model, hear)
    with listener:
        generate(run, listener.predict, start, "listening to h")


class _Listener:
    """A model's own denoiser that hands on what its middle block gives."""

    def __init__(self, model: DiffusionModel, hear: Callable[[int, Tensor], None]) -> None:
        self.model, self.hear = model, hear
        self._heard: Tensor | None = None

    def __enter__(self) -> None:
        block = self.model.unet.get_submodule("mid_block")
        self._hook = block.register_forward_hook(self._hear)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _hear(self, block: nn.Module, inputs: object, h: Tensor) -> None:
        self._heard = h.detach().float().cpu()

    def predict(self, x: Tensor, t: Tensor) -> Prediction:
        """The model's prediction."""
        prediction = self.model.predict(x, t)
        assert self._heard is not None
        self.hear(int(t[0]), self._heard)
        return prediction
