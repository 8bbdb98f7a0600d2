"""Minimality: does an edit change as much as it must, and no more?

Counterfactual latent divergence (Melistas et al., NeurIPS 2024 Datasets and Benchmarks):

    div = |f(edited) - f(source)|
    P1  = share of faces that truly show the edit to which the source is at most as far as div
    P2  = share of faces of the source's own kind to which the source is at least as far as div
    CLD = log(0.8 exp(P1) + 0.2 exp(P2))

f are the 128 features of ToonFaces' judge. The faces to compare with are 100 of the validation split,
drawn with the attributes of either kind. 0 is best; an untouched source has log(0.8 + 0.2 e) = 0.295,
and a picture that is far from everything log(0.8 e + 0.2) = 0.866.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dclip.data.toonfaces.faces import sample_face
from dclip.data.toonfaces.images import draw_faces
from dclip.data.toonfaces.truths import Truth

FAR, OWN = 0.8, 0.2

Values = tuple[tuple[str, str], ...]  # attributes with their values


class Minimality:
    """CLD of edits; the faces to compare with are drawn once.

    Attributes:
        references: how many faces of each kind.
    """

    references = 100

    def __init__(self, features: Callable[[Tensor], Tensor]) -> None:
        self.features = features
        self._known: dict[Values, Tensor] = {}

    def of_kind(self, values: Values) -> Tensor:
        """Features [R,D] of faces with these attributes."""
        if values not in self._known:
            faces = []
            for index in range(self.references):
                faces.append(sample_face("validation", index).with_(**dict(values)))
            names = tuple(str(index) for index in range(self.references))
            self._known[values] = self.features(draw_faces(faces, names).pixels)
        return self._known[values]

    def __call__(
        self, source: Tensor, result: Tensor, facts: Sequence[Mapping[str, str]], truth: Truth
    ) -> Tensor:
        """CLD [N] of edited pictures [N,3,H,W]; facts: the attributes of every source."""
        before, after = self.features(source), self.features(result)
        shown = self.of_kind(truth.goal)
        found = []
        for one, other, face in zip(before, after, facts, strict=True):
            own = self.of_kind(tuple((name, face[name]) for name, _ in truth.goal))
            found.append(divergence(one, other, shown, own))
        return torch.stack(found)


def divergence(before: Tensor, after: Tensor, shown: Tensor, own: Tensor) -> Tensor:
    """CLD of one picture from features [D], of those that show the edit and those that are as before [R,D]."""
    moved = (after - before).norm()
    nearer = ((shown - before).norm(dim=1) <= moved).double().mean()
    further = ((own - before).norm(dim=1) >= moved).double().mean()
    found: Tensor = (FAR * nearer.exp() + OWN * further.exp()).log()
    return found
