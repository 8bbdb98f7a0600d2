"""The course on ToonFaces: the networks that the package ships."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dclip.config import Net, PretrainTask
from dclip.data.toonfaces.domain import LOOKS
from dclip.data.toonfaces.drawing import versions
from dclip.data.toonfaces.faces import ATTRIBUTES, PARTS, Face
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.many import part_maps_of, pictures_of
from dclip.data.toonfaces.repaint import Repainted, repainted
from dclip.diffusion.sampler import sample
from dclip.diffusion.timesteps import pairs_down, pairs_up
from dclip.metrics.functional import mae, part_agreement
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_model
from dclip.models.clip import TOONFACES_CLIP, TOONFACES_HELDOUT_CLIP, ClipModel, build_clip
from dclip.models.identity import TOONFACES_IDENTITY, IrSe
from dclip.models.judge import Judge
from dclip.models.unet import TOONFACES_UNET, build_unet
from dclip.pretrain.augment import adversarial, smeared
from dclip.pretrain.contrastive import Attack, TrainCLIP
from dclip.pretrain.course import Course, Scored, Subject, samples_of, tokenizer
from dclip.pretrain.training import (
    EDITED,
    Budget,
    Pretraining,
    TrainDDPM,
    TrainIdentity,
    TrainJudge,
    Weighting,
    class_indices,
    edited_faces,
    identity_face,
    labels_of,
    sampled_faces,
)
from dclip.types import batches, from_uint8

VARIANTS = 6  # pictures of one identity

FILES = {
    Net.ddpm: "toonfaces",
    Net.clip: "toonfaces_clip",
    Net.heldout: "toonfaces_heldout",
    Net.identity: "toonfaces_identity",
    Net.judge: "toonfaces_judge",
}

ABOUT = (
    "Trained on ToonFaces (train split) for dclip's embedded domain; cartoon faces only, "
    "nothing of real people."
)

LICENCE = (
    "MIT (weights). The pictures it was trained on: ToonHead by Johan Melin (CC BY 4.0), "
    "Lorelei and Pixel Art (CC0)."
)


class ToonFacesCourse(Course):
    """Cartoon faces, drawn for the training."""

    name = model = "toonfaces"
    configs = {
        Net.ddpm: TOONFACES_UNET,
        Net.clip: TOONFACES_CLIP,
        Net.heldout: TOONFACES_HELDOUT_CLIP,
    }

    def file_of(self, net: Net) -> str:
        """What the package calls its own networks."""
        return FILES[net]

    def build(self, task: PretrainTask, budget: Budget) -> Pretraining:
        """The training of a network on ``task.pool`` faces."""
        if task.net is Net.ddpm:
            pool = torch.from_numpy(pictures_of(sampled_faces("train", task.pool, "in")))
            weighting = Weighting(task.noisy, task.min_snr, task.low)
            unet = build_unet(TOONFACES_UNET)
            return TrainDDPM(unet, budget, pool, task.compile, weighting)
        if task.net is Net.identity:
            identities, size = max(2, task.pool // VARIANTS), TOONFACES_IDENTITY.embedding
            return TrainIdentity(IrSe(TOONFACES_IDENTITY), budget, identities, VARIANTS, size)
        if task.net is Net.judge:
            judge, parts = Judge(LOOKS), task.pool // 6
            return TrainJudge(judge, budget, task.pool, parts, task.paint, task.partial)
        clip = build_clip(self.configs[task.net])
        attack = Attack(task.robust, task.attack_steps)
        return TrainCLIP(clip, budget, tokenizer(), task.pool, attack, task.paint, task.partial)

    def header(self, net: Net) -> dict[str, Any]:
        """What the weights file says about itself."""
        if net is Net.identity:
            return {"kind": "identity", "config": asdict(TOONFACES_IDENTITY)}
        if net is Net.judge:
            return {"kind": "judge", "config": {"width": 20}}
        return super().header(net)

    def score(self, net: Net, path: Path, device: torch.device) -> Scored:
        """How good a network is on test faces."""
        with torch.no_grad():
            return SCORES[net](path, device)

    def subject(self, task: PretrainTask) -> Subject:
        """What the card says of the faces."""
        drawn_by = ", ".join(f"{name} {version}" for name, version in versions().items())
        data = f"drawn by {drawn_by}; {len(PARTS)} parts, {len(ATTRIBUTES)} attributes"
        return Subject(ABOUT, data, LICENCE)

    def settings(self, task: PretrainTask) -> dict[str, object]:
        """How many faces were drawn."""
        return {"task.pool": task.pool}


# -------------------------------------------------------------------------------------- scores


def _test_faces(count: int, device: torch.device) -> tuple[list[Face], Tensor]:
    """Test faces of all domains, and their pictures [N,3,64,64] in [-1, 1]."""
    faces = sampled_faces("test", count)
    return faces, from_uint8(pictures_of(faces)).to(device)


def _in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    return torch.cat([function(x[part]) for part in batches(len(x), size)])


def score_ddpm(path: Path, device: torch.device) -> Scored:
    """Round-trip error on 50 test faces at t0 = 500, and 64 samples from noise."""
    model = load_model(str(path)).to(device)
    x = toonfaces("test", 50).pixels.to(device)

    def along(pairs: Sequence[tuple[int, int]]) -> Callable[[Tensor], Tensor]:
        return lambda start: sample(model.predict, start, pairs, model.schedule)

    latents = _in_batches(along(pairs_up(500, 40)), x, 25)
    scores = {}
    for s_gen in (40, 6):
        back = _in_batches(along(pairs_down(500, s_gen)), latents, 25)
        scores[f"mae_t0_500_40_{s_gen}"] = float(mae(back, x).mean())
    return scores, {"toonfaces_samples": samples_of(model)}


# attribute -> value -> what it is called (values may be left out)
ZERO_SHOT: dict[str, dict[str, str]] = {
    "hair_color": {
        "black": "a person with black hair",
        "brown": "a person with brown hair",
        "light_brown": "a person with light brown hair",
        "blond": "a person with blond hair",
        "red": "a person with red hair",
        "grey": "a person with grey hair",
        "blue": "a person with blue hair",
    },
    "skin": {
        "pale": "a person with pale skin",
        "fair": "a person with fair skin",
        "brown": "a person with brown skin",
        "dark": "a person with dark skin",
        "tanned": "a person with tanned skin",
        "green": "a zombie",
    },
    "beard": {"none": "a person with no beard", "full": "a person with a beard"},
    "hair_length": {"short": "a person with short hair", "long": "a person with long hair"},
    "expression": {
        "neutral": "a calm face",
        "smiling": "a smiling face",
        "sad": "a sad face",
        "angry": "an angry face",
        "surprised": "a surprised face",
    },
    "style": {
        "toon": "a person",
        "sketch": "a sketch of a person",
        "pixel": "pixel art of a person",
    },
}


def score_clip(path: Path, device: torch.device) -> Scored:
    """Zero-shot accuracy per attribute on 500 test pictures of all domains.

    Of the small attributes, also under attack, on the first 200 of those pictures.
    """
    clip = load_clip(str(path)).to(device)
    faces, pixels = _test_faces(500, device)
    features = _in_batches(clip.image_features, pixels, 100)
    scores = {}
    for attribute, names in ZERO_SHOT.items():
        kept = [i for i, face in enumerate(faces) if _shows(face, attribute)]
        texts = clip.text_features(list(names.values()))
        guess = (features[kept] @ texts.T).argmax(1)
        truth = torch.tensor([list(names).index(faces[i][attribute]) for i in kept]).to(device)
        scores[f"zero_shot_{attribute}"] = float((guess == truth).float().mean())
        if attribute in ATTACKED:
            first = [i for i in kept if i < 200]
            moved = _attacked(clip, pixels[first], texts, truth[: len(first)])
            guess = (clip.image_features(moved) @ texts.T).argmax(1)
            right = (guess == truth[: len(first)]).float().mean()
            scores[f"zero_shot_{attribute}_attacked_2"] = float(right)
    return scores, {}


ATTACKED = ("beard", "expression")


@torch.enable_grad()
def _attacked(clip: ClipModel, x: Tensor, texts: Tensor, truth: Tensor) -> Tensor:
    """Pictures moved an L2 length of 2 against their texts, in 5 steps."""

    def loss(moved: Tensor) -> Tensor:
        logits = 20 * clip.image_features(moved) @ texts.T
        return F.cross_entropy(logits, truth, reduction="sum")

    return adversarial(x, x.new_full((len(x),), 2.0), loss, steps=5)


def _shows(face: Face, attribute: str) -> bool:
    """Whether a picture shows an attribute, with a value that has a name."""
    visible = face["style"] == "toon" or attribute == "style"
    return visible and face[attribute] in ZERO_SHOT[attribute]


def score_identity(path: Path, device: torch.device) -> Scored:
    """Verification AUC: 300 test identities, two pictures each, all else drawn anew."""
    net = load_identity(str(path)).to(device)
    embedded = []
    for variant in (0, 1):
        faces = [identity_face("test", i, variant) for i in range(300)]
        pixels = from_uint8(pictures_of(faces)).to(device)
        embedded.append(_in_batches(net.features, pixels, 100).cpu())
    similarity = embedded[0] @ embedded[1].T
    same, other = similarity.diagonal(), similarity[~torch.eye(300, dtype=torch.bool)]
    above = (same[:, None] > other[None]).float().mean()
    level = (same[:, None] == other[None]).float().mean()
    scores = {
        "verification_auc": float(above + 0.5 * level),
        "same_mean": float(same.mean()),
        "other_mean": float(other.mean()),
    }
    return scores, {}


def score_judge(path: Path, device: torch.device) -> Scored:
    """Accuracy per attribute on 1,000 test pictures of all domains; of parts on 100 cartoons.

    Also on 300 of them whose parts have any colour and that are smeared, and on 300 that are
    half-made edits.
    """
    judge = load_judge(str(path)).to(device)
    faces, pixels = _test_faces(1000, device)
    scores = {}
    for name, right in _accuracies(judge, pixels, [Repainted(face) for face in faces]).items():
        scores[f"accuracy_{name}"] = right
    cartoons = [i for i, face in enumerate(faces) if face["style"] == "toon"][:300]
    parts = torch.from_numpy(part_maps_of([faces[i] for i in cartoons[:100]])).long()
    agreement = part_agreement(judge.part_map(pixels[cartoons[:100]]).cpu(), parts)
    scores["accuracy_parts"] = float(agreement.mean())
    shown = [faces[i] for i in cartoons]
    scores.update(_painted_scores(judge, shown, device))
    scores.update(_half_made_scores(judge, shown, device))
    return scores, {}


def _painted_scores(judge: Judge, faces: Sequence[Face], device: torch.device) -> dict[str, float]:
    """Accuracy on faces whose parts have any colour, smeared: of what is still to be seen."""
    rng, smears = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    painted = [repainted(face, rng) for face in faces]
    x = from_uint8(pictures_of([one.face for one in painted])).to(device)
    found = _accuracies(judge, smeared(x, smears, 1.0), painted)
    return {f"accuracy_painted_{name}": found[name] for name in EDITED}


HALF_MADE = 0.35  # of the way to the true edit


def _half_made_scores(
    judge: Judge, faces: Sequence[Face], device: torch.device
) -> dict[str, float]:
    """Share of half-made edits that are not taken for whole ones, by what was edited."""
    edited = edited_faces(faces)
    x, other = (from_uint8(pictures_of(list(of))).to(device) for of in (faces, edited))
    seen = judge.attributes(x + HALF_MADE * (other - x))
    scores = {}
    for name in EDITED:
        here = [i for i, face in enumerate(edited) if face[name] != faces[i][name]]
        right = seen[name][here].cpu() == class_indices([faces[i] for i in here], name)
        scores[f"unfooled_{name}"] = float(right.float().mean())
    return scores


def _accuracies(judge: Judge, x: Tensor, shown: Sequence[Repainted]) -> dict[str, float]:
    """Share of the pictures of which the judge reads an attribute rightly, where they show it."""
    seen = [judge.attributes(x[part]) for part in batches(len(x), 100)]
    truths = labels_of(shown, tuple(ATTRIBUTES))
    found = {}
    for name, truth in zip(ATTRIBUTES, truths.T, strict=True):
        guess, known = torch.cat([one[name] for one in seen]).cpu(), truth >= 0
        found[name] = float((guess[known] == truth[known]).float().mean())
    return found


SCORES: dict[Net, Callable[[Path, torch.device], Scored]] = {
    Net.ddpm: score_ddpm,
    Net.clip: score_clip,
    Net.heldout: score_clip,
    Net.identity: score_identity,
    Net.judge: score_judge,
}
