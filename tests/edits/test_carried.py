"""Edits that carry their source along, through real networks."""

import copy
from dataclasses import replace

import pytest
import torch

from dclip.config import OPTIONS, Carry, FinalStep, Grid, option_name
from dclip.diffusion.options import Ddim, sampler_named
from dclip.edits.carried import Carried
from dclip.edits.confined import Confined, ConfinedMixture, confined
from dclip.edits.edit import DenoiserEdit, Mixture, apply_edit
from dclip.edits.region import confine
from dclip.encode.encoded import Encoded
from dclip.encode.invert import encode, encode_splits, encode_to_edit, encode_variants
from dclip.errors import DclipError
from dclip.methods.load import load_edits
from dclip.prepare.plan import calls
from dclip.types import Images
from helpers.images import images16
from helpers.networks import a_run, start_at, write_edit
from helpers.runs import configure, words

MODES = ["residual", "offset", "noise_maps", "flow", "ddcm"]
SOLVERS = {name: sampler_named(name)(500, 6) for name in OPTIONS["sampler"]}
SOLVERS["noisy_ddim"] = Ddim(500, 6, eta=1.0)
STEPS = [(2, FinalStep.to_t0), *((steps, FinalStep.to_clean) for steps in (2, 7))]
LAST = {"ddim": STEPS, "noisy_ddim": STEPS}  # other solvers: the last of them
FREE = {"edit__region": "none"}
PLAIN = {
    "edit__region_colors": 0,
    "edit__region_follow": 0,
    "edit__region_gain": 1,
}  # the change as it is


