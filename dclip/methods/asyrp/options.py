"""``method=asyrp`` and its settings. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dclip.config import Config, option
from dclip.config.options import check_positive
from dclip.errors import need
from dclip.methods.contract import BACKWARD, Cost, ImageCounts
from dclip.methods.diffusionclip.options import Learning, NetworkCalls
from dclip.methods.diffusionclip.settings import LrSchedule
from dclip.runtime.imports import before_lightning

if TYPE_CHECKING:
    from dclip.diffusion.timesteps import Pair
    from dclip.edits.edit import Edit
    from dclip.edits.saved import SavedEdit
    from dclip.encode.encoded import Encoded
    from dclip.methods.diffusionclip.loss import Terms
    from dclip.methods.diffusionclip.objectives import Work
    from dclip.models.networks import Networks
    from dclip.models.unet import DiffusionModel
    from dclip.run import Run


def check_t_edit(t_edit: int, t0: int) -> None:
    """Refuse a timestep from which on nothing is edited at all."""
    need(
        t_edit < t0,
        f"method.t_edit={t_edit} leaves nothing to edit below sampler.t0={t0}; "
        f"choose 0 to {t0 - 1}",
    )


def _is_timestep(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_middle_block(method: str, networks: Networks) -> None:
    """Refuse a network that has no h."""
    need(
        "mid_block" in dict(networks.model.unet.named_children()),
        f"method={method} needs a network with a middle block, and checkpoint "
        f"{networks.model.info.name!r} has none; choose method=diffusionclip",
    )


@option("method", "asyrp")
@dataclass
class Asyrp(Learning):
    """Learn a change of h, the middle of the network; the network itself stays as it is.

    Only the predicted x0 sees it, by an asymmetric step (Kwon et al., ICLR 2023). What the network
    knows (beards, smiles, the length of hair) comes out as the network draws it; what it has never
    seen (red hair, green skin) does not come at all.

    Attributes:
        t_edit: below this timestep nothing is edited; 0: to the end; auto: where the predicted
            pictures are ``t_edit_distance`` from their sources, the paper's rule.
        t_edit_distance: in LPIPS (times the cosine of the texts); for another distance, which is
            used where LPIPS' weights are not on disk, it must be found anew.
        l1_by_texts: ``loss.l1`` counts as much as the texts are alike (times their cosine), the
            paper's weight; ``False``: as it is given.
        paired: each step is compared with what the original predicts there, as in the paper.
    """

    merges = False

    epochs: int = 16
    lr: float = 4e-3
    lr_schedule: LrSchedule = LrSchedule.cosine
    t_edit: Any = 0
    t_edit_distance: float = 0.33
    l1_by_texts: bool = False
    paired: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        need(
            self.t_edit == "auto" or _is_timestep(self.t_edit),
            f"method.t_edit={self.t_edit} is neither auto nor a timestep (0: to the end)",
        )
        check_positive("method", t_edit_distance=self.t_edit_distance)

    def __call__(self, work: Work) -> Iterator[Terms]:
        """One update a step that edits, on its predicted x0."""
        from dclip.methods.diffusionclip.objectives import gpu_efficient

        return gpu_efficient(replace(work, pairs=self._editing(work.pairs)))

    def updates(self, pairs: Sequence[Pair]) -> int:
        """One a step that edits."""
        return len(self._editing(pairs))

    def _editing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """The steps that edit: those below ``t_edit``, which come last, have nothing to learn."""
        t_edit = 0 if self.t_edit == "auto" else int(self.t_edit)
        return [pair for pair in pairs if pair[0] >= t_edit]

    def network_calls(self) -> NetworkCalls:
        """A step asks the original, then the edit, whose gradient ends at h: half a network.

        These are the calls where all steps edit.
        """
        return NetworkCalls(1.5 * self.s_train, 0.5 * self.s_train)

    def cost(self, cfg: Config, images: ImageCounts) -> Cost:
        """Without the steps below ``t_edit``, which are not made while it learns."""
        from dclip.diffusion.timesteps import pairs_down

        sampler = cfg.sampler
        pairs = pairs_down(sampler.t0, self.s_train, sampler.final_step, sampler.grid)
        left_out = self.epochs * images.train * (len(pairs) - self.updates(pairs))
        a_step = 1.5 + 0.5 * BACKWARD + (1 if cfg.loss.uses("prior") else 0)
        whole = Learning.cost(replace(self, t_edit=0), cfg, images)
        return replace(whole, calls={"fine-tune": whole.calls["fine-tune"] - a_step * left_out})

    def check(self, cfg: Config) -> None:
        """Asymmetric steps are DDIM's; something must be edited."""
        super().check(cfg)
        if self.t_edit != "auto":
            check_t_edit(self.t_edit, cfg.sampler.t0)
            return
        need(
            cfg.input is None,
            "method.t_edit=auto is measured on validation images, and with input= there are none; "
            "give method.t_edit a timestep (0: to the end)",
        )
        need(
            cfg.dataset.validation > 0,
            "method.t_edit=auto is measured on validation images, and there are none; "
            "choose dataset.validation=4 or more, or give method.t_edit a timestep",
        )

    def check_networks(self, cfg: Config, networks: Networks) -> None:
        """The network must have a middle block of one kind."""
        super().check_networks(cfg, networks)
        check_middle_block("asyrp", networks)
        if self.t_edit == "auto":
            from dclip.methods.asyrp.interval import distance_of

            distance_of(networks)  # refuses where there is none

    def adapt(self, run: Run, starts: Mapping[str, Encoded]) -> Edit:
        """Learn dh."""
        before_lightning()
        from dclip.methods.asyrp.hspace import (
            AsymmetricModel,
            HSpaceEdit,
            change_for,
            save_change,
        )
        from dclip.methods.diffusionclip.fit import learn

        run.model.unet.requires_grad_(False)
        t_edit = self._t_edit(run, starts)
        change = change_for(run.model, run.cfg.seed)
        write = partial(save_change, change=change, t_edit=t_edit)
        model = AsymmetricModel(run.model, change, t_edit)
        given = replace(self, t_edit=t_edit)
        learn(self._weighed(run, starts), given, starts, model, change, write)
        return HSpaceEdit(run.model, change.to(run.device), t_edit)

    def _weighed(self, run: Run, starts: Mapping[str, Encoded]) -> Run:
        """The run with the weight of L1 that the texts ask for."""
        if not self.l1_by_texts:
            return run
        from dclip.methods.asyrp.interval import likeness

        loss = run.cfg.loss
        alike = likeness(run, starts["train"].sources)
        return replace(run, cfg=replace(run.cfg, loss=replace(loss, l1=alike * loss.l1)))

    def _t_edit(self, run: Run, starts: Mapping[str, Encoded]) -> int:
        """As it was given, or measured."""
        if self.t_edit != "auto":
            return int(self.t_edit)
        from dclip.methods.asyrp.interval import measured_t_edit

        return measured_t_edit(run, starts["validation"].sources, self.t_edit_distance)

    def load(self, saved: SavedEdit, model: DiffusionModel) -> Edit:
        """dh from its file."""
        from dclip.methods.asyrp.hspace import HSpaceEdit, change_for
        from dclip.models.saved import read_weights

        change = change_for(model)
        change.load_state_dict(read_weights(saved.path))
        return HSpaceEdit(model, change, int(saved.header["t_edit"]))
