"""``method=h_boundary`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Config, option
from dclip.config.options import check_positive
from dclip.diffusion.options import pairs_of
from dclip.errors import need
from dclip.methods.hmean.options import Supervised

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run


@option("method", "h_boundary")
@dataclass
class HBoundary(Supervised):
    """Move h across the hyperplane between true edited pictures and their sources.

    As ``method=h_mean``, with a linear classifier in place of the means (BoundaryDiffusion, Zhu et
    al., NeurIPS 2023). ``scale`` 1 moves h, along the normal, as far as the two classes' means lie
    apart. The paper moves at one timestep, its mixing step (``mixing_step``), and the latent there,
    too; here only h moves, by asymmetric steps, and by default at each of them.

    Attributes:
        penalty: on the classifier's squared weights. Large: the normal is the difference of the
            means; small: that of the largest margin.
        mixing_step: h moves only at the step that begins nearest to this timestep; null: at all.
    """

    penalty: float = 1e-2
    mixing_step: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("method", penalty=self.penalty)

    def check(self, cfg: Config) -> None:
        """The step that moves must be one where something is edited."""
        super().check(cfg)
        at, step, t0 = self.mixing_step, self.moving_step(cfg), cfg.sampler.t0
        if at is None or step is None:
            return
        need(
            self.t_edit <= at <= t0,
            f"method.mixing_step={at} is not between method.t_edit={self.t_edit} and "
            f"sampler.t0={t0}, where h moves; choose one of these, or null for every step",
        )
        edited = [t for t, _ in pairs_of(cfg.sampler)[1] if t >= self.t_edit]
        need(
            step in edited,
            f"method.mixing_step={at} is nearest to the step at {step}, below "
            f"method.t_edit={self.t_edit}, where nothing is edited; choose {min(edited)}",
        )

    def moving_step(self, cfg: Config) -> int | None:
        """Where the step that is nearest to ``mixing_step`` begins; of two, the later one's."""
        at = self.mixing_step
        if at is None:
            return None
        return min((abs(t - at), t) for t, _ in pairs_of(cfg.sampler)[1])[1]

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Find the hyperplanes."""
        from dclip.methods.hboundary.boundary import BoundaryEdit, boundary_change

        only = self.moving_step(run.cfg)
        change = boundary_change(run, starts["train"], self.scale, self.penalty, only)
        return BoundaryEdit(run.model, change, self.t_edit)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """The move from its file."""
        from dclip.methods.hboundary.boundary import BoundaryEdit
        from dclip.methods.hmean.direction import read_change

        return BoundaryEdit(model, read_change(saved.path), int(saved.header["t_edit"]))
