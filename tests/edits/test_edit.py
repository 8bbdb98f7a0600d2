"""Several edits at once, degrees of change, and variants."""

import copy
import json
import logging
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import dclip
from dclip.config import Encode, FinalStep, Grid, Mix, option_name
from dclip.config.edit import Edit as EditOptions
from dclip.data.toonfaces.faces import sample_face
from dclip.data.toonfaces.truths import TRUTHS, counterfactual, truth_named
from dclip.diffusion.mix import degree, degrees
from dclip.diffusion.options import Ab2, Belm, Ddim, FixedPoint, Heun
from dclip.diffusion.sampler import Prediction
from dclip.edits.edit import Edit, apply_edit, truth_pixels
from dclip.edits.header import joined, read_edit_header
from dclip.edits.named import find_edits
from dclip.edits.network import NetworkEdit, soup
from dclip.edits.saved import read_edit
from dclip.encode.invert import encode_variants
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.methods.load import join_edits, load_edits
from dclip.models.checkpoints import load_model
from dclip.types import Images
from helpers.networks import a_run, put_on, start_at, write_edit
from helpers.runs import configure, words


def pictures(n=3, size=16, seed=0):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def named(n=3, **options):
    return Images(pictures(n, **options), tuple(f"p{i}" for i in range(n)))


@pytest.fixture(scope="session")
def edits(tiny, nets, tmp_path_factory):
    """Three edits of the tiny 16-pixel model: two of full weights, one low-rank."""
    root = tmp_path_factory.mktemp("edits")
    return {
        "red": write_edit(root / "red", tiny, nets["model16"], "red_hair", 0.3),
        "beard": write_edit(root / "beard", tiny, nets["model16"], "beard", -0.2),
        "low": write_edit(root / "low", tiny, nets["model16"], "zombie", lora=True),
        "later": write_edit(root / "later", tiny, nets["model16"], "beard", 0.1, sampler__t0=300),
        "stranger": write_edit(root / "stranger", tiny, nets["other16"], "beard", 0.1),
    }


