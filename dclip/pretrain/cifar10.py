"""The course on CIFAR-10: networks of one's own, small ones for a CPU and larger ones for a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dclip.config import Config, Net, PretrainTask, Size
from dclip.data.cifar10 import Cifar10, captions, classes
from dclip.data.load import load_images
from dclip.diffusion.noise import ImageNoise
from dclip.models.checkpoints import load_clip, load_model
from dclip.models.clip import (
    CIFAR10_CLIP,
    CIFAR10_HELDOUT_CLIP,
    CIFAR10_LARGE_CLIP,
    CIFAR10_LARGE_HELDOUT_CLIP,
    ClipModel,
    build_clip,
)
from dclip.models.unet import CIFAR10_LARGE_UNET, CIFAR10_UNET, DiffusionModel, build_unet
from dclip.pretrain.augment import adversarial
from dclip.pretrain.classes import Answers, Texts, TrainClassCLIP, colored_things
from dclip.pretrain.colors import NAMES, Shares, painted
from dclip.pretrain.contrastive import Attack
from dclip.pretrain.course import Course, Scored, Subject, samples_of, tokenizer
from dclip.pretrain.training import Budget, Pretraining, TrainDDPM, Weighting
from dclip.types import Images, batches, to_uint8

LICENCE = (
    "the trainer's choice. The pictures: CIFAR-10 (Krizhevsky 2009), which states no licence "
    "and asks to be cited."
)

CONFIGS: dict[Size, dict[Net, dict[str, Any]]] = {
    Size.small: {
        Net.ddpm: CIFAR10_UNET,
        Net.clip: CIFAR10_CLIP,
        Net.heldout: CIFAR10_HELDOUT_CLIP,
    },
    Size.large: {
        Net.ddpm: CIFAR10_LARGE_UNET,
        Net.clip: CIFAR10_LARGE_CLIP,
        Net.heldout: CIFAR10_LARGE_HELDOUT_CLIP,
    },
}


class Cifar10Course(Course):
    """CIFAR-10's training pictures."""

    name = "cifar10"
    model = "cifar10_ddpm"

    def __init__(self, cfg: Config, data: Cifar10, size: Size) -> None:
        self.cfg, self.data, self.configs = cfg, data, CONFIGS[size]

    def _images(self, split: str) -> Images:
        return load_images(self.cfg, split, CIFAR10_UNET["sample_size"])

    def file_of(self, net: Net) -> str:
        """The course and the network."""
        return f"cifar10_{net.value}"

    def build(self, task: PretrainTask, budget: Budget) -> Pretraining:
        """The training of a network on ``dataset.train`` pictures."""
        images, config = self._images("train"), self.configs[task.net]
        pool = to_uint8(images.pixels).permute(0, 2, 3, 1).contiguous()
        if task.net is Net.ddpm:
            weighting = Weighting(task.noisy, task.min_snr, task.low)
            unet = build_unet(config)
            return TrainDDPM(unet, budget, pool, task.compile, weighting, flips=True)
        truth, size = torch.tensor(classes(images.ids)), config["vision_cfg"]["image_size"]
        clip = build_clip(config)
        attack = Attack(task.robust, task.attack_steps)
        return TrainClassCLIP(clip, budget, tokenizer(), pool, truth, size, attack, task.colors)

    def score(self, net: Net, path: Path, device: torch.device) -> Scored:
        """How good a network is on test pictures."""
        images = self._images("test")
        with torch.no_grad():
            if net is Net.ddpm:
                return score_ddpm(path, images, device)
            return score_clip(path, images, device), {}

    def subject(self, task: PretrainTask) -> Subject:
        """What the card says of the pictures."""
        data = self.data
        pictures = f"CIFAR-10's training pictures ({data.category or '10 classes'})"
        return Subject(
            f"Trained on {pictures}, 32x32 pixels; a {task.size.value} network, to try things with.",
            f"{data.train:,} training pictures, flipped at random, "
            f"{task.steps * task.batch:,} looked at; scores: {data.test:,} test pictures",
            LICENCE,
        )

    def settings(self, task: PretrainTask) -> dict[str, object]:
        """Which pictures were learned from, by how large a network."""
        settings: dict[str, object] = {"task.size": task.size.value}
        if task.net is not Net.ddpm:
            settings["task.colors"] = task.colors
        data = {"dataset.train": self.data.train, "dataset.category": self.data.category}
        return {**settings, **data}


# -------------------------------------------------------------------------------------- scores

QUARTERS = ("0_249", "250_499", "500_749", "750_999")  # of the timesteps


