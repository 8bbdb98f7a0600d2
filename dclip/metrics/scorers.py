"""What metrics may use besides the pictures: networks, and what is known of the edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dclip import losses
from dclip.config import Features
from dclip.data.domain import Looks, Truth
from dclip.errors import DclipError
from dclip.metrics.features import (
    Extractor,
    apply,
    clip_features,
    inception_features,
    judge_features,
    lpips_network,
)
from dclip.metrics.presets import Choices
from dclip.metrics.words import Beside, Need, Role
from dclip.models.clip import ClipModel
from dclip.models.identity import IdentityModel
from dclip.models.judge import Judge
from dclip.models.networks import Networks
from dclip.models.parser import Parser
from dclip.text.direction import Direction
from dclip.text.features import PromptFeatures
from dclip.text.prompts import Prompt
from dclip.types import batches


def _undeclared(need: Need) -> DclipError:
    return DclipError(
        f"a metric uses {need!r}, which is not there; declare it: @metric(..., needs=[{need!r}])"
    )


@dataclass
class Scorers:
    """The networks that score, None where there is none, and what else is known of the edit.

    Features of images are computed once and kept; ``forget`` drops them.

    Attributes:
        clip: the CLIP that guided the edit.
        heldout: a CLIP that only scores.
        parts: the network that finds the parts of a picture.
        direction: where the edit goes in CLIP's space: its two texts, or a function of a CLIP.
        truth: the edit's true meaning, where it is known.
        goal: the attributes that results shall show, with their values.
        prompts: what samples shall show; ``readings``: how ``clip`` and ``heldout`` read it.
        variants: how many results of one image lie next to each other.
        choices: what the names of metrics leave open.
        beside: what comes with the pictures besides their sources.
        compare: whose features KID and FID compare.
        batch: most images that a network sees at a time.
    """

    clip: ClipModel | None = None
    heldout: ClipModel | None = None
    identity: IdentityModel | None = None
    judge: Judge | None = None
    parser: Parser | None = None
    parts: Parser | Judge | None = None
    direction: Direction | None = None
    truth: Truth | None = None
    goal: Sequence[tuple[str, str]] | None = None
    prompts: Sequence[Prompt] = ()
    readings: Mapping[Role, PromptFeatures] = field(default_factory=dict)
    variants: int = 1
    choices: Choices = field(default_factory=Choices)
    beside: frozenset[Beside] = frozenset()
    compare: Features = Features.auto
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch: int = 64
    _features: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )
    _seen: dict[int, tuple[Tensor, list[dict[str, str]]]] = field(
        default_factory=dict, init=False, repr=False
    )
    _directions: dict[Role, Tensor] = field(default_factory=dict, init=False, repr=False)
    _lpips: nn.Module | str | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(cls, networks: Networks) -> Scorers:
        """Those among the networks of a run that score."""
        return cls(
            networks.clip,
            networks.heldout,
            networks.identity,
            networks.judge,
            networks.parser,
            device=networks.model.device,
        )

    def lacks(self, need: Need) -> bool:
        """Whether something that a metric needs is not there."""
        if need == "texts":
            return not isinstance(self.direction, tuple)
        if need == "distractors":
            return not all(prompt.distractors for prompt in self.prompts)
        if need == "true_pictures" or need == "region":
            return need not in self.beside
        return getattr(self, need) is None

    def forget(self) -> None:
        """Drop what networks have said of images."""
        self._features.clear()
        self._seen.clear()

    # ---------------------------------------------------------------------- what networks see

    def features(self, role: Role, images: Tensor) -> Tensor:
        """Unit features [N, D] of images [N,3,H,W], on the CPU."""
        extract: Callable[[Tensor], Tensor]
        net: ClipModel | IdentityModel
        if role == "identity":
            if self.identity is None:
                raise _undeclared(role)
            net, extract = self.identity, self.identity.features
        else:
            net = self.clip_of(role)
            extract = net.image_features
        return self._once(role, images, lambda: apply(net, extract, images, self.batch))

    def clip_of(self, role: Role) -> ClipModel:
        """The CLIP of a role. DclipError if there is none."""
        clip = self.clip if role == "clip" else self.heldout
        if clip is None:
            raise _undeclared(role)
        return clip

    def _once(self, name: str, images: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """The features of this very tensor, which is kept so that no other takes its place."""
        key = (name, id(images))
        if key not in self._features:
            self._features[key] = images, compute()
        return self._features[key][1]

    def part_map(self, images: Tensor) -> Tensor:
        """The part of every pixel [N,H,W], on the CPU."""
        net = self.parts
        if net is None:
            raise _undeclared("parts")
        # Photographs are segmented at 512 x 512.
        size = self.batch if net is self.judge else min(4, self.batch)
        return apply(net, net.part_map, images, size)

    @property
    def looks(self) -> Looks:
        """What the judge tells apart."""
        if self.judge is None:
            raise _undeclared("judge")
        return self.judge.looks

    def judged(self, images: Tensor) -> list[dict[str, str]]:
        """What the judge takes every image for: a value of each attribute. It looks once."""
        if id(images) not in self._seen:
            self._seen[id(images)] = images, self._look(images)
        return self._seen[id(images)][1]

    def _look(self, images: Tensor) -> list[dict[str, str]]:
        judge = self.judge
        if judge is None:
            raise _undeclared("judge")
        device = next(judge.parameters()).device
        seen = []
        for part in batches(len(images), self.batch):
            seen += judge.sees(images[part].to(device))
        return seen

    def perceptual_distance(self, a: Tensor, b: Tensor) -> Tensor | str:
        """LPIPS [N] of pictures, pair by pair, on the CPU; or why there is none."""
        if self._lpips is None:
            self._lpips = lpips_network(self.choices.lpips_trunk)
        net = self._lpips
        if isinstance(net, str):
            return net
        net.to(self.device)
        distances = []
        with torch.no_grad():
            for x, y in zip(a.clamp(-1, 1), b.clamp(-1, 1), strict=True):
                distance = net(x[None].to(self.device), y[None].to(self.device))
                distances.append(distance.flatten().cpu())
        return torch.cat(distances)

    def extractor(self) -> Extractor | str:
        """The network whose features KID and FID compare; or why there is none."""
        if self.compare is Features.heldout:
            if self.heldout is None:
                return (
                    "metric.features=heldout needs clip.heldout, metric.clip=true "
                    "and guidance.targets"
                )
            return clip_features(self.heldout)
        if self.judge is not None:
            return judge_features(self.judge)
        found = inception_features(self.choices.inception_antialias)
        if isinstance(found, Extractor):
            found.net.to(self.device)
        return found

    # ------------------------------------------------------------------------ what CLIP reads

    def edit_direction(self, role: Role) -> Tensor:
        """The unit direction [D] of the edit in a CLIP's space, on the CPU.

        ValueError if that CLIP reads both texts as the same.
        """
        if role not in self._directions:
            self._directions[role] = self._read_direction(self.clip_of(role)).cpu()
        return self._directions[role]

    def _read_direction(self, clip: ClipModel) -> Tensor:
        if self.direction is None:
            raise _undeclared("direction")
        if not isinstance(self.direction, tuple):
            return self.direction(clip)
        source, target = self.direction
        forms = losses.templates(self.choices.templates)
        return losses.text_direction(clip.text_features, source, target, forms)

    def target_text(self) -> Tensor:
        """The unit features [D] of the edit's target text by ``clip``, on the CPU."""
        if not isinstance(self.direction, tuple):
            raise _undeclared("texts")
        return self.clip_of("clip").text_features([self.direction[1]])[0].cpu()

    def target_probability(self, role: Role, images: Tensor) -> Tensor:
        """The probability [N] of the prompts' targets among their distractors, on the CPU."""
        reading = self.readings[role]
        features = self.features(role, images).to(reading.targets.device)
        return reading.target_probability(features).cpu()
