"""The loss of an edit (DiffusionCLIP, Eq. 10-11), with all that is known of the source images.

clip * L_dir(x', x0) + l1 * |x' - x0| + id * L_id(x', x0), and ours: shift, contrast, keep, outside and
prior (``ShiftLoss``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dclip import losses
from dclip.config import Loss, ShiftLoss
from dclip.errors import DclipError
from dclip.methods.diffusionclip.prior import Prior
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.run import Run
from dclip.text.direction import (
    direction_of,
    feature_direction,
    keep_directions,
    texts_against,
)
from dclip.text.features import features_in
from dclip.types import Images

Terms = dict[str, Tensor]


@dataclass
class EditLoss:
    """The weighted loss of edited images; features of their sources are computed once.

    ``identity`` may be None only while its weight is 0. So may what some terms need:

    Attributes:
        keep: an orthonormal basis [K,D] of what must stay.
        against: unit features [1+M,D] of the target text, and of those that it competes with.
        prior: the original network.
    """

    options: Loss
    clip: ClipModel
    identity: IdentityModel | None
    direction: Tensor
    images: Tensor
    clip_features: Tensor
    id_features: Tensor | None
    keep: Tensor | None = None
    against: Tensor | None = None
    prior: Prior | None = None

    @classmethod
    @torch.no_grad()
    def prepare(
        cls,
        options: Loss,
        clip: ClipModel,
        identity: IdentityModel | None,
        images: Images,
        texts: tuple[str, str] | Tensor,
        keep: Tensor | None = None,
    ) -> EditLoss:
        """Encode the source images, and the texts (or take a direction [D] of features as it is)."""
        direction = texts
        if not isinstance(direction, Tensor):
            direction = feature_direction(direction, clip, options.templates)
        pixels = images.pixels.to(direction.device)
        features, id_features = clip.image_features(pixels), None
        if options.id == 0:
            identity = None
        if identity is not None:
            id_features = identity.features(pixels)
        return cls(options, clip, identity, direction, pixels, features, id_features, keep)

    def of(self, images: Images) -> EditLoss:
        """The same loss, along the same direction, of other source images."""
        options, direction = self.options, self.direction
        loss = EditLoss.prepare(options, self.clip, self.identity, images, direction, self.keep)
        return replace(loss, against=self.against, prior=self.prior)

    def __call__(
        self,
        edited: Tensor,
        index: Sequence[int],
        id_of: Tensor | None = None,
        draw: int = 0,
    ) -> Terms:
        """The terms and their weighted ``total`` for edited images of the sources at ``index``.

        A term whose weight is 0 is absent. ``id_of`` is what the identity network sees instead of
        the edited images (``faithful_id``); ``draw`` counts the calls, for terms that draw noise.
        """
        i = list(index)
        terms = self._clip_terms(edited, i) if self.options.needs_clip else {}
        if self.options.l1 > 0:
            terms["l1"] = losses.l1(edited, self.images[i])
        if isinstance(self.options, ShiftLoss) and self.options.outside > 0:
            terms["outside"] = losses.outside(edited, self.images[i])
        if self.prior is not None:
            terms["prior"] = self.prior.distance(edited, i, draw)
        if self.identity is not None and self.id_features is not None:
            id_features = self.identity.features(edited if id_of is None else id_of)
            terms["id"] = losses.identity(id_features, self.id_features[i])
        total = edited.new_zeros(())
        for name, value in terms.items():
            total = total + self.options.weights[name] * value
        return {**terms, "total": total}

    def _clip_terms(self, edited: Tensor, index: list[int]) -> Terms:
        options, direction, terms = self.options, self.direction, {}
        features, before = self.clip.image_features(edited), self.clip_features[index]
        if options.clip > 0:
            terms["clip"] = losses.directional(features, before, direction, options.form.value)
        if not isinstance(options, ShiftLoss):
            return terms
        if options.shift > 0:
            terms["shift"] = losses.shift(features, before, direction, options.margin)
        if options.contrast > 0 and self.against is not None:
            target, others = self.against[0], self.against[1:]
            temperature = 1 / self.clip.logit_scale
            terms["contrast"] = losses.contrastive(features, target, others, temperature)
        if options.keep > 0 and self.keep is not None:
            terms["keep"] = losses.kept(features, before, self.keep)
        return terms

    def s_dir(self, edited: Tensor) -> Tensor:
        """Mean cosine of the image's change with the texts' (Eq. 30), over all sources, edited."""
        features = self.clip.image_features(edited)
        return losses.direction_cosine(features, self.clip_features, self.direction).mean()


def edit_loss(run: Run, images: Images) -> EditLoss:
    """The weighted loss of ``loss=`` for edits of these images, along the direction of ``edit``.

    Call it with edited images [n,3,H,W] and their positions among ``images``; it returns the loss
    terms and their ``total`` (DiffusionCLIP, Eq. 10-11).

    Raises:
        DclipError: no CLIP was built.
    """
    clip = run.networks.clip
    if clip is None:
        raise DclipError(
            "loss.clip is 0 and metric.clip is off, so no CLIP guides the edit; "
            "set loss.clip above 0"
        )
    texts = direction_of(run.cfg, images)
    direction = texts(clip) if callable(texts) else texts
    loss = EditLoss.prepare(run.cfg.loss, clip, run.networks.identity, images, direction)
    loss.keep = keep_directions(run.cfg, clip, loss.direction)
    if run.cfg.loss.uses("contrast"):
        with torch.no_grad():
            wanted = [run.cfg.edit.target, *texts_against(run.cfg)]
            loss.against = features_in(clip, wanted, losses.templates(run.cfg.loss.templates))
    if run.cfg.loss.uses("prior"):
        loss.prior = Prior(run.model, run.cfg.seed)
    return loss
