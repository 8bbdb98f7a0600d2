"""The hyperplane in h between true edited pictures and their sources, and the edit that crosses it.

    dh_t = scale (n . (mean h_t of the true edited images - mean h_t of the images)) n

n is the unit normal of a linear classifier of h_t, the output of the U-Net's middle block at
timestep t on the way down from an image's inverted latent (BoundaryDiffusion, Zhu et al., NeurIPS
2023, "Boundary Guided Learning-Free Semantic Control with Diffusion Models", whose classifier is a
linear SVM). Here it is a logistic regression, because that has one smooth optimum:

    min over w, b of  mean_i log(1 + exp(-y_i (w . u_i + b))) + penalty / 2 |w|^2

where y = 1 for edited pictures and -1 for sources, and u is h less its mean, over its root mean
square length, so that ``penalty`` knows neither the network's size nor its units. With a large
penalty w is the difference of the means (``method=h_mean``), with a small one that of the largest
margin, as an SVM's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dclip.encode.encoded import Encoded
from dclip.methods.hmean.direction import (
    MeanChange,
    MeanEdit,
    change_of_steps,
    listen,
    true_start,
)
from dclip.run import Run
from dclip.runtime import parallel

Array = npt.NDArray[np.float64]


class BoundaryEdit(MeanEdit):
    """A move across the hyperplane, applied by asymmetric steps."""

    method: ClassVar[str] = "h_boundary"
    kind: ClassVar[str] = "boundary in h"


def boundary_change(
    run: Run, start: Encoded, scale: float, penalty: float, only: int | None = None
) -> MeanChange:
    """The move at every step of the way down; the h of all pictures is kept on the CPU for it.

    Args:
        start: the sources.
        only: the timestep of the one step that moves; None: all do.

    Raises:
        DclipError: there are no true pictures.
    """
    edited = true_start(run, start)
    before, after = all_h(run, start), all_h(run, edited)
    moving = set(before) if only is None else {only}
    changes = {}
    for t, h in before.items():
        changes[t] = torch.zeros_like(h[0])
        if t in moving:
            changes[t] = scale * across(h, after[t], penalty)
    return change_of_steps(run, changes)


def all_h(run: Run, start: Encoded) -> dict[int, Tensor]:
    """h [N,C,H,W] of every image at every timestep of the way down, on the CPU."""
    heard: dict[int, list[Tensor]] = {}
    listen(run, start, lambda t, h: heard.setdefault(t, []).append(h))
    return {t: parallel.gather(torch.cat(parts), len(start)) for t, parts in heard.items()}


def across(before: Tensor, after: Tensor, penalty: float) -> Tensor:
    """The move of h [C,H,W] from the mean of ``before`` [N,C,H,W] to that of ``after``, along n."""
    rows = torch.cat([before, after]).flatten(1).double()
    labels = torch.cat([-torch.ones(len(before)), torch.ones(len(after))]).double()
    weights = separating_weights(rows, labels, penalty)
    normal = weights / weights.norm().clamp_min(1e-30)  # of pictures that are alike: 0, no move
    apart = rows[len(before) :].mean(0) - rows[: len(before)].mean(0)
    move: Tensor = (normal @ apart) * normal
    return move.reshape(before.shape[1:]).to(before.dtype)


def separating_weights(rows: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """w [D] of the logistic regression of labels [N] in {-1, 1} on rows [N,D], both float64.

    Where D is larger than N, it is found in the span of the rows: a step of the solver (Newton's in
    a trust region, by conjugate gradients) costs N min(N, D).
    """
    from scipy.optimize import minimize

    centered = rows - rows.mean(0)
    unit = centered / centered.square().sum(1).mean().sqrt().clamp_min(1e-30)
    axes = _axes_of(unit)
    coordinates = unit @ axes
    terms = _Logistic(coordinates.numpy(), labels.numpy(), penalty)
    found = minimize(
        terms.loss,
        np.zeros(axes.shape[1] + 1),
        jac=terms.gradient,
        hessp=terms.curvature,
        method="trust-ncg",
        options={"gtol": max(1e-7 * penalty, 1e-12)},
    )
    along: Tensor = torch.from_numpy(found.x[:-1])
    return axes @ along


def _axes_of(rows: Tensor) -> Tensor:
    """Orthonormal axes [D,R] of the span of rows [N,D]; where N is smaller, by their products."""
    if len(rows) >= rows.shape[1]:
        return torch.eye(rows.shape[1], dtype=rows.dtype)
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    kept = values > 1e-12 * values[-1]
    axes: Tensor = rows.T @ (vectors[:, kept] / values[kept].sqrt())
    return axes


class _Logistic:
    """The regression's loss at (w, b) [R+1], with its derivatives."""

    def __init__(self, rows: Array, labels: Array, penalty: float) -> None:
        self.rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        self.labels = labels
        self.ridge = np.append(np.full(rows.shape[1], penalty), 0.0)

    def misfit(self, at: Array) -> Array:
        """1 / (1 + exp(margin)) of every row."""
        margin: Array = self.labels * (self.rows @ at)
        return np.exp(-np.logaddexp(0, margin))

    def loss(self, at: Array) -> float:
        """What is minimised."""
        margin = self.labels * (self.rows @ at)
        return float(np.logaddexp(0, -margin).mean() + 0.5 * self.ridge @ at**2)

    def gradient(self, at: Array) -> Array:
        """Its gradient [R+1]."""
        pull: Array = self.rows.T @ (self.labels * self.misfit(at)) / len(self.rows)
        return self.ridge * at - pull

    def curvature(self, at: Array, along: Array) -> Array:
        """Its Hessian times ``along`` [R+1]."""
        misfit = self.misfit(at)
        bent: Array = self.rows.T @ (misfit * (1 - misfit) * (self.rows @ along)) / len(self.rows)
        return self.ridge * along + bent