def score_ddpm(path: Path, images: Images, device: torch.device) -> Scored:
    """Mean squared error of eps over all timesteps and in four parts of them; 64 samples."""
    model = load_model(str(path)).to(device)
    errors, steps = [], []
    for part in batches(len(images), 100):
        x, ids = images.pixels[part], images.ids[part]
        t = torch.arange(len(x)) * model.schedule.steps // len(x)
        noise = ImageNoise(ids).like(x)
        errors.append(_eps_errors(model, x.to(device), noise.to(device), t.to(device)).cpu())
        steps.append(t)
    error, quarter = torch.cat(errors), torch.cat(steps) * 4 // model.schedule.steps
    scores = {"eps_loss": float(error.mean())}
    for k, name in enumerate(QUARTERS):
        if (quarter == k).any():
            scores[f"eps_loss_t_{name}"] = float(error[quarter == k].mean())
    return scores, {f"{path.stem}_samples": samples_of(model)}


def _eps_errors(model: DiffusionModel, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error [N] of the noise that the model predicts at t [N]."""
    a = model.schedule.alpha_bars.float().to(t.device)[t].view(-1, 1, 1, 1)
    eps = model.eps(a.sqrt() * x0 + (1 - a).sqrt() * noise, t)
    return (eps - noise).square().mean((1, 2, 3))


def score_clip(path: Path, images: Images, device: torch.device) -> dict[str, float]:
    """Zero-shot accuracy by the classes' bare names and in a sentence; the truth's probability.

    And of pictures whose middle was painted, which colour their class has; and the share that is
    still right under an attack.
    """
    clip = load_clip(str(path)).to(device)
    truth, x = torch.tensor(classes(images.ids)).to(device), images.pixels.to(device)
    features = torch.cat([clip.image_features(x[part]) for part in batches(len(x), 100)])
    scores = {}
    for name, wording in (("name", "{}"), ("sentence", SENTENCE)):
        similarity = features @ clip.text_features(captions(wording)).T
        scores[f"zero_shot_{name}"] = float((similarity.argmax(1) == truth).float().mean())
    probability = (clip.logit_scale * similarity).softmax(1)[torch.arange(len(truth)), truth]
    scores["p_truth"] = float(probability.mean())
    return {**scores, **score_attacked(clip, x[:ATTACKED], truth[:ATTACKED])}


SENTENCE = "a photo of a {}"
ATTACKED = 500  # pictures
LENGTHS = (0.0, 0.5, 1.0)  # of an attack (L2, images in [-1, 1])
ATTACK_STEPS = 5


def score_attacked(clip: ClipModel, x: Tensor, truth: Tensor) -> dict[str, float]:
    """Shares of painted pictures whose class, and whose colour, is right, unmoved and attacked.

    The attack goes against both at once; the colour is chosen among those of the true class.
    """
    rng = torch.Generator().manual_seed(0)
    unknown = torch.full((len(x),), -1)
    shown = painted(x.cpu(), unknown, Shares(1.0, 0.0, 0.0), rng)
    painting, color = shown.pixels.to(x), shown.color.to(truth)
    answers = Answers(truth, truth * len(NAMES) + color)
    things = clip.text_features(captions(SENTENCE))
    colored = clip.text_features(captions(SENTENCE, colored_things()))
    texts = Texts(things, colored, torch.tensor(clip.logit_scale).to(x))
    scores = {}
    for length in LENGTHS:
        right = [
            _right(clip, texts, painting[part], answers.take(part), length)
            for part in batches(len(x), 100)
        ]
        of_class, of_color = torch.cat(right, 1).float().mean(1).tolist()
        suffix = f"_l2_{length:g}" if length else ""
        scores[f"painted_class{suffix}"], scores[f"painted_color{suffix}"] = of_class, of_color
    return scores


def _right(clip: ClipModel, texts: Texts, x: Tensor, answers: Answers, length: float) -> Tensor:
    """Whether class and colour, bool [2,N], are right of pictures that are moved by ``length``."""

    def loss(moved: Tensor) -> Tensor:
        of_class, of_color = texts.losses(clip.image_features(moved), answers)
        return of_class + of_color

    if length:
        with torch.enable_grad():
            x = adversarial(x, x.new_full((len(x),), length), loss, ATTACK_STEPS)
    features = clip.image_features(x)
    guess = (features @ texts.things.T).argmax(1)
    of_class = (features @ texts.colored.T).view(len(x), -1, len(NAMES))
    color = of_class[torch.arange(len(x)), answers.thing].argmax(1)
    return torch.stack([guess == answers.thing, color == answers.colored % len(NAMES)])
