"""Losses as pure functions of features and images. Features are unit vectors [N, D]; every loss is a mean over N.

=========  ==============================================================================
symbol     meaning
=========  ==============================================================================
E_I, E_T   CLIP's image and text encoders, L2-normalised
tau        temperature: cosines are divided by it before a softmax
dI, dT     directions: E_I(edited) - E_I(source), E_T(target) - E_T(source), normalised
=========  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# The published code averages over 79 of OpenAI's 80 ImageNet templates (MIT licence); the paper does not mention them.


def templates(name: str) -> list[str]:
    """Prompt templates with one ``{}``: ``none``, ``a``, or ``imagenet79`` from the list that open_clip ships.

    ``a`` puts "a " before the text, as the published latent optimisation does.
    """
    short = {"none": ["{}"], "a": ["a {}"]}
    if name in short:
        return short[name]
    if name != "imagenet79":
        raise ValueError(f"no prompt templates are called {name!r}; choose none, a or imagenet79")
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    made = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    return [text for text in made if text != "a photo of many {}."]


def text_direction(
    text_features: Callable[[Sequence[str]], Tensor],
    source: str,
    target: str,
    forms: Sequence[str] = ("{}",),
) -> Tensor:
    """dT [D]: mean over templates of E_T(target) - E_T(source), normalised. ValueError if the two texts read the same."""
    difference = text_features([f.format(target) for f in forms]) - text_features(
        [f.format(source) for f in forms]
    )
    direction = difference.mean(0)
    if float(direction.norm()) < 1e-6:
        raise ValueError(
            f"CLIP reads {source!r} and {target!r} as the same text; say the edit in other words"
        )
    return F.normalize(direction, dim=0)


def image_direction(source: Tensor, target: Tensor) -> Tensor:
    """dI [D]: mean feature of example images after the edit [M,D] minus that before [K,D], normalised (Gal et al. 2021, Sec. 4.4).

    ValueError if CLIP sees no difference between them.
    """
    direction = target.mean(0) - source.mean(0)
    if float(direction.norm()) < 1e-6:
        raise ValueError(
            "CLIP sees no difference between the example images before and after; choose others"
        )
    return F.normalize(direction, dim=0)


def direction_cosine(
    edited: Tensor, source: Tensor, direction: Tensor, eps: float = 1e-7
) -> Tensor:
    """cos(dI, dT) per image [N] (DiffusionCLIP, Eq. 30: S_dir)."""
    delta = edited - source
    delta = delta / (delta.norm(dim=-1, keepdim=True) + eps)
    cosine: Tensor = delta @ direction
    return cosine


def directional(edited: Tensor, source: Tensor, direction: Tensor, form: str = "cosine") -> Tensor:
    """Directional CLIP loss (Gal et al. 2021; DiffusionCLIP, Eq. 10): 0 along the text's direction, 2 against it.

    ``form="cosine"`` is the paper's 1 - cos; ``"neg_log"`` the published code's -log((1 + cos) / 2), which pulls harder
    the further an image is from the direction.
    """
    return _of_cosine(direction_cosine(edited, source, direction), form)


def _of_cosine(cosine: Tensor, form: str) -> Tensor:
    """The mean loss of cosines [N]: ``cosine`` or ``neg_log``."""
    if form == "cosine":
        return (1 - cosine).mean()
    if form == "neg_log":
        return -torch.log(((1 + cosine) / 2).clamp_min(1e-6)).mean()
    raise ValueError(f"no loss of a cosine is called {form!r}; choose cosine or neg_log")


def shift(edited: Tensor, source: Tensor, direction: Tensor, margin: float) -> Tensor:
    """How much of ``margin`` an image's features still lack along the text's direction: max(0, margin - (E_I(x') - E_I(x)) . dT).

    The directional loss looks at the direction of a change only: a faint change satisfies it as well as a plain one, and
    it never ends. This one asks for a length, and is silent once an image has it; what keeps the image (L1, identity) then
    decides alone.
    """
    return (margin - (edited - source) @ direction).clamp_min(0).mean()


def keep_basis(directions: Tensor, edit: Tensor) -> Tensor:
    """An orthonormal basis [K,D] of what must stay: directions [M,D] of texts, without the edit's own.

    What an edit shares with them stays free, so that "red hair" may leave "black hair".
    """
    apart = directions - (directions @ edit)[:, None] * edit
    _, scales, basis = torch.linalg.svd(apart, full_matrices=False)
    kept_basis: Tensor = basis[scales > 0.1 * scales[0]]
    return kept_basis


def kept(edited: Tensor, source: Tensor, basis: Tensor) -> Tensor:
    """Squared length of the features' change within the basis [K,D] of what must stay."""
    return ((edited - source) @ basis.T).square().sum(-1).mean()


def outside(edited: Tensor, source: Tensor) -> Tensor:
    """L1 distance outside of where an edit acts: of images in [-1, 1], the mean over all pixels.

    It acts where the change, averaged over 3x3 pixels, is near an image's largest; that region is
    no part of the gradient.
    """
    change = (edited - source).abs()
    smooth = F.avg_pool2d(change.detach().mean(1, keepdim=True), 3, 1, 1)
    peak = smooth.flatten(1).amax(1).clamp_min(1e-6).view(-1, 1, 1, 1)
    region = (10 * (smooth / peak - 0.3)).clamp(0, 1)
    return (change * (1 - region)).mean()


def global_(edited: Tensor, text: Tensor, form: str = "cosine") -> Tensor:
    """Global CLIP loss 1 - cos(E_I(edited), E_T(target)); text [D] (DiffusionCLIP, Eq. 9).

    ``form="neg_log"`` is the published code's -log((1 + cos) / 2).
    """
    return _of_cosine(edited @ text, form)


def l1(edited: Tensor, source: Tensor) -> Tensor:
    """Mean absolute difference of images in [-1, 1]."""
    return (edited - source).abs().mean()


def identity(edited: Tensor, source: Tensor) -> Tensor:
    """1 - cosine of identity features (DiffusionCLIP, Eq. 11; Deng et al. 2019)."""
    return (1 - (edited * source).sum(-1)).mean()


# ---------------------------------------------------------------------------------------------------- guidance


def log_probabilities(features: Tensor, texts: Tensor, temperature: float = 0.01) -> Tensor:
    """log softmax of cosines over texts [K, D]: [N, K], in float32 (half precision underflows to -inf)."""
    return F.log_softmax(features.float() @ texts.float().T / temperature, dim=-1)


def contrastive(
    features: Tensor, target: Tensor, distractors: Tensor, temperature: float = 0.01
) -> Tensor:
    """-log p(target) among target [D] and distractors [M, D] (CLIP-guided sampling report, Eq. 5; OpenAI's CLIP: tau = 0.01).

    It limits itself: the gradient fades as the target's probability nears 1.
    """
    return -log_probabilities(features, torch.cat([target[None], distractors]), temperature)[
        :, 0
    ].mean()


def spherical(features: Tensor, text: Tensor) -> Tensor:
    """Squared great-circle distance 2 arcsin(|E_I - E_T| / 2)^2 to text [D] (Crowson 2021); it never stops pulling."""
    half = ((features - text).norm(dim=-1) / 2).clamp(1e-6, 1 - 1e-6)
    distance: Tensor = 2 * half.arcsin().square().mean()
    return distance


def single(features: Tensor, text: Tensor) -> Tensor:
    """-log sigmoid of the cosine with text [D] (in the report's code, not in the report)."""
    return -F.logsigmoid(features @ text).mean()


def contrastive_directional(
    edited: Tensor, source: Tensor, target: Tensor, distractors: Tensor, temperature: float = 0.01
) -> Tensor:
    """-log softmax of cos(dI, dT) over the target's direction [D] and the distractors' directions [M, D].

    Joins the directional and the contrastive loss: an image shall change as the target says, and not as the others say.
    """
    delta = F.normalize(edited - source, dim=-1, eps=1e-7)
    return contrastive(delta, target, distractors, temperature)
