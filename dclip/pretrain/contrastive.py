"""Training of CLIPs from nothing on captions of ToonFaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dclip.data.toonfaces.captions import CAPTIONED, caption, prompts
from dclip.data.toonfaces.faces import ATTRIBUTES
from dclip.pretrain.augment import (
    adversarial,
    channels_last,
    degrade,
    draw_shift,
    frozen_statistics,
    shifted,
    smeared,
    tinted,
)
from dclip.pretrain.training import (
    Budget,
    Pictures,
    Pretraining,
    known_entropy,
    labels_of,
    painted_faces,
)

if TYPE_CHECKING:
    from open_clip.model import CLIP

Tokenizer = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Attack:
    """Adversarial pictures: how far they go at most (L2, images in [-1, 1]), in how many steps."""

    length: float = 0.0
    steps: int = 1


NO_ATTACK = Attack()

NAMED = ("style", *CAPTIONED)  # what texts say of a face

# attributes that are many pixels large
LARGE = ("hair_color", "hair_length", "skin", "style", "clothes_color")


class TrainCLIP(Pretraining):
    """Contrastive training on pictures of all styles and attributes, captioned in varied wording.

    Captions alone teach colours and nothing small: while the texts of "sad" and "angry" have one
    feature, pictures get no gradient to tell them apart, and the other way round. So every step
    also asks, of each attribute, which of the texts that name its values fits the picture; and one
    linear classifier an attribute, for both towers, breaks the tie. The classifiers are not
    shipped.

    With ``robust`` the pictures are first moved against the answers, along the normalised gradient,
    up to an L2 length (Madry et al. 2018; Engstrom et al. 2019), less far at the beginning.
    Gradients of an image encoder trained so change what a person would change; those of an ordinary
    one paint patterns that only the encoder sees, and so would an edit.

    With ``paint`` that share of the faces has parts in colours without a name, of which nothing is
    said, and of the pictures soft smears of paint: what edits that spill look like. With ``partial``
    that share is a half-made edit, and still what it was: for a CLIP that scores, for it makes the
    first part of an edit's way flat.
    """

    net: CLIP
    labels: Tensor

    def __init__(
        self,
        net: CLIP,
        budget: Budget,
        tokenizer: Tokenizer,
        pool: int,
        robust: Attack = NO_ATTACK,
        paint: float = 0.0,
        partial: float = 0.0,
    ) -> None:
        super().__init__(net, budget)
        self.tokenizer, self.robust, self.paint = tokenizer, robust, paint
        self.faces = painted_faces(pool, paint)
        self.pictures = Pictures([one.face for one in self.faces], partial)
        self.hold("labels", labels_of(self.faces, NAMED))
        width = int(net.text_projection.shape[1])
        self.classifiers = nn.ModuleDict()
        for name in NAMED:
            self.classifiers[name] = nn.Linear(width, len(ATTRIBUTES[name]))

    def training_step(self, *_: object) -> Tensor:
        """Cross entropy of pictures and captions, and of every attribute's texts."""
        index, rng = self.pick(len(self.pictures))
        words = np.random.default_rng([self.seed, self.global_step])
        captions = []
        for i in index.tolist():
            shown = self.faces[i]
            captions.append(caption(shown.face, words, shown.painted))
        choices = {name: prompts(name, words) for name in NAMED}
        answers = dict(zip(NAMED, self.taken(self.labels, index).T, strict=True))
        x = shifted(self.pictures(index, rng), draw_shift(rng))
        x = tinted(degrade(x, rng), rng)
        if self.paint:
            x = smeared(x, rng, self.paint)
        x = channels_last(x)
        texts = list(captions)
        for wordings in choices.values():
            texts += wordings
        tokens = self.tokenizer(texts).to(self.device)
        if self.robust.length:
            x = self.attacked(x, tokens[len(captions) :], choices, answers, rng)
        image, text, scale = self.net(x, tokens)
        image, text = image.float(), text.float()
        logits = scale * image @ text.T
        contrast = contrastive_loss(logits[:, : len(captions)], captions)
        answered, classified = self._attribute_losses(
            image, text[len(captions) :], logits[:, len(captions) :], choices, answers
        )
        # Means would drown in the captions' noise.
        loss = contrast + answered.sum() + classified.sum()
        logged = {"loss": loss, "captions": contrast, "answers": answered.mean()}
        self.log_dict(logged, prog_bar=True)
        return loss

    def _attribute_losses(
        self,
        image: Tensor,
        text: Tensor,
        logits: Tensor,
        choices: Mapping[str, Sequence[str]],
        answers: Mapping[str, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Of every attribute: which of its texts fits the picture, and what the classifiers say."""
        answered, classified = [], []
        start = 0
        for name, texts in choices.items():
            here = slice(start, start + len(texts))
            start = here.stop
            truth, classify = answers[name], self.classifiers[name]
            answered.append(known_entropy(logits[:, here], truth))
            classified.append(known_entropy(classify(20 * image), truth))
            values = torch.arange(len(texts), device=self.device)
            classified.append(F.cross_entropy(classify(20 * text[here]), values))
        return torch.stack(answered), torch.stack(classified)

    def attacked(
        self,
        x: Tensor,
        tokens: Tensor,
        choices: Mapping[str, Sequence[str]],
        answers: Mapping[str, Tensor],
        rng: torch.Generator,
    ) -> Tensor:
        """The pictures, moved by up to ``robust`` (L2, images in [-1, 1]) against the answers.

        Half of them go four times as far, but against the large attributes only: a smile is gone
        after that way, a hair colour is not. ``tokens``: of the attributes' texts.
        """
        n, tower = len(x), self.net.visual
        far = (torch.rand(n, generator=rng, device=rng.device) < 0.5).to(x)
        within = torch.rand(n, generator=rng, device=rng.device)
        length = self.ramp() * self.robust.length * within.to(x) * (1 + 3 * far)
        with torch.no_grad():
            text = self.net.encode_text(tokens, normalize=True)
        sizes = [len(texts) for texts in choices.values()]

        def loss(x: Tensor) -> Tensor:
            logits = 20 * F.normalize(tower(x), dim=-1).float() @ text.float().T
            total = x.new_zeros(())
            for name, part in zip(choices, logits.split(sizes, 1), strict=True):
                errors = F.cross_entropy(part, answers[name], ignore_index=-1, reduction="none")
                if name not in LARGE:
                    errors = errors * (1 - far)
                total = total + errors.sum()
            return total

        with frozen_statistics(tower):
            return adversarial(x, length, loss, self.robust.steps)


def contrastive_loss(logits: Tensor, captions: Sequence[str]) -> Tensor:
    """Pictures against captions, both ways.

    Pictures whose captions read the same count as each other's partners.
    """
    rows = [[a == b for b in captions] for a in captions]
    same = torch.tensor(rows, device=logits.device).float()
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
