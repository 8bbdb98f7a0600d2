"""``method=h_mean`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Config, option, option_name
from dclip.config.options import check_not_negative, check_positive
from dclip.data.domains import truth_of
from dclip.errors import need
from dclip.methods.asyrp.options import check_middle_block, check_t_edit
from dclip.methods.contract import Cost, ImageCounts, Method

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.models.networks import Networks
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run


@dataclass
class Supervised(Method):
    """What methods have that see the true edited pictures of their training images.

    Attributes:
        scale: of the change of h.
        t_edit: below this timestep nothing is edited; 0: to the end.
    """

    merges = False

    scale: float = 1.0
    t_edit: int = 0

    def __post_init__(self) -> None:
        check_positive("method", scale=self.scale)
        check_not_negative("method", t_edit=self.t_edit)

    def is_random(self, cfg: Config) -> bool:
        """It is computed from the training pictures, and nothing is drawn."""
        return False

    def check(self, cfg: Config) -> None:
        """The true pictures must be known, and something must be edited."""
        truth = truth_of(cfg)
        need(
            truth is not None and cfg.input is None,
            f"method={option_name('method', self)} needs the true edited pictures of its training "
            "images, which only dataset=toonfaces knows, for its own edits; choose method=asyrp",
        )
        need(
            truth is not None and truth.pictured,
            f"method={option_name('method', self)} needs the true edited pictures of its training "
            f"images; a change of style (edit={cfg.edit.name}) has no single one: choose "
            "method=diffusionclip",
        )
        check_t_edit(self.t_edit, cfg.sampler.t0)

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """The network must have a middle block."""
        check_middle_block(option_name("method", self), networks)

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """The true pictures are inverted, too, and both go down once."""
        sampler = cfg.sampler
        each = sampler.encoding_calls() + 2 * sampler.generation_calls()
        return Cost({"adapt": float(images.train * each)}, weights=1)


@option("method", "h_mean")
@dataclass
class HMean(Supervised):
    """Add to h, the middle of the network, the mean difference that the true edit makes there.

    No CLIP and no gradient: the training images' true edited pictures are known (ToonFaces), both
    are inverted, and on the way down the means of their h are subtracted, step by step (after Haas
    et al., FG 2024). It shows what a straight line in h can do, and is no rival: it is shown the
    answer on training images.
    """

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Measure the difference."""
        from dclip.methods.hmean.direction import MeanEdit, measured_change

        change = measured_change(run, starts["train"], self.scale)
        return MeanEdit(run.model, change, self.t_edit)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """The difference from its file."""
        from dclip.methods.hmean.direction import MeanEdit, read_change

        return MeanEdit(model, read_change(saved.path), int(saved.header["t_edit"]))
