"""Edits one after the other: the same as one command after another."""

import pytest
import torch

from dclip.edits.axioms import again, as_saved
from dclip.encode.invert import encode_to_edit
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.load import load_edits
from dclip.metrics.functional import mae
from dclip.models.unet import DiffusionModel
from dclip.pipeline import run
from dclip.prepare import plan
from dclip.types import Images
from helpers.networks import a_run, write_edit
from helpers.runs import configure, words

AUTO = "[{region: auto, region_low: 0.1, region_high: 0.2},{region: auto, region_low: 0.3}]"


@pytest.fixture(scope="module")
def pair(tiny, nets, tmp_path_factory):
    """Two edits of the tiny 64-pixel model, learned without a region."""
    root = tmp_path_factory.mktemp("pair")
    settings = {"edit.region": "none", "edit.region_colors": 0}
    return [
        write_edit(root / "red", tiny, nets["model64"], "red_hair", 0.3, **settings),
        write_edit(root / "beard", tiny, nets["model64"], "beard", lora=True, **settings),
    ]


@pytest.fixture
def settings(tiny, pair):
    """A command line that applies both, whole, one after the other."""

    def build(*adapters, **more):
        groups = ("trainer", "logger", "clip", "metric", "checkpoint")
        keep = {k: v for k, v in tiny.items() if k.split(".")[0] in groups}
        chosen = adapters or pair
        keep |= {"task": "edit", "edit.adapter": f"[{','.join(chosen)}]", "gamma": len(chosen)}
        keep |= {"mix.in_turn": "true", "trainer.cache": "false", "degrees": "[]"}
        keep |= {"sampler.s_for": 3, "sampler.s_gen": 2}
        return words(keep, **more)

    return build


@pytest.fixture
def images():
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Images(pixels, ("a", "b", "c"))


@pytest.fixture
def model64(nets):
    from dclip.models.checkpoints import load_model

    return load_model(str(nets["model64"]))


def applied(words_, model, images):
    cfg = configure(*words_)
    run_ = a_run(cfg, model)
    start = encode_to_edit(run_, images)
    edit = load_edits(cfg, model)
    return edit.apply(run_, start, cfg.gamma), edit, start


@pytest.mark.parametrize(
    "more",
    [
        {"edit.region": "none"},
        {"edit.region": "auto"},
        {"edit.regions": AUTO},
        {"edit.region": "none", "sampler.carry": "offset"},
    ],
)
def test_two_edits_in_turn_are_one_command_after_another(settings, pair, model64, images, more):
    both, _, _ = applied(settings(**more), model64, images)
    single = {key: value for key, value in more.items() if key != "edit.regions"}
    regions = [{"edit.region": "auto", "edit.region_low": low} for low in (0.1, 0.3)]
    regions[0]["edit.region_high"] = 0.2
    now = images
    for place, adapter in enumerate(pair):
        own = regions[place] if "edit.regions" in more else {}
        result, _, _ = applied(settings(adapter, **single, **own), model64, now)
        now = Images(as_saved(result), images.ids)
    assert torch.equal(as_saved(both), now.pixels)
    assert float(mae(now.pixels, images.pixels).min()) > 0.001


def test_a_degree_is_shared_by_the_weights(settings, pair, model64, images):
    first = settings(**{"edit.region": "none", "mix.weights": "[1.0,0.0]", "gamma": 1})
    made, edit, _ = applied(first, model64, images)
    cfg = configure(*settings(pair[0], **{"edit.region": "none"}))
    run_ = a_run(cfg, model64)
    alone = load_edits(cfg, model64).apply(run_, encode_to_edit(run_, images), 1.0)
    # the second one, at degree 0, is a round trip of the first one's picture
    back = again(run_, encode_to_edit(run_, images), as_saved(alone))
    expected = edit.turns[1].edit.apply(run_, back, 0.0)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)


