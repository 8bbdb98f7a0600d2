"""``method=h_edit`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dclip.config import Carry, Config, option
from dclip.config.options import check_not_negative, check_positive
from dclip.errors import need
from dclip.methods.contract import Cost, ImageCounts, Method

if TYPE_CHECKING:
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run


@option("method", "h_edit")
@dataclass
class HEdit(Method):
    """Learn nothing: every step down is followed by steps along a reward's gradient (h-Edit-R).

    The source goes down along noise maps (``sampler.carry=noise_maps``), which bring it back as it
    was; nothing is inverted. After each step x moves so that its predicted x0 earns more: first by
    what ``loss`` says of the edit (clip, shift, contrast), then by what it says of the source (l1,
    id, keep, outside). No gradient goes through the diffusion model.

    Attributes:
        scale: of the gradients; the paper has 50 to 100 for its face networks.
        rounds: of the two after every step but the last.
        spread: share of a step's noise that comes from the noise map; published: 0.25.
        paired: x0 is compared with what the network predicts along the source's branch, as blurred
            as itself; else with the sharp source, as published.
    """

    merges = False

    scale: float = 50.0
    rounds: int = 3
    spread: float = 0.25
    paired: bool = False

    def __post_init__(self) -> None:
        check_positive("method", scale=self.scale, rounds=self.rounds)
        check_not_negative("method", spread=self.spread)
        need(self.spread <= 1, f"method.spread={self.spread} is a share; choose 0 to 1")

    @property
    def needs_latents(self) -> bool:
        """Nothing is learned."""
        return False

    def needs(self, cfg: Config) -> frozenset[str]:
        """CLIP, and the identity network where its weight is above 0."""
        identity = frozenset({"identity"} if cfg.loss.id > 0 else ())
        return frozenset({"clip"}) | identity

    def check(self, cfg: Config) -> None:
        """Noise maps carry the source, and CLIP says what is better."""
        carry = cfg.sampler.carry
        need(
            carry is Carry.noise_maps,
            f"method=h_edit goes along noise maps, not sampler.carry={carry}; "
            "set sampler.carry=noise_maps",
        )
        need(
            cfg.sampler.carry_weight == 1,
            f"sampler.carry_weight={cfg.sampler.carry_weight} means nothing for method=h_edit; "
            "set method.scale",
        )
        need(
            not cfg.loss.uses("prior"),
            "loss.prior is for what is learned; method=h_edit never leaves the network's own steps, so "
            "set loss.prior=0",
        )
        need(
            cfg.loss.needs_clip,
            "method=h_edit follows CLIP, and no weight of loss asks it; set loss.clip above 0",
        )
        need(
            not self.paired or cfg.loss.clip == 0,
            "method.paired=true starts where nothing has changed yet, and no change has no "
            f"direction, which loss.clip={cfg.loss.clip} looks at; set loss.clip=0, and "
            "loss=directional_shift loss.shift=10",
        )
        need(
            cfg.edit.adapter is None,
            "edit.adapter is for task=edit; method=h_edit starts from the checkpoint",
        )

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """Two calls a round, beside those of the edit and its source."""
        a_step = 2 * self.rounds + (1 if self.paired else 0)
        return Cost({"reward": float(images.test * a_step * (cfg.sampler.steps_down - 1))})

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Training-free: each picture is moved when the edit is applied."""
        from dclip.methods.h_edit.edit import RewardedEdit

        return RewardedEdit(self, run.cfg.loss)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """The settings from a file; there is nothing else in it."""
        from dclip.methods.h_edit.edit import RewardedEdit, loss_of

        return RewardedEdit(HEdit(**saved.header["method"]), loss_of(saved.header["loss"]))