@pytest.fixture(scope="module")
def red(tiny, nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits") / "red"
    return write_edit(folder, tiny, nets["model16"], "red_hair", 0.3, **FREE)


@pytest.fixture
def editing(tiny, nets, red):
    def build(carry, adapter=red, **settings):
        groups = ("trainer", "logger", "clip", "metric")
        keep = {k: v for k, v in tiny.items() if k.split(".")[0] in groups}
        keep |= {"checkpoint.name": nets["model16"], "task": "edit", "edit.adapter": adapter}
        return configure(*words({**keep, "sampler.carry": carry}, **settings))

    return build


@pytest.fixture(scope="module")
def usual(tiny, nets, red):
    """Settings to put any sampler into, composed once."""
    settings = {**tiny, "checkpoint.name": nets["model16"], "edit.region": "auto"}
    return configure(*words(settings))


def counted(model):
    seen = []
    model.unet.register_forward_hook(lambda _net, inputs, _out: seen.append(len(inputs[0])))
    return seen


# ------------------------------------------------------------------- an edit that changes nothing


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", MODES)
def test_an_edit_that_is_the_original_returns_the_source(mode, solver, usual, model):
    """The tuned network is a copy: nothing but its equal weights makes the two alike."""
    images, twin = images16(2), copy.deepcopy(model)
    same = DenoiserEdit(model, twin.predict, [twin])
    for steps, final in LAST.get(solver, STEPS[-1:]):
        sampler = replace(
            SOLVERS[solver], s_gen=steps, final_step=final, carry=Carry(mode), grid=Grid.uniform
        )
        run = a_run(replace(usual, sampler=sampler), model)
        start = encode_to_edit(run, images)
        made = Carried(same).apply(run, start, 1.0)
        torch.testing.assert_close(made, images.pixels, rtol=0, atol=1e-6)
    in_region = Confined(Carried(same)).apply(run, start, 1.0)  # whatever the steps were
    torch.testing.assert_close(in_region, images.pixels, rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", ["invert", "stochastic"])
@pytest.mark.parametrize("mode", MODES)
def test_at_degree_zero_the_source_itself_comes_back(mode, encoding, editing, red, model):
    run = a_run(editing(mode, sampler__encode=encoding, edit__region="auto"), model)
    start, edit = encode_to_edit(run, images16(3)), load_edits(run.cfg, model)
    assert torch.equal(edit.apply(run, start, 0.0), start.sources.pixels)
    strip = edit.strip(run, start, [0.0, 0.5, 1.0])
    assert torch.equal(strip[:, 0], start.sources.pixels)
    assert not torch.equal(strip[:, 1], strip[:, 2])


@pytest.mark.parametrize("mode", MODES)
def test_a_strip_holds_what_each_degree_makes_alone(mode, editing, model):
    run = a_run(editing(mode), model)
    start, edit = encode_to_edit(run, images16(3)), load_edits(run.cfg, model)
    strip = edit.strip(run, start, [0.5, 1.0])
    for k, gamma in enumerate((0.5, 1.0)):
        alone = edit.apply(run, start, gamma)
        torch.testing.assert_close(strip[:, k], alone, rtol=0, atol=1e-5)
        assert float((alone - start.sources.pixels).abs().max()) > 1e-3


# ------------------------------------------------------------------------------- each of the modes


def test_the_residual_is_what_a_region_of_everything_does(editing, model):
    run = a_run(editing("residual"), model)
    start, edit = encode_to_edit(run, images16(3)), load_edits(run.cfg, model)
    source = start.sources.pixels
    plain, whole = edit.edit.strip(run, start, [0.0, 1.0]).unbind(1)
    made = edit.apply(run, start, 1.0)
    assert torch.equal(made, confine(source, whole - plain, torch.ones_like(source[:, :1])))
    torch.testing.assert_close(made, (source + whole - plain).clamp(-1, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["noise_maps", "flow", "ddcm"])
def test_nothing_is_inverted_where_nothing_has_to_be(mode, editing, model):
    cfg = editing(mode, sampler__s_gen=4, sampler__s_for=7)
    run, edit = a_run(cfg, model), load_edits(cfg, model)
    seen, tuned = counted(model), counted(edit.edit.network)
    start = encode_variants(run, images16(3))
    assert seen == [] and len(start.latents) == 0 and len(start.take([1])) == 1
    with pytest.raises(ValueError, match="have no latents"):
        edit.edit.apply(run, start, 1.0)
    apply_edit(run, edit, start)
    assert (sum(seen), sum(tuned)) == (3 * 4, 3 * 4)
    assert run.record.seconds["seconds_invert"] < 0.01


def test_the_way_of_an_inversion_is_cached_and_ends_at_its_latents(editing, model):
    given = {"sampler__s_gen": 4, "sampler__s_for": 7}
    run, images = a_run(editing("offset", **given), model), images16(3, seed=77)
    seen = counted(model)
    first = encode_to_edit(run, images)
    assert sum(seen) == 3 * 6
    again = encode_to_edit(run, images)
    assert sum(seen) == 3 * 6
    assert torch.equal(first.states, again.states)
    plain = encode(a_run(editing("none", **given), model), images)
    assert torch.equal(first.latents, plain.latents)
    assert torch.equal(first.states[:, -1], images.pixels)


def test_a_weight_is_a_larger_degree_that_still_counts_as_whole(editing, model):
    strong = a_run(editing("noise_maps", sampler__carry_weight=1.5), model)
    usual, images = a_run(editing("noise_maps"), model), images16(2)
    start, edit = encode_to_edit(usual, images), load_edits(usual.cfg, model)
    made = edit.apply(strong, start, 1.0)
    torch.testing.assert_close(made, edit.apply(usual, start, 1.5), rtol=0, atol=1e-6)


def test_more_noises_bring_a_flow_nearer_to_its_mean(editing, model):
    images, made = images16(2), {}
    for noises in (1, 4, 32):
        run = a_run(editing("flow", sampler__carry_noises=noises), model)
        edit = load_edits(run.cfg, model)
        made[noises] = edit.apply(run, encode_to_edit(run, images), 1.0)
    off = [float((made[k] - made[32]).square().mean()) for k in (1, 4)]
    assert off[1] < off[0] / 3


@pytest.mark.parametrize("mode", MODES)
def test_batches_change_no_picture(mode, editing, model):
    images, made = images16(3), []
    for size in (1, 3):
        run = a_run(editing(mode, trainer__batch=size), model)
        edit = load_edits(run.cfg, model)
        made.append(edit.apply(run, encode_to_edit(run, images), 1.0))
    torch.testing.assert_close(*made, rtol=0, atol=1e-5)


# -------------------------------------------------------------------------- every kind of an edit


@pytest.mark.parametrize("mode", MODES)
def test_mixtures_soups_low_rank_and_h_space_are_carried_too(
    mode, editing, red, model, tiny, nets, tmp_path
):
    from dclip.methods.asyrp.hspace import HSpaceEdit, change_for

    low = write_edit(tmp_path / "low", tiny, nets["model16"], "zombie", lora=True, **FREE)
    change = change_for(model)
    torch.nn.init.normal_(change.leave.weight, 0, 0.1)
    edits = {"h-space": (red, {}, Carried(HSpaceEdit(model, change, 0)))}
    several = f"[{red},{low}]"
    for name, adapter, more in (
        ("low-rank", low, {}),
        ("mixture", several, {}),
        ("soup", several, {"mix__soup": "true"}),
    ):
        edits[name] = adapter, more, None
    for name, (adapter, more, edit) in edits.items():
        run = a_run(editing(mode, adapter, **more), model)
        edit = edit or load_edits(run.cfg, model)
        start = encode_to_edit(run, images16(2))
        made = edit.apply(run, start, 1.0)
        moved = float((made - start.sources.pixels).abs().max())
        assert bool(torch.isfinite(made).all()) and moved > 1e-4, (name, moved)
        assert isinstance(edit.edit, Mixture) == (name == "mixture")


def test_an_edit_that_is_no_denoiser_is_carried_by_its_difference_only(editing, model):
    from dclip.edits.edit import Edit

    class Brighter(Edit):
        def apply(self, run, start, gamma):
            return start.sources.pixels / 2 + 0.1 * gamma

    run = a_run(editing("residual"), model)
    start = start_at(images16(2))
    made = Carried(Brighter()).apply(run, start, 1.0)
    expected = (start.sources.pixels + 0.1).clamp(-1, 1)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)
    with pytest.raises(DclipError, match=r"sampler\.carry=none"):
        Carried(Brighter()).apply(a_run(editing("flow"), model), start, 1.0)


def test_noise_has_no_source_to_carry(editing, model):
    run, images = a_run(editing("flow"), model), images16(2)
    noise, edit = Encoded(images.ids, images.pixels), load_edits(run.cfg, model)
    assert torch.equal(edit.apply(run, noise, 1.0), edit.edit.apply(run, noise, 1.0))


# --------------------------------------------------------------------------------- around an edit


@pytest.mark.parametrize("mode", ["noise_maps", "offset"])
def test_a_fine_tuning_inverts_what_it_learns_from(mode, tiny, nets, model):
    cfg = configure(*words(tiny, sampler__carry=mode, checkpoint__name=nets["model16"]))
    splits = {"train": images16(2), "validation": images16(1, 1), "test": images16(2, 2)}
    starts = encode_splits(a_run(cfg, model), splits, True)
    assert [len(starts[name].latents) for name in ("train", "validation")] == [2, 1]
    assert starts["train"].states is None
    assert len(starts["test"].latents) == (0 if mode == "noise_maps" else 2)
    assert (starts["test"].states is None) == (mode == "noise_maps")


def test_a_plan_counts_both_branches_and_no_inversion(editing):
    given = {"sampler__s_for": 7, "sampler__s_gen": 4, "dataset__test": 5, "degrees": "[]"}
    counts = {}
    for mode in ("none", *MODES):
        work = calls(editing(mode, **given))
        counts[mode] = work["invert"], work["edit"]
    assert counts == {
        "none": (5 * 6, 5 * 4),
        "residual": (5 * 6, 5 * 2 * 4),
        "offset": (5 * 6, 5 * 2 * 4),
        "noise_maps": (0, 5 * 2 * 4),
        "flow": (0, 5 * 2 * 4),
        "ddcm": (0, 5 * 2 * 4),
    }
    assert calls(editing("flow", **given, sampler__carry_noises=3))["edit"] == 3 * 5 * 2 * 4
    assert calls(editing("noise_maps", **given, sampler__carry_weight=1.5))["edit"] == 5 * 3 * 4
    for mode in ("noise_maps", "ddcm"):
        one = calls(editing(mode, **given, sampler="heun"))["edit"]
        assert one == 5 * 2 * 4  # its steps are its own


def test_an_edit_is_applied_as_it_was_learned_to_be(editing, red, tiny, nets, tmp_path):
    carried = {"sampler__carry": "flow", "sampler__carry_noises": 3, **FREE}
    path = write_edit(tmp_path / "e", tiny, nets["model16"], "red_hair", **carried)
    groups = {"task": "edit", "checkpoint.name": nets["model16"], "clip.name": nets["clip"]}
    groups |= {"clip.heldout": nets["heldout"], "metric.judge": "false"}

    def sampler(adapter, **more):
        return configure(*words({**groups, "edit.adapter": adapter}, **more)).sampler

    assert (sampler(path).carry, sampler(path).carry_noises) == ("flow", 3)
    assert sampler(path, sampler="ab2").carry == "flow"
    assert sampler(path, sampler__carry="noise_maps").carry_noises == 1
    assert sampler(red).carry == "none"
    with pytest.raises(DclipError, match=r"choose one: sampler\.carry="):
        sampler(f"[{path},{red}]")


def test_variants_differ_where_noise_is_drawn(editing, model):
    run = a_run(editing("noise_maps", variants=2), model)
    edit = load_edits(run.cfg, model)
    made = edit.apply(run, encode_variants(run, images16(2)), 1.0)
    assert len(made) == 4 and not torch.allclose(made[0], made[1], atol=1e-4)
    with pytest.raises(DclipError, match="nothing is random"):
        editing("offset", variants=2)


@pytest.mark.parametrize("mode", MODES)
def test_the_notebook_carries_as_the_command_does(mode, editing, model, tiny, nets, tmp_path):
    import dclip

    given = {"sampler__carry": mode, "edit__region": "auto", **PLAIN}
    path = write_edit(tmp_path / "e", tiny, nets["model16"], "red_hair", 0.3, **given)
    images = images16(2)
    names = {"ids": ("image_00000", "image_00001")}
    images = type(images)(images.pixels, names["ids"])
    for region in ("none", "auto"):
        cfg = editing(mode, path, edit__region=region)
        run = a_run(cfg, model)
        edit = load_edits(cfg, model)
        made = edit.apply(run, encode_to_edit(run, images), 1.0)
        again = dclip.edit(model, images.pixels, path, region=region)
        if region == "none":
            torch.testing.assert_close(again, made, rtol=0, atol=1e-5)
        else:
            assert float((again - made).abs().mean()) < 1e-2
    assert torch.equal(dclip.edit(model, images.pixels, path, gamma=0.0), images.pixels)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"carry": "sideways"}, "sampler.carry"),
        ({"carry": "flow", "sampler__carry_weight": 2}, "sampler.carry_weight=2.0 is for"),
        ({"carry": "offset", "sampler__carry_noises": 2}, "sampler.carry_noises=2 is for"),
        ({"carry": "ddcm", "sampler__carry_weight": 2}, "sampler.carry_weight=2.0 is for"),
        ({"carry": "ddcm", "sampler__carry_noises": 2}, "sampler.carry_noises=2 is for"),
        ({"carry": "flow", "sampler__carry_noises": 0}, "sampler.carry_noises=0 must be"),
        (
            {"carry": "flow", "task": "reconstruct", "edit.adapter": "null"},
            "choose sampler.carry=none",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused_in_one_line(editing, settings, said):
    with pytest.raises(DclipError) as caught:
        editing(**settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_carry_an_edit_is_what_it_was(editing, model):
    cfg = editing("none")
    edit = DenoiserEdit(model, model.predict, ())
    assert confined(cfg, edit) is edit
    assert option_name("sampler", cfg.sampler) == "ddim"


@pytest.mark.parametrize("mode", MODES)
def test_edits_in_regions_of_their_own_are_carried_too(mode, editing, model, tiny, nets, tmp_path):
    import dclip

    paths, given = [], {"sampler__carry": mode, "edit__region": "auto", **PLAIN}
    for name, low in (("red_hair", 0.85), ("zombie", 0.9)):
        narrow = {
            "edit__region_low": low,
            "edit__region_high": 0.9,
            "edit__region_feather": 0,
            **given,
        }
        lora = name == "zombie"
        edit = write_edit(tmp_path / name, tiny, nets["model16"], name, 0.3, lora, **narrow)
        paths.append(edit)
    pixels, ids = images16(2).pixels, ("image_00000", "image_00001")
    run = a_run(editing(mode, f"[{','.join(paths)}]", gamma=2), model)
    edit, start = load_edits(run.cfg, model), encode_to_edit(run, Images(pixels, ids))
    assert isinstance(edit, ConfinedMixture)
    made = edit.apply(run, start, 2.0)
    outside = (edit.region(start) == 0).expand_as(made)
    assert int(outside.sum()) > 0
    assert torch.equal(made[outside], pixels[outside])
    assert float((made - pixels).abs().max()) > 1e-3
    assert torch.allclose(edit.apply(run, start, 0.0), pixels, atol=1e-6)
    again = dclip.edit(model, pixels, paths, gamma=2.0)
    assert float((again - made).abs().mean()) < 1e-2


def test_other_pictures_of_the_same_names_are_edited_anew(editing, model):
    """Where nothing was inverted, only the pictures themselves can tell them apart."""
    run = a_run(editing("flow", edit__region="auto"), model)
    edit = load_edits(run.cfg, model)
    first, second = images16(2), images16(2, seed=5)
    made = [edit.apply(run, encode_to_edit(run, images), 1.0) for images in (first, second)]
    fresh = load_edits(run.cfg, model).apply(run, encode_to_edit(run, second), 1.0)
    assert torch.equal(made[1], fresh) and not torch.equal(*made)