def test_regions_are_those_of_the_edits(settings, model64, images):
    _, edit, start = applied(settings(**{"edit.region": "auto"}), model64, images)
    first, second = edit.regions(start)
    assert first.shape == second.shape == (3, 1, 64, 64)
    assert torch.equal(edit.region(start), torch.maximum(first, second))
    _, edit, start = applied(settings(**{"edit.region": "none"}), model64, images)
    assert edit.region(start) is None and edit.regions(start) == []


def test_a_run_measures_what_the_order_changes(settings, tmp_path):
    more = {"edit.region": "none", "dataset": "toonfaces", "dataset.test": 3, "metric.axioms": 2}
    folder = run(*[configure(*settings(output=tmp_path, **more))])
    metrics = read_json(folder / "metrics.json")
    one, other = (picture_of(folder / name) for name in ("samples", "axioms/commutativity"))
    assert len(one) == 3 and len(other) == 2
    expected = float(mae(torch.stack(one[:2]), torch.stack(other)).mean())
    assert metrics["commutativity"] == pytest.approx(expected, abs=1e-5)
    assert expected > 0.001


def picture_of(folder):
    from helpers.images import read_image

    return [read_image(path, 64) for path in sorted(folder.glob("image_*.png"))]


@pytest.mark.parametrize(
    "more",
    [
        {"edit.region": "none"},
        {"edit.region": "auto"},
        {"edit.regions": "[auto,none]"},
        {"edit.regions": "[none,{region: auto, region_refine: 100}]"},
        {"edit.region": "auto", "mix.in_turn": "false"},
        {"edit.region": "none", "mix.in_turn": "false"},
        {"edit.regions": "[auto,auto]", "mix.in_turn": "false"},
        {"edit.regions": "[auto,none]", "mix.in_turn": "false"},
        {"edit.region": "auto", "mix.in_turn": "false", "mix.soup": "true"},
    ],
)
def test_the_plan_counts_every_call(settings, model64, images, more):
    cfg = configure(*settings(**{"dataset": "toonfaces", "dataset.test": 3, **more}))
    edit, seen = load_edits(cfg, model64), []

    def count(_net, args, _out):
        seen.append(len(args[0]))

    networks = {id(part.unet): part.unet for part in (model64, *edit.parts)}
    hooks = [unet.register_forward_hook(count) for unet in networks.values()]
    run_ = a_run(cfg, model64)
    edit.apply(run_, encode_to_edit(run_, images), cfg.gamma)
    for hook in hooks:
        hook.remove()
    planned = plan.calls(cfg)
    assert sum(seen) == planned["invert"] + planned["edit"]


@pytest.mark.parametrize(
    ("turns", "region", "axioms"), [("true", "none", 2), ("false", "none", 2), ("false", "auto", 0)]
)
def test_the_plan_counts_strips_and_axioms(settings, tmp_path, monkeypatch, turns, region, axioms):
    more = {"degrees": "[0,1,2]", "metric.axioms": axioms, "edit.region": region}
    more |= {"mix.in_turn": turns, "dataset": "toonfaces", "dataset.test": 9}
    cfg = configure(*settings(output=tmp_path, **more))
    seen = []
    real = DiffusionModel.predict

    def counted(self, x, t, *args, **options):
        seen.append(len(x))
        return real(self, x, t, *args, **options)

    monkeypatch.setattr(DiffusionModel, "predict", counted)
    run(cfg)
    assert sum(seen) == sum(plan.calls(cfg).values())


def test_an_edit_twice_in_turn_is_no_mistake(settings, pair, caplog):
    configure(*settings(pair[0], pair[0]))
    assert "twice" not in caplog.text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"mix.soup": "true"}, r"choose mix\.soup or mix\.in_turn"),
        ({"mix.weights": "linear"}, r"mix\.in_turn=true applies each edit by itself"),
        ({"edit.region": "truth"}, r"with mix\.in_turn=true choose edit\.region=auto"),
    ],
)
def test_what_cannot_be_in_turn_is_refused(settings, more, said):
    with pytest.raises(DclipError, match=said):
        configure(*settings(**more))
