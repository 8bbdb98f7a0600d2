"""The contract of a method: how an edit is made. One registered option, one class, one folder or file.

A method is its own option: a dataclass with its settings, registered by ``@option("method", NAME)``.
The pipeline, the checks, the plan and the demo call what is below and never ask which method it is.
``docs/extend.md`` adds one. Imports nothing heavy: methods import torch when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dclip.config import OPTIONS, Config, MethodOption, SampleTask, option_name
from dclip.errors import DclipError, need

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.models.networks import Networks
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run


BACKWARD = 3.0  # a forward and a backward pass, in forward passes (105 ms against 35 ms on a CPU)


@dataclass(frozen=True)
class ImageCounts:
    """How many images a run trains on, validates on, and edits or samples."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Cost:
    """What a method takes, beside inversion and the edit itself.

    Attributes:
        calls: part of the run -> U-Net evaluations, in forward passes of one image.
        weights: copies of the network's weights held at once (the model's own, its copy,
            gradients, an optimiser's moments).
        graphs: passes of one image that autograd keeps for the backward pass at once; 0: none.
    """

    calls: Mapping[str, float] = field(default_factory=dict)
    weights: int = 2
    graphs: int = 0


@dataclass
class Method(MethodOption):
    """How an edit is made. Subclass it, and implement what differs.

    Attributes:
        learns: whether ``adapt`` learns an edit that is kept (``task=finetune``); else the method
            acts while sampling (``task=sample``).
        merges: whether its edits are changes of the network's weights, which ``mix.soup`` adds up.
    """

    learns: ClassVar[bool] = True
    merges: ClassVar[bool] = True

    @property
    def needs_latents(self) -> bool:
        """Whether ``adapt`` uses the latents of the training images."""
        return True

    def needs(self, cfg: Config) -> frozenset[str]:
        """Networks that ``adapt`` or the edit uses beside the model: of "clip", "guides", "identity"."""
        return frozenset()

    def is_random(self, cfg: Config) -> bool:
        """Whether ``seed`` can change what it makes of the same latents."""
        return True

    def check(self, cfg: Config) -> None:
        """Refuse what cannot work, before anything is built. DclipError in one line."""

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """Refuse what only the built networks can tell, before anything is encoded."""

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """What ``adapt`` (or sampling) takes."""
        return Cost()

    def title(self, cfg: Config) -> str:
        """A run in words, for its report."""
        return f"{option_name('task', cfg.task)}: {cfg.edit.source} → {cfg.edit.target}"

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Make the edit.

        Args:
            run: the original model, the other networks, the record.
            starts: the images of "train", "validation" and "test" with their latents; empty where
                the method does not learn.
        """
        raise DclipError(f"method={option_name('method', self)} makes no edit")

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """The way back from ``Edit.save``, for the base that it was learned from."""
        raise DclipError(f"method={option_name('method', self)} keeps no edits")


def method_named(name: str) -> Method:
    """The method of that name, with its default settings. DclipError where there is none."""
    option = OPTIONS["method"].get(name)
    method = option() if option is not None else None
    if not isinstance(method, Method):
        choices = ", ".join(OPTIONS["method"])
        raise DclipError(
            f"an edit was made by method={name}, which is not here; known: {choices} "
            "(was it a plug-in? give plugins=...)"
        )
    return method


def method_of(cfg: Config) -> Method:
    """The run's method. Sampling with a method that learns is sampling with the model as it is."""
    method = cfg.method
    need(
        isinstance(method, Method),
        f"method={option_name('method', method)} is not a Method; subclass dclip.extend.Method",
    )
    assert isinstance(method, Method)
    if isinstance(cfg.task, SampleTask) and method.learns:
        return method_named("none")
    return method
