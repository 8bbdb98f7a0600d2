"""An edit that acts in its region only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dclip.config import Config, Mix
from dclip.config.edit import FOUND
from dclip.config.edit import Edit as EditOptions
from dclip.data.domains import true_images, truth_of
from dclip.data.masks import read_masks
from dclip.diffusion.mix import regional
from dclip.diffusion.sampler import EpsFn
from dclip.edits.carried import Carried, carried, carry_down, goes_beside
from dclip.edits.edit import Edit, Mixture, PlacedEdit
from dclip.edits.in_turn import InTurn, Turn
from dclip.edits.place import Place, acted_apart, mean_weights
from dclip.edits.refine import Finish
from dclip.edits.region import found_region, true_region, union
from dclip.edits.seen import seen_region
from dclip.encode.encoded import Encoded
from dclip.encode.generate import generate
from dclip.encode.trajectory import Trajectory, run_trajectory
from dclip.errors import DclipError
from dclip.run import Run
from dclip.text.direction import direction_of, feature_direction
from dclip.types import Images

FEW = 8  # images whose pictures are kept, so that another region of them costs nothing


class KeptPictures:
    """What was made of the images that were edited last, where they are few: a page asks again."""

    def __init__(self) -> None:
        self._start: tuple[object, Tensor] | None = None
        self._made: dict[object, Tensor] = {}
        self._turns: dict[int, KeptPictures] = {}

    def of_turn(self, place: int) -> KeptPictures:
        """Those of one edit, where several act one after the other."""
        return self._turns.setdefault(place, KeptPictures())

    def of(self, run: Run, start: Encoded, mix: Mix | None = None) -> dict[object, Tensor]:
        """What is kept of these images, to be added to; empty for others than those before.

        Args:
            mix: how several edits are mixed, where what is kept was made by all of them.
        """
        key = (start.ids, run.cfg.seed, run.cfg.sampler, mix)
        if len(start) > FEW:
            return {}
        known, pixels = self._start, start.sources.pixels
        if known is None or known[0] != key or not torch.equal(known[1], pixels):
            self._start, self._made = (key, pixels), {}
        return self._made


class InRegion(PlacedEdit):
    """An edit that knows where it acted last.

    Args:
        edit: acts everywhere.
        kept: what was made of the images before, by the same edits in other regions.
    """

    def __init__(self, edit: Edit, kept: KeptPictures | None = None) -> None:
        super().__init__(edit)
        self._found: tuple[tuple[str, ...], Sequence[Tensor]] | None = None
        self._kept = kept or KeptPictures()

    def region(self, start: Encoded) -> Tensor | None:
        """Where these images were edited last, [N,1,H,W]; None if they were not."""
        regions = self.regions(start)
        return union(regions) if regions else None

    def regions(self, start: Encoded) -> list[Tensor]:
        """Where each of the edits acted last on these images; empty if they were not edited."""
        if self._found is None or self._found[0][: len(start)] != start.ids:
            return []
        return [region[: len(start)] for region in self._found[1]]


class Confined(InRegion):
    """Any edit that can be applied by degrees, within a region; the rest of an image stays."""

    def placed(self, run: Run, start: Encoded, source: Tensor, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]. The region is that of the whole edit, whatever the degree."""
        pictures = self._pictures(run, start, gammas)
        options, plain = run.cfg.edit, pictures[0.0]
        place = _place_of(run, options, start, self.edit, pictures[1.0], plain)
        self._found = start.ids, [place.region]
        edited, finish = [], finish_of(run, start.ids)
        for gamma in gammas:
            acted = place.acted(source, pictures[gamma], plain, gamma)
            edited.append(finish.refined(options, place.region, acted, gamma))
        return torch.stack(edited, 1)

    def _pictures(
        self, run: Run, start: Encoded, gammas: Sequence[float]
    ) -> Mapping[object, Tensor]:
        """The edit's own pictures [N,3,H,W] at these degrees, at 0 and at 1."""
        made = self._kept.of(run, start, run.cfg.mix)
        asked = [gamma for gamma in dict.fromkeys([0.0, 1.0, *gammas]) if gamma not in made]
        if asked:
            strip = self.edit.strip(run, start, asked).unbind(1)
            made.update(zip(asked, strip, strict=True))
        return made


