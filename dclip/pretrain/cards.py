"""How good are the embedded networks? Scores on the test split, and the model card that shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from dclip.data.cifar10 import Cifar10, captions, classes
from dclip.data.toonfaces.drawing import versions
from dclip.data.toonfaces.faces import ATTRIBUTES, PARTS, Face, labels, sample_face
from dclip.data.toonfaces.images import toonfaces
from dclip.data.toonfaces.many import part_maps_of, pictures_of
from dclip.diffusion.noise import ImageNoise
from dclip.diffusion.sampler import DDPM, sample
from dclip.diffusion.schedule import pairs_down, pairs_up
from dclip.metrics import functional as F
from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_model
from dclip.models.unet import DiffusionModel
from dclip.record.pictures import sheet_picture
from dclip.types import Images, batches, from_uint8

Result = tuple[dict[str, float], dict[str, Image]]


# zero-shot classes: what each value is called (a value may be left out)
ZERO_SHOT: dict[str, dict[str, str]] = {
    "hair_color": {
        v: f"a person with {v.replace('_', ' ')} hair" for v in ATTRIBUTES["hair_color"]
    },
    "skin": {
        v: "a zombie" if v == "green" else f"a person with {v} skin" for v in ATTRIBUTES["skin"]
    },
    "beard": {"none": "a person with no beard", "full": "a person with a beard"},
    "hair_length": {"short": "a person with short hair", "long": "a person with long hair"},
    "expression": {
        "neutral": "a calm face",
        **{
            v: f"{'an' if v[0] in 'aeiou' else 'a'} {v} face"
            for v in ("smiling", "sad", "angry", "surprised")
        },
    },
    "style": {
        "toon": "a person",
        "sketch": "a sketch of a person",
        "pixel": "pixel art of a person",
    },
}


def _pictures(faces: list[Face]) -> Tensor:
    return from_uint8(pictures_of(faces))


@torch.no_grad()
def score_ddpm(path: Path) -> Result:
    """Round-trip error on 50 test faces at t0 = 500, and 64 samples from noise (100 ancestral steps, predicted x0 clamped)."""
    model, x = load_model(str(path)), toonfaces("test", 50).pixels
    latents = torch.cat(
        [
            sample(model.predict, x[part], pairs_up(500, 40), model.schedule)
            for part in batches(len(x), 25)
        ]
    )
    scores = {}
    for s_gen in (40, 6):
        back = [
            sample(model.predict, latents[part], pairs_down(500, s_gen), model.schedule)
            for part in batches(len(x), 25)
        ]
        scores[f"mae_t0_500_40_{s_gen}"] = float(F.mae(torch.cat(back), x).mean())
    return scores, {"toonfaces_samples": _samples(model)}


def _samples(model: DiffusionModel) -> Image:
    """64 samples from noise, 16 a row."""
    drawn_ones = [
        _drawn_by(model, [f"sample_{i:05d}" for i in range(64)[p]]) for p in batches(64, 16)
    ]
    return sheet_picture(torch.cat(drawn_ones), 16)


def _drawn_by(model: DiffusionModel, ids: list[str]) -> Tensor:
    noise = ImageNoise(ids).like(torch.empty(len(ids), 3, model.image_size, model.image_size))
    steps = ImageNoise(ids, seed=1)
    return sample(
        model.predict,
        noise,
        pairs_down(999, 100),
        model.schedule,
        solver=DDPM(),
        noise=steps,
        clip_x0=True,
    )


@torch.no_grad()
def score_clip(path: Path) -> Result:
    """Zero-shot accuracy per attribute on 500 test pictures of all domains."""
    clip = load_clip(str(path))
    faces = [sample_face("test", i, "all") for i in range(500)]
    pixels = _pictures(faces)
    features = torch.cat([clip.image_features(pixels[p]) for p in batches(len(faces), 100)])
    scores = {}
    for attribute, names in ZERO_SHOT.items():
        keep = [
            i
            for i, f in enumerate(faces)
            if f[attribute] in names and (f["style"] == "toon" or attribute == "style")
        ]
        texts = clip.text_features(list(names.values()))
        guess = (features[keep] @ texts.T).argmax(1)
        truth = torch.tensor([list(names).index(faces[i][attribute]) for i in keep])
        scores[f"zero_shot_{attribute}"] = float((guess == truth).float().mean())
    return scores, {}


@torch.no_grad()
def score_identity(path: Path) -> Result:
    """Verification AUC: 300 test identities, two pictures each, all other attributes drawn anew."""
    net = load_identity(str(path))
    pair = [
        _pictures([sample_face("test", i, "all", v).with_(style="toon") for i in range(300)])
        for v in (0, 1)
    ]
    a, b = (torch.cat([net.features(x[p]) for p in batches(300, 100)]) for x in pair)
    similarity = a @ b.T
    same, other = similarity.diagonal(), similarity[~torch.eye(300, dtype=torch.bool)]
    auc = float(
        (same[:, None] > other[None]).float().mean()
        + 0.5 * (same[:, None] == other[None]).float().mean()
    )
    return {
        "verification_auc": auc,
        "same_mean": float(same.mean()),
        "other_mean": float(other.mean()),
    }, {}


@torch.no_grad()
def score_judge(path: Path) -> Result:
    """Accuracy per attribute on 1,000 test pictures of all domains, and part accuracy on 100 cartoons."""
    judge = load_judge(str(path))
    faces = [sample_face("test", i, "all") for i in range(1000)]
    pixels = _pictures(faces)
    seen = [judge.attributes(pixels[p]) for p in batches(len(faces), 100)]
    scores = {}
    for name in ATTRIBUTES:
        truth = torch.tensor([labels(f)[name] for f in faces])
        guess, known = torch.cat([s[name] for s in seen]), truth >= 0
        scores[f"accuracy_{name}"] = float((guess[known] == truth[known]).float().mean())
    cartoons = [i for i, f in enumerate(faces) if f["style"] == "toon"][:100]
    parts = torch.from_numpy(part_maps_of([faces[i] for i in cartoons])).long()
    scores["accuracy_parts"] = float(
        F.part_agreement(judge.part_map(pixels[cartoons]), parts).mean()
    )
    return scores, {}


@torch.no_grad()
def score_cifar10_ddpm(path: Path, images: Images) -> Result:
    """Mean squared error of eps on test pictures, over all timesteps and in four parts of them; 64 samples from noise."""
    model, errors, steps = load_model(str(path)), [], []
    for part in batches(len(images), 100):
        x, ids = images.pixels[part], images.ids[part]
        t = torch.arange(len(x)) * model.schedule.steps // len(x)
        a = model.schedule.alpha_bars.float()[t].view(-1, 1, 1, 1)
        noise = ImageNoise(ids).like(x)
        errors.append(
            (model.eps(a.sqrt() * x + (1 - a).sqrt() * noise, t) - noise).square().mean((1, 2, 3))
        )
        steps.append(t)
    error, quarter = torch.cat(errors), torch.cat(steps) * 4 // model.schedule.steps
    scores = {"eps_loss": float(error.mean())}
    names = ("0_249", "250_499", "500_749", "750_999")
    scores |= {
        f"eps_loss_t_{name}": float(error[quarter == k].mean())
        for k, name in enumerate(names)
        if (quarter == k).any()
    }
    return scores, {f"{path.stem}_samples": _samples(model)}


@torch.no_grad()
def score_cifar10_clip(path: Path, images: Images) -> Result:
    """Zero-shot accuracy on test pictures: by the bare names of the classes and in a sentence; mean probability of the truth."""
    clip, truth = load_clip(str(path)), torch.tensor(classes(images.ids))
    features = torch.cat([clip.image_features(images.pixels[p]) for p in batches(len(images), 100)])
    scores = {}
    for name, wording in (("name", "{}"), ("sentence", "a photo of a {}")):
        similarity = features @ clip.text_features(captions(wording)).T
        scores[f"zero_shot_{name}"] = float((similarity.argmax(1) == truth).float().mean())
    sure = (clip.logit_scale * similarity).softmax(1)[torch.arange(len(truth)), truth]
    return {**scores, "p_truth": float(sure.mean())}, {}


CIFAR10_SCORES: dict[str, Callable[[Path, Images], Result]] = {
    "ddpm": score_cifar10_ddpm,
    "clip": score_cifar10_clip,
    "heldout": score_cifar10_clip,
}


SCORES: dict[str, Callable[[Path], Result]] = {
    "ddpm": score_ddpm,
    "clip": score_clip,
    "heldout": score_clip,
    "identity": score_identity,
    "judge": score_judge,
}


@dataclass(frozen=True)
class Subject:
    """What a card says of the pictures: what was trained for, the data, the licence."""

    about: str
    data: str
    licence: str


ON_TOONFACES = Subject(
    "Trained on ToonFaces (train split) for dclip's embedded domain; cartoon faces only, nothing of real people.",
    f"drawn by {', '.join(f'{k} {v}' for k, v in versions().items())}; {len(PARTS)} parts, {len(ATTRIBUTES)} attributes",
    "MIT (weights). The pictures it was trained on: ToonHead by Johan Melin (CC BY 4.0), Lorelei and Pixel Art (CC0).",
)


def on_cifar10(data: Cifar10, seen: int) -> Subject:
    """What a card says of CIFAR-10, of which ``seen`` pictures were looked at."""
    what = f"CIFAR-10's training pictures ({data.category or '10 classes'})"
    return Subject(
        f"Trained on {what}, 32x32 pixels; a small network, to try things with.",
        f"{data.train:,} training pictures, flipped at random, {seen:,} looked at; scores: {data.test:,} test pictures",
        "the trainer's choice. The pictures: CIFAR-10 (Krizhevsky 2009), which states no licence and asks to be cited.",
    )


def write_card(
    name: str,
    command: str,
    scores: dict[str, float],
    seconds: float,
    environment: dict[str, Any],
    parameters: int,
    pictures: list[str],
    subject: Subject,
) -> str:
    """The model card, in Markdown."""
    rows = "\n".join(f"| {k} | {v:.4f} |" for k, v in scores.items())
    machine = (
        environment["gpu"] or f"{environment['cpus']} CPU cores, {environment['threads']} thread(s)"
    )
    shown = "".join(f"\n![{p}]({p}.png)\n" for p in pictures)
    return f"""# {name}

{subject.about}

- command: `{command}`
- time: {seconds / 60:.0f} minutes on {machine}
- parameters: {parameters:,}, stored in half precision
- data: {subject.data}
- software: torch {environment["versions"].get("torch")}, Python {environment["python"]}

| on the test split | |
|---|---|
{rows}
{shown}
Licence: {subject.licence}
"""
