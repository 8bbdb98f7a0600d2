import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import dclip
from dclip.config import Metrics
from dclip.data.toonfaces.domain import LOOKS
from dclip.edits.saved import read_edit
from dclip.errors import DclipError
from dclip.models.judge import Judge
from helpers.networks import save_edit
from helpers.runs import ROOT, configure, words


@pytest.fixture
def pictures():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def adapter(model, nets, tiny, tmp_path):
    """A fine-tuned edit of the tiny model, made for 4 and 2 steps up to t0 = 300."""
    import copy

    cfg = configure(*words({**tiny, "checkpoint.name": nets["model16"]}, sampler__t0=300))
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.unet.conv_out.bias += 0.3
    save_edit(tmp_path / "adapter.safetensors", cfg, tuned, 0.0)
    return tmp_path


def test_importing_dclip_imports_nothing_heavy():
    program = "import sys, dclip; assert 'torch' not in sys.modules; dclip.load_model; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0


def test_every_public_function_is_there_and_described():
    assert set(dclip.__all__) == {
        "edit",
        "finetune",
        "generate",
        "invert",
        "load_clip",
        "load_images",
        "load_model",
        "measure",
        "sample",
        "save_images",
    }
    assert set(dclip.__all__) < set(dir(dclip))
    for name in dclip.__all__:
        assert callable(getattr(dclip, name))
        assert getattr(dclip, name).__doc__


def test_an_unknown_function_is_an_error_with_the_choices():
    with pytest.raises(AttributeError, match=r"no attribute 'inverse'; it has .*invert"):
        dclip.inverse  # noqa: B018


def test_a_model_is_loaded_by_path(nets):
    model = dclip.load_model(str(nets["model16"]))
    assert model.image_size == 16
    assert not model.training
    with pytest.raises(DclipError, match="neither a file nor a known name"):
        dclip.load_model("nothing")
    with pytest.raises(DclipError, match="'clip'"):
        dclip.load_model(str(nets["clip"]))


def test_invert_and_generate_come_back_the_closer_the_more_steps_are_taken(model, pictures):
    errors = []
    for steps in (5, 40):
        latents = dclip.invert(model, pictures, t0=300, steps=steps)
        assert latents.shape == pictures.shape
        assert not torch.allclose(latents, pictures, atol=0.1)
        assert not latents.requires_grad
        again = dclip.generate(model, latents, t0=300, steps=steps, final_step="to_t0")
        errors.append(float((again - pictures).abs().mean()))
    assert errors[1] < errors[0] / 3


def test_the_final_step_changes_the_result(model, pictures):
    to_clean, to_t0 = (
        dclip.generate(model, pictures, t0=300, steps=5, final_step=f)
        for f in ("to_clean", "to_t0")
    )
    assert not torch.equal(to_clean, to_t0)