class ConfinedMixture(InRegion):
    """Several edits that are mixed, each in its own region; the rest of an image stays.

    An edit's region is found from the change that it makes alone. In its region, only its denoiser
    acts beside the original one; where regions overlap, those that meet there are mixed as usual.

    Args:
        mixture: the edits and their weights.
        options: where each of them may act.
        kept: what was made of the images before, by the same edits in other regions.
    """

    def __init__(
        self,
        mixture: Mixture,
        options: Sequence[EditOptions],
        kept: KeptPictures | None = None,
    ) -> None:
        super().__init__(mixture, kept)
        self.mixture, self.options = mixture, options

    def placed(self, run: Run, start: Encoded, source: Tensor, gammas: Sequence[float]) -> Tensor:
        """Edited images [N,K,3,H,W]. The regions are those of whole edits, whatever the degree."""
        made = self._kept.of(run, start)
        original = self.mixture.original
        beside = goes_beside(run.cfg)
        if beside:
            made[original] = source
        if original not in made:
            made[original] = generate(run, original.predict, start, "without the edits")
        plain, places = made[original], []
        for edit, options in zip(self.mixture.edits, self.options, strict=True):
            if edit not in made and options.confined:
                by_itself = Carried(edit) if beside else edit
                made[edit] = by_itself.apply(run, start, 1.0)
            places.append(_place_of(run, options, start, edit, made.get(edit, plain), plain))
        self._found = start.ids, [place.region for place in places]
        mixed = self._mixed(run, start, places, plain, gammas).unbind(1)
        weights = mean_weights(self.mixture.weights, run.cfg.sampler)
        edited, finish = [], finish_of(run, start.ids)
        for one, gamma in zip(mixed, gammas, strict=True):
            degrees = [gamma * weight for weight in weights]
            acted = acted_apart(places, source, one, plain, degrees)
            for place in places:
                acted = finish.refined(place.options, place.region, acted, gamma)
            edited.append(acted)
        return torch.stack(edited, 1)

    def _mixed(
        self,
        run: Run,
        start: Encoded,
        places: Sequence[Place],
        plain: Tensor,
        gammas: Sequence[float],
    ) -> Tensor:
        """The mixture [N,K,3,H,W] before it is put into the source, without what is laid over it."""
        if all(place.matte is not None for place in places):
            return plain[:, None].expand(-1, len(gammas), -1, -1, -1)
        rows_of = {name: row for row, name in enumerate(start.ids)}
        mixture, weight = self.mixture, run.cfg.sampler.carry_weight
        degrees = [weight * gamma for gamma in gammas]
        eps_fns = [edit.denoiser(1.0) for edit in mixture.edits]

        def of_batch(ids: Sequence[str]) -> EpsFn:
            rows = [rows_of[name] for name in ids]
            hard = [place.mixed_region[rows] for place in places]
            original = mixture.original.predict
            return regional(original, eps_fns, mixture.weights, hard, degrees)

        eps_fn, copies = mixture.denoiser(1.0), len(gammas)
        if goes_beside(run.cfg):
            return carry_down(run, eps_fn, start, self.parts, copies, of_batch)
        mixed = generate(run, eps_fn, start, "mixing", self.parts, copies, of_batch)
        return mixed.reshape(len(start), len(gammas), *mixed.shape[-3:])


def _place_of(
    run: Run, options: EditOptions, start: Encoded, edit: Edit, whole: Tensor, plain: Tensor
) -> Place:
    """Where one edit acts, from the images [N,3,H,W] with it alone and without it."""

    def find(change: Tensor) -> Tensor:
        return region_of(run, options, start, change, edit)

    return Place.of(options, edit, start.sources.pixels, whole, plain, find)


def finish_of(run: Run, ids: Sequence[str]) -> Finish:
    """What comes after an edit of a run's images of these names has acted."""
    model = run.model

    def walk(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
        trajectory = Trajectory(model.predict, [model], pairs, model.schedule)
        return run_trajectory(run.cfg.trainer, trajectory, ids, x, "refining")

    return Finish(ids, run.cfg.seed, model, walk)


def region_of(
    run: Run,
    options: EditOptions,
    start: Encoded,
    change: Tensor,
    edit: Edit | None = None,
) -> Tensor:
    """Where an edit may act, as ``edit.region`` says: [N,1,H,W] in [0, 1].

    Args:
        options: its region.
        change: of the whole edit (gamma = 1), [N,3,H,W].
        edit: whose change it is, where it knows more than the run: its texts, where it usually acts.

    Raises:
        DclipError: ``edit.region`` is the truth, and that is not known, or no picture.
    """
    source = start.sources
    if options.region == "clip":
        return _clips_region(run, options, source, change, edit)
    if options.region in FOUND:
        return found_region(options, source.pixels, change, edit.usual.change if edit else None)
    if options.region == "truth":
        truth = true_images(source, truth_of(run.cfg))
        if truth is None:
            raise DclipError(
                "edit.region=truth needs the true edited pictures, which only ToonFaces knows, "
                "for its own edits; choose edit.region=auto"
            )
        return true_region(source.pixels, truth, options.region_feather)
    return read_masks(str(options.region), start.ids, change.shape[-1], "edit.region")


def _clips_region(
    run: Run, options: EditOptions, source: Images, change: Tensor, edit: Edit | None
) -> Tensor:
    """The region of ``edit.region=clip``."""
    clip = run.networks.clip
    if clip is None:
        raise DclipError("edit.region=clip asks CLIP, and there is none; choose edit.region=auto")
    clip.to(run.device)  # Lightning takes networks off the device when it is done
    texts = (edit.texts if edit else None) or direction_of(run.cfg, source)
    direction = feature_direction(texts, clip, run.cfg.loss.templates)
    usual = edit.usual.seen if edit else None
    return seen_region(options, clip, direction, source.pixels, change, usual)


def confined(cfg: Config, edit: Edit, kept: KeptPictures | None = None) -> Edit:
    """The edit, carried as ``sampler.carry`` says, in its region where there is one.

    That is ``edit.region``, or ``edit.regions`` of a mixture. A soup is one network with one change,
    so it has one region. ``kept``: what the same edits made before, in other regions or mixtures.
    """
    if cfg.edit.each and isinstance(edit, Mixture):
        return ConfinedMixture(edit, cfg.edit.each, kept)
    if isinstance(edit, InTurn):
        return InTurn(_turns_confined(cfg, edit.turns, kept or KeptPictures()))
    edit = carried(cfg, edit)
    return Confined(edit, kept) if cfg.edit.confined else edit


def _turns_confined(cfg: Config, turns: Sequence[Turn], kept: KeptPictures) -> list[Turn]:
    placed, own = [], cfg.edit.each or [cfg.edit] * len(turns)
    for place, (turn, options) in enumerate(zip(turns, own, strict=True)):
        edit = confined(replace(cfg, edit=options), turn.edit, kept.of_turn(place))
        placed.append(Turn(edit, turn.weight, options))
    return placed