@pytest.fixture
def editing(tiny, nets):
    """Settings of task=edit on the tiny 16-pixel model."""

    def build(*names, **settings):
        keep = {
            k: v
            for k, v in tiny.items()
            if k.split(".")[0] in ("trainer", "logger", "clip", "metric")
        }
        chosen = names[0] if len(names) == 1 else f"[{','.join(names)}]"
        return configure(
            *words(
                {**keep, "checkpoint.name": nets["model16"]},
                **{"task": "edit", "edit__adapter": chosen, **settings},
            )
        )

    return build


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mix__weights": "[0.4,0.4]"}, "sum to 0.8"),
        ({"mix__weights": "{300:[0.4,0.6],0:[0.5,0.6]}"}, "sum to 1.1"),
        ({"mix__weights": "linear", "mix__soup": "true"}, "cannot change with t"),
        ({"edit__adapter": "[]"}, "names no edit"),
        ({"edit__adapter": "''"}, "must be an edit's file"),
        ({"edit__adapter": "7"}, "must be an edit's file"),
        ({"gamma": 6.5}, "gamma=6.5"),
        ({"degrees": "[0,7]"}, "degrees"),
        ({"variants": 0}, "variants=0"),
        ({"variants": 2}, "nothing is random"),
    ],
)
def test_impossible_mixtures_are_refused_in_one_line_before_anything_is_built(
    editing, edits, settings, said
):
    with pytest.raises(DclipError) as caught:
        editing(edits["red"], edits["beard"], **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mixing_is_for_edits_only():
    for word in ("mix.soup=true", "variants=2"):
        with pytest.raises(DclipError, match="is for task=edit"):
            configure(word)


# ------------------------------------------------------------------------------------------- what several edits take over


def test_several_edits_bring_their_steps_and_one_text(editing, edits):
    cfg = editing(edits["red"], edits["low"])
    assert cfg.edit.adapters == [edits["red"], edits["low"]]
    assert cfg.edit.name == "red_hair+zombie"
    assert (cfg.sampler.t0, cfg.sampler.s_for, cfg.sampler.s_gen) == (500, 4, 2)


def test_edits_made_with_different_steps_are_refused_unless_told(editing, edits):
    with pytest.raises(
        DclipError, match=r"different sampler\.t0 \(500, 300\); choose one: sampler\.t0=500"
    ):
        editing(edits["red"], edits["later"])
    assert editing(edits["red"], edits["later"], sampler__t0=400).sampler.t0 == 400
    with pytest.raises(DclipError, match=r"different sampler\.t0"):
        dclip.edit(None, pictures(), [edits["red"], edits["later"]])


def test_another_sampler_keeps_the_steps_of_the_edit(editing, edits):
    cfg = editing(edits["later"], sampler="ddpm")
    assert option_name("sampler", cfg.sampler) == "ddpm"
    assert (cfg.sampler.t0, cfg.sampler.s_gen) == (300, 2)
    assert editing(edits["later"], sampler__eta=0.5).sampler.eta == 0.5


# the settings of every sampler, as older versions wrote them whichever was chosen
EVERY = {
    "t0": 400,
    "s_for": 4,
    "s_gen": 3,
    "eta": 0.0,
    "final_step": "to_clean",
    "grid": "quadratic",
    "sweeps": 9,
    "tolerance": 0.01,
    "damping": 0.5,
    "accelerate": False,
    "variance": "checkpoint",
    "noise_last": False,
    "encode": "invert",
}


def rewritten(folder, copy, **header):
    """The edit with another header."""
    saved = read_edit(str(folder))
    path = copy / "adapter.safetensors"
    copy.mkdir()
    metadata = {"dclip": json.dumps({**saved.header, **header})}
    save_file(load_file(saved.path), str(path), metadata=metadata)
    return str(copy)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("ddim", Ddim(400, 4, 3, grid=Grid.quadratic)),
        ("ab2", Ab2(400, 4, 3, grid=Grid.quadratic)),
        ("fixed_point", FixedPoint(400, 4, 3, FinalStep.to_clean, Grid.quadratic, Encode.invert, 0.0, 9, 0.01, 0.5, False)),
        ("belm", Belm(400, 4, 3, grid=Grid.quadratic)),
    ],
)  # fmt: skip
def test_an_edit_of_an_older_version_is_applied_as_it_was_learned(
    name, own, editing, edits, tmp_path
):
    old = {**EVERY, "solver": name}
    method = {"objective": "last_k", "k": 2, "faithful_id": False, "drawn_t": False}
    adapter = rewritten(edits["red"], tmp_path / name, sampler=old, method=method)
    assert editing(adapter).sampler == own
    assert read_edit(adapter).sampler == own
    heun = editing(adapter, sampler="heun", sampler__s_gen=5).sampler
    assert heun == Heun(400, 4, 5, grid=Grid.quadratic)


def test_noise_is_the_choice_of_whoever_applies_an_edit(editing, edits, tmp_path):
    old = {**EVERY, "solver": "fixed_point", "eta": 0.7}
    adapter = rewritten(edits["red"], tmp_path / "old", sampler=old)
    assert editing(adapter).sampler.eta == 0
    assert editing(adapter, sampler__eta=0.5).sampler.eta == 0.5
    plain_solver = rewritten(edits["red"], tmp_path / "ab2", sampler={**EVERY, "solver": "ab2"})
    with pytest.raises(DclipError, match=r"eta=0.5 adds noise to DDIM, but the sampler is ab2"):
        editing(plain_solver, sampler__eta=0.5)


def test_edits_of_different_samplers_are_refused_unless_one_is_chosen(editing, edits, tmp_path):
    other = rewritten(edits["red"], tmp_path / "old", sampler={**EVERY, "solver": "heun"})
    same = rewritten(edits["low"], tmp_path / "low", sampler={**EVERY, "solver": "ddim"})
    with pytest.raises(
        DclipError, match=r"different sampler \(heun, ddim\); choose one: sampler=heun"
    ):
        editing(other, same)
    assert option_name("sampler", editing(other, same, sampler="heun").sampler) == "heun"


