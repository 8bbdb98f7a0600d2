"""The noise schedule of a diffusers folder, from its scheduler_config.json.

A scheduler of diffusers holds two things: how the network was trained (betas, what is predicted,
how its variance is read), which is taken over, and how to sample, which is a run's own choice. A
class that is not known may train in another way, and is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dclip.diffusion.schedule import HO, Schedule
from dclip.errors import DclipError, need
from dclip.models.unet import VARIANCES

FILE = "scheduler_config.json"

_FROM_HO = (1e-4, 0.02)
_LATENT = (0.00085, 0.012)

# Schedulers of networks that were trained on discrete betas, with the first and last beta that
# diffusers takes where the file names none.
KNOWN = {
    "DDPMScheduler": _FROM_HO,
    "DDPMParallelScheduler": _FROM_HO,
    "DDIMScheduler": _FROM_HO,
    "DDIMParallelScheduler": _FROM_HO,
    "DDIMInverseScheduler": _FROM_HO,
    "PNDMScheduler": _FROM_HO,
    "RePaintScheduler": _FROM_HO,
    "DEISMultistepScheduler": _FROM_HO,
    "DPMSolverMultistepScheduler": _FROM_HO,
    "DPMSolverMultistepInverseScheduler": _FROM_HO,
    "DPMSolverSinglestepScheduler": _FROM_HO,
    "UniPCMultistepScheduler": _FROM_HO,
    "SASolverScheduler": _FROM_HO,
    "LMSDiscreteScheduler": _FROM_HO,
    "EulerDiscreteScheduler": _FROM_HO,
    "EulerAncestralDiscreteScheduler": _FROM_HO,
    "HeunDiscreteScheduler": _LATENT,
    "KDPM2DiscreteScheduler": _LATENT,
    "KDPM2AncestralDiscreteScheduler": _LATENT,
    "DPMSolverSDEScheduler": _LATENT,
}

_KINDS = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid_beta",
}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0", "original_sample": "x0"}

# What a scheduler must say where it says anything of it: else the network was trained otherwise.
_TRAINED_SO = {
    "rescale_betas_zero_snr": False,
    "timestep_type": "discrete",
    "use_flow_sigmas": False,
}


@dataclass(frozen=True)
class Training:
    """How a network was trained: its noise, what it predicts, and its fixed variance, if said."""

    schedule: Schedule = HO
    prediction: str = "epsilon"
    variance: str | None = None


def read_training(config: Mapping[str, Any]) -> Training:
    """What a scheduler_config.json says of the training.

    Raises:
        DclipError: for a scheduler, betas or a prediction that are not known, by their names.
    """
    name = str(config.get("_class_name", "DDPMScheduler"))
    need(
        name in KNOWN,
        f"{FILE} describes a {name}; networks of flow matching, consistency, EDM and other "
        "training do not predict noise on betas; give one with a DDPMScheduler or DDIMScheduler",
    )
    other = []
    for key, value in _TRAINED_SO.items():
        if config.get(key, value) != value:
            other.append(f"{key}={short(config[key])}")
    need(not other, f"{FILE} has {', '.join(other)}; networks trained so cannot be used")
    return Training(_schedule(config, *KNOWN[name]), _prediction(config), _variance(config))


def short(value: object) -> str:
    """A value of a configuration as a message shows it: never a thousand numbers."""
    if isinstance(value, list | tuple | dict) and len(value) > 3:
        return f"({len(value)} entries)"
    text = str(value)
    if len(text) > 60:
        return text[:57] + "..."
    return text


def _schedule(config: Mapping[str, Any], beta_start: float, beta_end: float) -> Schedule:
    steps = _number(config, "num_train_timesteps", 1000)
    start = _number(config, "beta_start", beta_start)
    end = _number(config, "beta_end", beta_end)
    if config.get("trained_betas") is not None:
        return _of_betas(config["trained_betas"], start, end)
    named = config.get("beta_schedule", "linear")
    kinds = ", ".join(_KINDS)
    need(named in _KINDS, f"{FILE} has beta_schedule={short(named)}; known: {kinds}")
    need(
        steps >= 2 and 0 < start <= end < 1,
        f"{FILE} has num_train_timesteps={steps:g}, beta_start={start:g}, beta_end={end:g}; "
        "betas grow from above 0 to below 1",
    )
    return Schedule(int(steps), start, end, _KINDS[named])


def _number(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DclipError(f"{FILE} has {key}={short(value)}, where a number is needed")
    return float(value)


def _of_betas(betas: object, start: float, end: float) -> Schedule:
    """The known schedule that has these betas."""
    try:
        table = torch.tensor(betas, dtype=torch.float64)
    except (TypeError, ValueError):
        table = torch.zeros(0)
    found = None
    if table.ndim == 1:
        found = schedule_of(table, start, end)
    if found is None:
        raise DclipError(
            f"{FILE} has trained_betas={short(betas)} of no known schedule; "
            f"known: {', '.join(_KINDS)}"
        )
    return found


def schedule_of(betas: torch.Tensor, *ends: float) -> Schedule | None:
    """The known schedule with these betas [T], None if there is none.

    ``ends``: first and last beta, where they are known better than float32 tells. A last beta of 1
    counts as 0.999, which leaves as good as nothing of the image, too.
    """
    steps, betas = len(betas), betas.double().clamp(max=0.999)
    if steps < 2:
        return None
    own = (float(betas[0]), float(betas[-1]))
    lucid = (0.1 / steps, 20 / steps)  # Ho's linear schedule, scaled to other lengths
    for first, last in (ends or _FROM_HO, _FROM_HO, lucid, own):
        for kind in ("linear", "scaled_linear", "cosine", "sigmoid", "sigmoid_beta"):
            schedule = Schedule(steps, first, last, kind)
            if torch.allclose(schedule.betas, betas, rtol=1e-4, atol=1e-7):
                return schedule
    return None


def _prediction(config: Mapping[str, Any]) -> str:
    named = config.get("prediction_type", "epsilon")
    if config.get("predict_epsilon") is False:  # diffusers before 0.9
        named = "sample"
    known = ", ".join(_PREDICTIONS)
    need(named in _PREDICTIONS, f"{FILE} has prediction_type={short(named)}; known: {known}")
    return _PREDICTIONS[named]


def _variance(config: Mapping[str, Any]) -> str | None:
    named = config.get("variance_type")
    if named is None:
        return None
    variance = str(named).removesuffix("_log")
    need(
        variance in VARIANCES,
        f"{FILE} has variance_type={short(named)}; known: {', '.join(VARIANCES)}",
    )
    return variance
