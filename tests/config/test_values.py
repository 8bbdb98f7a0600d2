"""Settings become the same plain values with OmegaConf and without."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dclip.config.root import Config, plain
from dclip.config.values import Odd, as_dict
from helpers.runs import configure


class Color(Enum):
    red = 1
    blue = 2


@dataclass
class Inner:
    weights: list[float] = field(default_factory=lambda: [1, 2.5])
    names: list[str] | None = None


@dataclass
class Special(Inner):
    more: int = 3


@dataclass
class Some:
    inner: Inner = field(default_factory=Special)
    color: Color = Color.blue
    level: float = 1
    name: str = "1e-3"
    epoch: int | None = None
    anything: Any = field(default_factory=lambda: ["a", [1, None], 2.0])
    on: bool = True


def by_omegaconf(settings):
    node = OmegaConf.structured(settings)
    return OmegaConf.to_container(node, resolve=True, enum_to_str=True)


@pytest.mark.parametrize(
    "settings",
    [Some(), Some(inner=Inner([], ["x"]), color=Color.red, level=-0.0, epoch=2, anything=None)],
)
def test_they_are_omegaconfs(settings):
    assert repr(as_dict(settings)) == repr(by_omegaconf(settings))


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=toonfaces_red_hair", "method.epochs=2", "degrees=[0,1]"],
        ["experiment=toonfaces_contrastive"],
        ["experiment=pretrain_toonfaces_clip"],
    ],
    ids=" ".join,
)
def test_a_runs_settings_are_omegaconfs(words):
    cfg = configure(*words)
    assert repr(as_dict(cfg)) == repr(by_omegaconf(cfg))


@pytest.mark.parametrize(
    "odd",
    [
        {"level": "2"},
        {"name": "${color}"},
        {"name": 3},
        {"epoch": 2.5},
        {"on": 1},
        {"color": "red"},
        {"inner": Inner(weights=(1.0,))},
        {"inner": Inner(weights=["1"])},
        {"anything": {"a": 1}},
    ],
    ids=str,
)
def test_what_omegaconf_would_convert_or_refuse_is_left_to_it(odd):
    with pytest.raises(Odd):
        as_dict(Some(**odd))


def test_settings_of_another_kind_are_still_converted_or_refused():
    cfg = configure("experiment=toonfaces_red_hair")
    assert isinstance(cfg, Config)
    cfg.seed, cfg.name = "7", 3
    assert (plain(cfg)["seed"], plain(cfg)["name"]) == (7, "3")
    cfg.seed = "seven"
    with pytest.raises(OmegaConfBaseException):
        plain(cfg)