def test_an_edit_of_a_sampler_that_is_not_here_says_so(editing, edits, tmp_path):
    adapter = rewritten(edits["red"], tmp_path / "old", sampler={**EVERY, "solver": "midpoint"})
    with pytest.raises(DclipError, match=r"sampler=midpoint is not here; .*give plugins="):
        editing(adapter)


def test_targets_are_joined_where_they_begin_to_differ():
    assert (
        joined(["person with red hair", "person with a beard"])
        == "person with red hair and a beard"
    )
    assert joined(["zombie", "person with a beard"]) == "zombie and person with a beard"
    assert joined(["smiling person"]) == "smiling person"


def test_an_edit_is_found_by_its_name(tmp_path):
    with pytest.raises(DclipError, match=r"first learn it, e\.g\. python run\.py edit=red_hair"):
        find_edits("red_hair", str(tmp_path))
    for run in ("2026-01-02_00-00-00_b", "2026-01-01_00-00-00_a"):
        (tmp_path / "finetune_red_hair" / run).mkdir(parents=True)
        (tmp_path / "finetune_red_hair" / run / "adapter.safetensors").touch()
    [found] = find_edits("red_hair", str(tmp_path))
    assert "2026-01-02" in found
    assert find_edits(str(tmp_path), str(tmp_path)) == [str(tmp_path)]
    with pytest.raises(DclipError, match="nowhere"):
        read_edit_header("nowhere")


def test_the_truth_of_several_edits_is_all_of_them():
    both = truth_named("red_hair+beard")
    assert both.attributes == {"hair_color", "beard"}
    face = next(f for f in (sample_face("test", i) for i in range(50)) if both.applies(f))
    changed = counterfactual(face, both)
    assert (changed["hair_color"], changed["beard"]) == ("red", "full")
    assert changed["expression"] == face["expression"]
    assert not both.applies(changed)
    assert truth_named("red_hair") == TRUTHS["red_hair"]
    assert truth_named("red_hair+freckles") is None


def test_the_judge_counts_faces_that_show_every_edit():
    from dclip.metrics.functional import judged_preservation, judged_success

    both = truth_named("red_hair+beard")
    looks = [("red", "full"), ("red", "none"), ("black", "full")]
    seen = [{"hair_color": color, "beard": beard} for color, beard in looks]
    assert judged_success(seen, both.goal).tolist() == [1, 0, 0]
    face = sample_face("test", 0)
    wrong = [face.with_(hair_color="blue", beard="long")]
    assert judged_preservation(wrong, [both.kept(face)]).tolist() == [1]
    assert float(judged_preservation(wrong, [TRUTHS["beard"].kept(face)])) < 1


# ------------------------------------------------------------------------------------------- mixtures


def eps(fn, seed=5):
    with torch.no_grad():
        return fn(pictures(3, seed=seed), torch.full((3,), 250)).eps


def test_a_mixture_is_the_weighted_sum_of_its_edits(model, edits):
    red, beard = (
        join_edits(model, [read_edit(edits[n])], Mix(), 500).tuned for n in ("red", "beard")
    )
    mixed = join_edits(
        model, [read_edit(edits["red"]), read_edit(edits["beard"])], Mix([0.3, 0.7]), 500
    )
    torch.testing.assert_close(
        eps(mixed.tuned), 0.3 * eps(red) + 0.7 * eps(beard), rtol=0, atol=1e-6
    )
    faded = join_edits(
        model, [read_edit(edits["red"]), read_edit(edits["beard"])], Mix("linear"), 500
    )
    torch.testing.assert_close(
        eps(faded.tuned), 0.5 * eps(red) + 0.5 * eps(beard), rtol=0, atol=1e-6
    )
    sharp = join_edits(
        model,
        [read_edit(edits["red"]), read_edit(edits["beard"])],
        Mix({251: [1, 0], 0: [0, 1]}),
        500,
    )
    assert torch.equal(eps(sharp.tuned), eps(beard))