def test_noise_is_drawn_from_the_seed_and_the_id_of_an_image(model, pictures):
    def draw(x, **options):
        return dclip.generate(model, x, t0=500, steps=5, eta=1.0, **options)

    both = draw(pictures, ids=["a", "b"], seed=3)
    torch.testing.assert_close(draw(pictures[1:], ids=["b"], seed=3), both[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(draw(pictures, ids=["a", "b"], seed=4), both, atol=1e-3)
    assert not torch.allclose(draw(pictures, ids=["a", "c"], seed=3)[1], both[1], atol=1e-3)
    assert torch.equal(draw(pictures), draw(pictures))


def test_an_edit_uses_the_steps_it_was_made_with(model, pictures, adapter):
    tuned = dclip.load_model(str(adapter / "adapter.safetensors"))
    latents = dclip.invert(model, pictures, t0=300, steps=4)
    expected = dclip.generate(tuned, latents, t0=300, steps=2)
    torch.testing.assert_close(
        dclip.edit(model, pictures, str(adapter), region="none"), expected, rtol=0, atol=1e-5
    )


def test_an_edit_of_degree_zero_is_the_original_model_and_one_half_is_between(
    model, pictures, adapter
):
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    original = dclip.generate(
        model, dclip.invert(model, pictures, t0=300, steps=4), t0=300, steps=2
    )
    none, half, full = (
        dclip.edit(model, pictures, str(adapter), gamma=g, region="none") for g in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(none, original, rtol=0, atol=1e-5)
    assert float((full - none).abs().mean()) > float((half - none).abs().mean()) > 0.01
    assert all(torch.equal(v, before[k]) for k, v in model.unet.state_dict().items())


def test_an_edit_of_another_base_or_no_edit_is_refused(nets, pictures, adapter, tmp_path_factory):
    other = dclip.load_model(str(nets["other16"]))
    with pytest.raises(DclipError, match="choose its own checkpoint"):
        dclip.edit(other, pictures, str(adapter))
    with pytest.raises(DclipError, match="adapter"):
        dclip.edit(other, pictures, str(tmp_path_factory.mktemp("empty")))


@pytest.mark.parametrize("grid", ["rho", "quadratic"])
def test_belm_reconstructs_pictures_to_rounding(model, pictures, grid):
    told = {"t0": 500, "steps": 8, "solver": "belm", "grid": grid}
    latents = dclip.invert(model, pictures, **told)
    assert latents.shape == (2, 2, 3, 16, 16)
    torch.testing.assert_close(dclip.generate(model, latents, **told), pictures, rtol=0, atol=2e-4)
    other = dclip.generate(model, dclip.invert(model, pictures, t0=500, steps=8), t0=500, steps=8)
    assert float((other - pictures).abs().max()) > 1e-2


def test_the_grid_reaches_both_ways(model, pictures):
    latents = {
        grid: dclip.invert(model, pictures, t0=500, steps=8, grid=grid)
        for grid in ("uniform", "quadratic")
    }
    assert not torch.allclose(*latents.values())
    again = [dclip.generate(model, latents["uniform"], steps=8, grid=grid) for grid in latents]
    assert not torch.allclose(*again)


@pytest.mark.parametrize(
    ("call", "words_"),
    [
        (lambda m, x: dclip.invert(m, x[0]), r"\[N,3,H,W\]"),
        (lambda m, x: dclip.invert(m, x * 100), r"\[-1, 1\]"),
        (lambda m, x: dclip.invert(m, x, t0=1000), "t0=1000"),
        (lambda m, x: dclip.invert(m, x, steps=1), "steps=1"),
        (lambda m, x: dclip.invert(m, x, t0=5, steps=9), "steps=9"),
        (
            lambda m, x: dclip.invert(m, x, solver="euler"),
            "no solver is called 'euler'; choose from ddim, ddpm, ab2",
        ),
        (lambda m, x: dclip.generate(m, x, solver="euler"), "euler"),
        (lambda m, x: dclip.generate(m, x, eta=-1), "eta=-1"),
        (lambda m, x: dclip.generate(m, x, eta=float("nan")), "eta=nan"),
        (lambda m, x: dclip.generate(m, x, t0=0), "t0=0"),
        (lambda m, x: dclip.generate(m, x, final_step="end"), "end"),
        (lambda m, x: dclip.invert(m, x, grid="even"), "even"),
        (lambda m, x: dclip.generate(m, x, eta=1.0, ids=["only one"]), "noise for 1 images"),
    ],
)
def test_wrong_input_is_refused_with_its_reason(model, pictures, call, words_):
    with pytest.raises(ValueError, match=words_):
        call(model, pictures)


# --------------------------------------------------------------------------------- pictures in and out


def test_pictures_come_in_and_go_out_unchanged(pictures, tmp_path):
    exact = (pictures * 127.5).round() / 127.5
    folder = tmp_path / "new" / "red"
    paths = dclip.save_images(exact, folder)
    assert [path.name for path in paths] == ["image_00000.png", "image_00001.png"]
    torch.testing.assert_close(dclip.load_images(folder), exact, rtol=0, atol=1 / 127.5)
    [one] = dclip.save_images(exact[:1] * 1.2, tmp_path / "one.png")  # a model's may be outside
    assert float(dclip.load_images(one).abs().max()) <= 1
    assert dclip.load_images(str(one), 8).shape == (1, 3, 8, 8)
    named = dclip.save_images(exact, tmp_path / "named", ["ann", "bob"])
    assert [path.stem for path in named] == ["ann", "bob"]


def test_the_shipped_face_is_read_and_edited_by_the_name_of_an_edit(adapter, nets, tmp_path):
    from dclip.files import write_json

    face = dclip.load_images(ROOT / "docs" / "face.png")
    assert face.shape == (1, 3, 64, 64)
    run = tmp_path / "outputs" / "finetune_red_hair" / "2026-01-01_00-00-00_aaaaaaaa"
    run.mkdir(parents=True)
    (adapter / "adapter.safetensors").rename(run / "adapter.safetensors")
    write_json(run / "status.json", {"status": "finished"})
    model = dclip.load_model(str(nets["model16"]))
    small = dclip.load_images(ROOT / "docs" / "face.png", model.image_size)
    by_name = dclip.edit(model, small, "red_hair", output=str(tmp_path / "outputs"))
    assert torch.equal(by_name, dclip.edit(model, small, run))
    with pytest.raises(DclipError, match=r"edit.adapter=beard is neither a file"):
        dclip.edit(model, small, "beard", output=str(tmp_path / "outputs"))


def test_pictures_that_cannot_be_one_tensor_are_refused(pictures, tmp_path):
    with pytest.raises(DclipError, match="nowhere does not exist"):
        dclip.load_images("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DclipError, match="holds no pictures"):
        dclip.load_images(tmp_path / "empty")
    dclip.save_images(pictures[:1], tmp_path / "mixed" / "a.png")
    dclip.save_images(pictures[:1, :, :8], tmp_path / "mixed" / "b.png")
    with pytest.raises(
        DclipError, match=r"differ in size \(8x16, 16x16\); .*size=model.image_size"
    ):
        dclip.load_images(tmp_path / "mixed")
    with pytest.raises(DclipError, match=r"one image is saved as NAME.png, 2 in a folder"):
        dclip.save_images(pictures, tmp_path / "two.png")
    with pytest.raises(DclipError, match="names has 1 different ones for 2 images"):
        dclip.save_images(pictures, tmp_path / "x", ["a", "a"])


def numpy_picture():
    return np.zeros((16, 16, 3), np.uint8)


WRONG = {
    "numpy": (numpy_picture, r"not numpy.ndarray uint8 \[16, 16, 3\]"),
    "pil": (lambda: Image.fromarray(numpy_picture()), "not PIL.Image"),
    "path": (lambda: "docs/face.png", "not str"),
    "bytes": (
        lambda: torch.zeros(1, 3, 16, 16, dtype=torch.uint8),
        "not uint8 from 0 to 0; divide bytes by 127.5",
    ),
    "one": (lambda: torch.zeros(3, 16, 16), r"must be \[N,3,H,W\], not \[3, 16, 16\]"),
    "size": (
        lambda: torch.zeros(1, 3, 20, 24),
        "the images are 20x24, but checkpoint .* takes 16x16",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("verb", ["invert", "edit"])
def test_what_is_no_picture_of_the_models_size_is_refused_in_one_line(model, adapter, kind, verb):
    make, said = WRONG[kind]
    calls = {
        "invert": lambda x: dclip.invert(model, x),
        "edit": lambda x: dclip.edit(model, x, adapter),
    }
    with pytest.raises(DclipError, match=said) as refusal:
        calls[verb](make())
    assert isinstance(refusal.value, ValueError)
    assert "dclip.load_images" in str(refusal.value) and "\n" not in str(refusal.value)


def test_latents_of_another_size_are_refused(model):
    with pytest.raises(DclipError, match=r"latents must be .* \[N,3,16,16\]"):
        dclip.generate(model, torch.zeros(1, 3, 8, 8))
    with pytest.raises(DclipError, match="result must be a float tensor"):
        dclip.measure(torch.zeros(1, 3, 16, 16), numpy_picture())


def test_measure_returns_a_flat_dictionary():
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores = dclip.measure(x, x)
    assert (scores["mae"], scores["psnr"]) == (0, 100)
    assert all(isinstance(v, (float, str)) for v in scores.values())
    assert {k for k, v in scores.items() if isinstance(v, str)} >= {
        "id_absent",
        "sc_absent",
        "kid_absent",
    }
    assert dclip.measure(x, -x)["mae"] > 0.1
    assert dclip.measure(x, x, truth=-x)["counterfactual_ratio"] == 1


def test_measure_with_an_edit_name_says_whether_the_judge_sees_it():
    from dclip.metrics.scorers import Scorers

    torch.manual_seed(0)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    scores = dclip.measure(
        x, x, scorers=Scorers(judge=Judge(LOOKS, 4).eval()), edit_name="red_hair"
    )
    assert 0 <= scores["judge_success"] <= 1


def test_measure_refuses_images_that_do_not_match():
    with pytest.raises(ValueError, match="result"):
        dclip.measure(torch.zeros(2, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    assert Metrics().pixels


# ------------------------------------------------------------------------------------------- the papers' acts


def settings(tiny, tmp_path, **more):
    kept = {key: value for key, value in tiny.items() if key not in ("experiment", "task")}
    return words({**kept, "output": tmp_path}, **more)


def test_an_edit_is_learned_from_pictures_at_hand_and_applied(tiny, nets, tmp_path):
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    more = settings(tiny, tmp_path, method__lr=0.01, edit__degree=0.7)
    folder = dclip.finetune(pixels, "person", r"person with a pirate's \hat", *more)
    model = dclip.load_model(str(nets["model64"]))
    edited, original = (dclip.edit(model, pixels, folder, gamma=gamma) for gamma in (1.0, 0.0))
    assert float((edited - original).abs().max()) > 1e-3
    header = read_edit(str(folder)).header
    assert header["edit"]["target"] == r"person with a pirate's \hat"
    assert header["degree"] == 0.7


def test_pictures_of_another_size_are_refused_before_anything_is_learned(tiny, tmp_path):
    with pytest.raises(DclipError, match=r"the images are 16x16, but checkpoint .* takes 64x64"):
        dclip.finetune(torch.zeros(2, 3, 16, 16), "a", "b", *settings(tiny, tmp_path))


@pytest.mark.parametrize("target", [None, "person with red hair"])
def test_images_are_drawn_freely_or_for_a_text(tiny, tmp_path, target):
    steps = {"sampler__t0": 500, "sampler__s_gen": 2, "metric": "none"}
    small = {k: v for k, v in tiny.items() if not k.startswith(("method.", "metric"))}
    images = dclip.sample(target, *settings(small, tmp_path, **steps), count=2)
    assert images.shape == (2, 3, 64, 64)
    assert list(tmp_path.iterdir()) == []
    again = dclip.sample(target, *settings(small, tmp_path, **steps), count=2)
    assert torch.equal(images, again)