def test_degree_two_of_an_equal_mixture_makes_both_changes_whole(model, edits):
    original, (red, low) = (
        eps(model.predict),
        (eps(join_edits(model, [read_edit(edits[n])], Mix(), 500).tuned) for n in ("red", "low")),
    )
    both = join_edits(model, [read_edit(edits["red"]), read_edit(edits["low"])], Mix(), 500)
    torch.testing.assert_close(eps(both.denoiser(2.0)), red + low - original, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["red", "low"])
def test_a_soup_of_one_edit_is_that_edit(model, edits, name):
    alone = join_edits(model, [read_edit(edits[name])], Mix(), 500)
    merged = join_edits(model, [read_edit(edits[name])], Mix([1.0], soup=True), 500)
    assert float((eps(alone.tuned) - eps(model.predict)).abs().max()) > 0.01
    torch.testing.assert_close(eps(merged.tuned), eps(alone.tuned), rtol=0, atol=1e-5)


def test_a_soup_is_the_weighted_sum_of_the_changes_of_weights(model, edits, nets):
    before = copy.deepcopy(model.unet.state_dict())
    tuned = {}
    for name in ("red", "low"):
        tuned[name] = put_on(read_edit(edits[name]), load_model(str(nets["model16"])))
    loaded = [NetworkEdit.load(read_edit(edits[name]), model) for name in ("red", "low")]
    merged = soup(model, loaded, [0.5, 1.5], 1.0).network
    for key, start in before.items():
        change = 0.5 * (tuned["red"].unet.state_dict()[key] - start) + 1.5 * (
            tuned["low"].unet.state_dict()[key] - start
        )
        torch.testing.assert_close(merged.unet.state_dict()[key], start + change, rtol=0, atol=1e-5)
        assert torch.equal(model.unet.state_dict()[key], start)


def test_a_soup_costs_one_call_a_step_at_any_degree(model, edits, editing):
    calls = []
    cfg = editing(edits["red"], edits["low"], mix__soup="true", gamma=2, edit__region="none")
    editor = load_edits(cfg, model)
    for part in (model, *editor.parts):
        part.unet.register_forward_hook(lambda *_: calls.append(1))
    images = named()
    editor.apply(a_run(cfg, model), start_at(images), 2.0)
    assert len(calls) == cfg.sampler.s_gen


def test_an_edit_of_another_base_is_refused_before_any_network_is_copied(model, edits):
    with pytest.raises(DclipError, match="choose its own checkpoint"):
        join_edits(model, [read_edit(edits["red"]), read_edit(edits["stranger"])], Mix(), 500)


# ------------------------------------------------------------------------------------------- degrees


def test_a_strip_holds_every_degree_in_one_pass(model, edits, editing):
    cfg, images, gammas = editing(edits["red"]), named(), [0.0, 0.5, 1.0, 2.0]
    editor = load_edits(cfg, model)
    single = [editor.apply(a_run(cfg, model), start_at(images), gamma) for gamma in gammas]
    calls, editor = [], load_edits(cfg, model)  # the first one remembers its pictures
    for part in (model, *editor.parts):
        part.unet.register_forward_hook(lambda _net, args, _out: calls.append(len(args[0])))
    made = editor.strip(a_run(cfg, model), start_at(images), gammas)
    assert made.shape == (3, 4, 3, 16, 16)
    torch.testing.assert_close(made, torch.stack(single, 1), rtol=1e-4, atol=1e-4)
    assert (
        calls == [9, 9] * cfg.sampler.s_gen
    )  # the original is not asked for degree 1, nor the edit for degree 0


def test_a_strip_of_one_degree_is_a_strip(model, edits, editing):
    cfg, images = editing(edits["red"], edit__region="none"), named()
    editor = load_edits(cfg, model)
    made = editor.strip(a_run(cfg, model), start_at(images), [0.5])
    assert made.shape == (3, 1, 3, 16, 16)
    expected = editor.apply(a_run(cfg, model), start_at(images), 0.5)
    torch.testing.assert_close(made[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_strip_of_a_soup_ends_where_the_soup_does(model, edits, editing):
    cfg, images = editing(edits["red"], edits["low"], mix__soup="true", gamma=2), named()
    editor = load_edits(cfg, model)
    made = editor.strip(a_run(cfg, model), start_at(images), [0.0, 2.0])
    torch.testing.assert_close(
        made[:, 1], editor.apply(a_run(cfg, model), start_at(images), 2.0), rtol=1e-4, atol=1e-4
    )
    assert float((made[:, 1] - made[:, 0]).abs().mean()) > 1e-3


def test_degrees_of_a_network_that_predicts_its_variance():
    def net(shift):
        return lambda x, t: Prediction(x + shift, x * 0 + shift)

    x, t = pictures(2).repeat_interleave(3, 0), torch.full((6,), 100)
    strip_of_three = degrees(net(0.0), net(1.0), [0.0, 0.25, 1.0])(x, t)
    alone = [degree(net(0.0), net(1.0), g)(x[:1], t[:1]) for g in (0.0, 0.25, 1.0)]
    for k in range(3):
        torch.testing.assert_close(strip_of_three.eps[k], alone[k].eps[0])
        torch.testing.assert_close(strip_of_three.fraction[k], alone[k].fraction[0])


# ------------------------------------------------------------------------------------------- variants


@pytest.mark.parametrize(
    "settings", [{"sampler__eta": 1.0}, {"sampler": "ddpm"}, {"sampler__encode": "stochastic"}]
)
def test_variants_of_an_image_differ_and_belong_to_its_name(model, edits, editing, settings):
    cfg, images = editing(edits["red"], variants=3, sampler__s_gen=3, **settings), named()
    editor = load_edits(cfg, model)

    def made(part):
        run = a_run(cfg, model)
        encoded = encode_variants(run, part)
        return encoded.images, encoded.latents, editor.apply(run, encoded, 1.0)

    several, latents, result = made(images)
    assert several.ids[:4] == ("p0_v1", "p0_v2", "p0_v3", "p1_v1")
    assert torch.equal(several.pixels[3], images.pixels[1])
    assert torch.equal(latents[0], latents[1]) is ("sampler__encode" not in settings)
    assert float((result[0] - result[1]).abs().max()) > 0.01
    _, _, alone = made(images.take([1]))
    torch.testing.assert_close(alone, result[3:6], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "settings", [{"mix__weights": "cosine", "sampler__eta": 0.7}, {"mix__soup": "true"}]
)
def test_the_batch_size_never_changes_a_mixed_picture(model, edits, editing, settings):
    found = []
    for batch in (1, 2, 25):
        cfg, images = (
            editing(edits["red"], edits["low"], trainer__batch=batch, sampler__s_gen=3, **settings),
            named(),
        )
        editor = load_edits(cfg, model)
        found.append(
            (
                editor.apply(a_run(cfg, model), start_at(images), 1.0),
                editor.strip(a_run(cfg, model), start_at(images), [0.0, 1.0]),
            )
        )
    for result, degrees_ in found[1:]:
        torch.testing.assert_close(result, found[0][0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(degrees_, found[0][1], rtol=1e-3, atol=1e-3)


# ------------------------------------------------------------------------------------------- from the command line


def test_a_photograph_gets_two_edits_its_degrees_and_an_animation(tiny, nets, tmp_path):
    from dclip.pipeline import run

    red = write_edit(tmp_path / "red", tiny, nets["model64"], "red_hair", 0.3)
    low = write_edit(tmp_path / "low", tiny, nets["model64"], "beard", lora=True)
    Image.new("RGB", (90, 70), (120, 130, 90)).save(tmp_path / "me.png")
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "metric", "checkpoint")
    }
    folder = run(
        configure(
            *words(keep, task="edit", edit__adapter=f"[{red},{low}]", input=tmp_path / "me.png", output=tmp_path / "out"),
            "mix.weights={300:[1,0],0:[0.3,0.7]}", "degrees=[0,0.5,1]", "sampler.eta=1", "variants=2",
        )
    )  # fmt: skip
    assert {p.name for p in (folder / "samples").iterdir()} == {
        "image_me_v1.png", "image_me_v2.png", "before_after.png", "degree_of_change.png", "degree_of_change.gif",
    }  # fmt: skip
    assert Image.open(folder / "samples" / "degree_of_change.gif").n_frames == 4
    assert 'id="degree"' in (folder / "report.html").read_text("utf-8")
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == 2
    assert 0 < metrics["mae"] < 1
    assert "edit_red_hair_beard" in folder.parent.name
    assert "judge_success" not in metrics


def test_edits_of_test_faces_are_measured_against_both_truths(tiny, nets, tmp_path):
    from dclip.pipeline import run

    edits = [
        write_edit(tmp_path / n, tiny, nets["model64"], n, b)
        for n, b in (("red_hair", 0.3), ("beard", -0.2))
    ]
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "clip", "checkpoint", "dataset")
    }
    settings = words(
        keep,
        task="edit",
        edit__adapter=f"[{','.join(edits)}]",
        output=tmp_path,
        gamma=2,
        metric__kid="false",
        degrees="[]",
    )
    metrics = read_json(run(configure(*settings)) / "metrics.json")
    assert {
        "judge_success",
        "judge_success_hair_color",
        "judge_success_beard",
        "counterfactual_ratio",
    } <= set(metrics)
    assert metrics["judge_success"] <= min(
        metrics["judge_success_hair_color"], metrics["judge_success_beard"]
    )


def test_a_link_to_a_file_keeps_its_name_and_one_to_a_folder_is_followed(tmp_path):
    """Published names say t0; caches of downloads hold them as links. ``outputs/latest`` is turned by every new run."""
    (tmp_path / "blob").write_bytes(b"")
    (tmp_path / "human_tanned_t201.pth").symlink_to("blob")
    (tmp_path / "run").mkdir()
    (tmp_path / "latest").symlink_to("run")
    file = str(tmp_path / "human_tanned_t201.pth")
    assert find_edits(file) == [file]
    assert find_edits(str(tmp_path / "latest")) == [str(tmp_path / "run")]


class Painted(Edit):
    """An edit that makes every picture the same."""

    def __init__(self, value):
        self.value = value

    def apply(self, run, start, gamma):
        return torch.full_like(start.sources.pixels, self.value)


def test_an_edit_that_clips_most_values_is_said(model, editing, edits, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    images = named(2)
    run, start = a_run(editing(edits["red"], gamma=2), model), start_at(images)
    apply_edit(run, Painted(0.9), start)
    assert not caplog.records
    apply_edit(run, Painted(1.7), start)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("100 % more of the edited images' values are clipped than before")
    assert "gamma=2" in said and "lower gamma" in said


def test_a_soup_of_what_is_no_change_of_weights_is_refused_at_once(
    editing, edits, tiny, nets, tmp_path
):
    from safetensors import safe_open

    from dclip.models.header import KEY

    path = tmp_path / "adapter.safetensors"
    with safe_open(f"{edits['red']}/adapter.safetensors", "pt") as file:
        header = json.loads(file.metadata()[KEY])
    header["method_name"] = "asyrp"
    save_file({"x": torch.zeros(1)}, str(path), metadata={KEY: json.dumps(header)})
    with pytest.raises(DclipError, match=r"method=asyrp\) changes none; choose mix\.soup=false"):
        editing(edits["red"], str(path), mix__soup="true")


@pytest.mark.parametrize(
    ("adapters", "gamma", "whole"),
    [
        ([], 1, True),
        (["a"], 1, True),
        (["a"], 0.5, False),
        (["a", "b"], 2, True),
        (["a", "b"], 1, False),
    ],
)
def test_only_whole_edits_are_compared_with_the_truth(monkeypatch, adapters, gamma, whole):
    """Two edits mixed at gamma = 1 make half of each change, and the truth shows all of both."""
    monkeypatch.setattr("dclip.edits.edit.true_images", lambda sources, truth: "the truth")
    monkeypatch.setattr("dclip.edits.edit.truth_of", lambda cfg: None)
    options = EditOptions(source="face", target="tanned face", adapter=adapters or None)
    cfg = SimpleNamespace(gamma=gamma, edit=options)
    found = truth_pixels(SimpleNamespace(cfg=cfg), SimpleNamespace(sources=None))
    assert found == ("the truth" if whole else None)
