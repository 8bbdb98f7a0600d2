"""Every experiment file, whole, at debug size: random weights in the published formats, pictures made on the spot."""

import pytest
import torch
from safetensors.torch import load_file

from dclip.errors import DclipError
from dclip.files import read_json
from helpers import layouts
from helpers.experiments import DRAWN, OWN, PHOTOGRAPHS, SAMPLING, TRAININGS
from helpers.images import read_image
from helpers.networks import put_on, write_tiny_model
from helpers.published_networks import AdmNet, DdimNet, random_net
from helpers.runs import ROOT, SMALL, configure, run, words

ADM = ("dog", "ffhq", "imagenet")  # whose published checkpoints are ADM's
DEBUG = {
    **SMALL,
    "dataset.train": 2,
    "dataset.validation": 0,
    "dataset.test": 2,
    "method.batch": 1,
    "degrees": "[0,1]",
}
USUAL = (  # one of each kind; test_conf.py composes and checks them all
    *("toonfaces", "toonfaces_zombie", "toonfaces_smiling", "toonfaces_sketch"),
    *("celeba_sampled", "church_golden", "cifar10_blue_car", "dog_bear"),
    *("cifar10_own_zebra", "pretrain_cifar10_clip"),
)


def usual(names):
    """Names as parameters, of which only the usual ones are run by ``make test``."""
    return [pytest.param(name, marks=() if name in USUAL else pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Tiny networks as published: ``ddim`` and ``adm``, and a fine-tuned copy of each with its t0 in the name."""
    folder = tmp_path_factory.mktemp("published")
    nets = {
        "ddim": random_net(DdimNet, ch=32, mult=(1, 1), layers=1, attention=()),
        "adm": random_net(AdmNet, ch=32, mult=(1, 2), layers=1, attention=(1,)),
    }
    files = {"ddim": folder / "base.ckpt", "adm": folder / "base.pt"}
    tuned = {"ddim": folder / "human_zombie_t601.pth", "adm": folder / "dog_bear_t500.pth"}
    for kind, net in nets.items():
        torch.save(net.state_dict(), files[kind])
        changed = {
            k: v + 0.02 * torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
            for k, v in net.state_dict().items()
        }
        torch.save(changed, tuned[kind])
    return files | {f"tuned_{kind}": path for kind, path in tuned.items()} | {"folder": folder}


@pytest.fixture(scope="session")
def at_hand(published, nets):
    """Settings that put what is at hand in the place of what an experiment would fetch."""

    def settings(name):
        file = published["adm" if name.startswith(ADM) else "ddim"]
        shape = {"checkpoint.name": file, "checkpoint.image_size": 16, "checkpoint.head_dim": 32}
        return {
            **DEBUG,
            "clip.name": nets["clip"],
            "clip.heldout": nets["heldout"],
            **shape,
            "loss.id": 0,
            "metric": "none",
        }

    return settings


@pytest.mark.parametrize("name", usual(DRAWN))
def test_every_toonfaces_experiment_runs_to_the_report(name, tiny, tmp_path):
    keep = {
        k: v
        for k, v in tiny.items()
        if k not in SMALL and k.split(".")[0] not in ("experiment", "sampler", "method")
    }
    folder = run(*words({"experiment": name, **DEBUG, **keep}, metric="none", output=tmp_path))
    assert read_json(folder / "status.json")["status"] == "finished"
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", usual(PHOTOGRAPHS))
def test_every_experiment_on_photographs_runs_to_the_report(name, at_hand, configure_on, tmp_path):
    from dclip.pipeline import run as run_pipeline

    steps = {"dataset.steps": 4} if "sampled" in name else {}
    cfg = configure_on(*words({"experiment": name, **at_hand(name), **steps}, output=tmp_path))
    folder = run_pipeline(cfg)
    assert read_json(folder / "status.json")["status"] == "finished"
    assert (folder / "report.html").is_file()
    assert load_file(str(folder / "adapter.safetensors"))


@pytest.mark.parametrize("name", usual(OWN))
def test_an_edit_of_cifar10_runs_with_networks_of_ones_own(name, nets, tmp_path):
    from dclip.pipeline import run as run_pipeline

    model = write_tiny_model(tmp_path / "ddpm.safetensors", 32)
    named = {"checkpoint.name": model, "clip.name": nets["clip"], "clip.heldout": nets["heldout"]}
    debug = {**DEBUG, "metric": "none", "sampler.s_gen": 2, "method.s_train": 2}
    category = configure(*words({"experiment": name, **named})).dataset.category
    layouts.files(tmp_path / "train" / category, 2, "{:04d}.png", (32, 32))
    layouts.files(tmp_path / "test" / category, 2, "{:04d}.png", (32, 32))
    cfg = configure(
        *words({"experiment": name, **debug, **named, "dataset.root": tmp_path}, output=tmp_path)
    )
    folder = run_pipeline(cfg)
    assert read_json(folder / "status.json")["status"] == "finished"
    assert load_file(str(folder / "adapter.safetensors"))
    assert cfg.edit.name == name.removeprefix("cifar10_own_")
    assert cfg.edit.source == category


@pytest.mark.parametrize("name", SAMPLING)
def test_every_sampling_experiment_runs_to_the_report(name, tiny, at_hand, configure_on, tmp_path):
    from dclip.pipeline import run as run_pipeline

    settings = (
        at_hand(name)
        if name.startswith("cifar10")
        else {k: v for k, v in tiny.items() if k not in SMALL}
    )
    settings = {
        k: v for k, v in settings.items() if not k.startswith(("method", "experiment", "metric"))
    }
    settings |= {k: v for k, v in SMALL.items() if k.startswith(("trainer", "logger"))}
    if "/method: latent_opt" in (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text("utf-8"):
        settings |= {"method.steps": 1, "method.s_opt": 2}
    few = {
        "task.count": 2,
        "sampler.s_gen": 3,
        "dataset.test": 2,
        "metric.kid": "false",
        "metric.bootstrap": 0,
    }
    if name.startswith("toonfaces"):
        few["task.leak"] = 4  # of 256 faces
    folder = run_pipeline(
        configure_on(*words({"experiment": name, **settings, **few}, output=tmp_path))
    )
    assert read_json(folder / "status.json")["status"] == "finished"
    assert read_json(folder / "metrics.json")["count"] == 2
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", usual(name for name in TRAININGS if "cifar10" in name))
def test_every_training_on_cifar10_runs_to_the_report(name, tmp_path, monkeypatch):
    from dclip.pretrain import course

    down = course.pairs_down
    monkeypatch.setattr(
        course, "pairs_down", lambda t0, steps: down(t0, min(steps, 2))
    )  # 64 samples in seconds
    for split in ("train", "test"):
        for category in ("cat", "ship"):
            layouts.files(tmp_path / "data" / split / category, 2, category + "{}.png", (32, 32))
    small = {
        "task.steps": 2,
        "task.batch": 2,
        "task.compile": "false",
        "dataset.train": 4,
        "dataset.test": 4,
        "trainer.threads": 1,
    }
    settings = {
        **small,
        "dataset.root": tmp_path / "data",
        "trainer": "cpu",
        "trainer.progress": "false",
        "logger": "csv",
    }
    folder = run(*words({"experiment": name, **settings}, output=tmp_path / "out"))
    assert read_json(folder / "status.json")["status"] == "finished"
    assert (folder / f"{name.removeprefix('pretrain_')}.safetensors").is_file()
    assert (folder / "report.html").is_file()


# ------------------------------------------------------------------------------------------- edits that others published


@pytest.fixture
def applied(published, nets, tmp_path):
    """``task=edit`` with a published fine-tuned file and a picture, as one types it."""
    layouts.picture("photo", (30, 20)).save(tmp_path / "photo.jpg")

    def settings(kind, **more):
        plain = {
            "task": "edit",
            "checkpoint.name": published[kind],
            "checkpoint.image_size": 16,
            "checkpoint.head_dim": 32,
            "edit.adapter": published[f"tuned_{kind}"],
            "input": tmp_path / "photo.jpg",
            "output": tmp_path / "out",
            **{k: v for k, v in SMALL.items() if k.split(".")[0] in ("trainer", "logger")},
        }
        return words(plain, **more)

    return settings


@pytest.mark.parametrize("kind", ["ddim", "adm"])
def test_a_fine_tuned_file_that_somebody_published_is_applied_with_the_t0_of_its_name(
    kind, applied, published, tmp_path
):
    import dclip

    cfg = configure(*applied(kind))
    expected = {
        "ddim": ("human_zombie", "Human", "Zombie", 601),
        "adm": ("dog_bear", "Dog", "Bear", 500),
    }[kind]
    assert (cfg.edit.name, cfg.edit.source, cfg.edit.target, cfg.sampler.t0) == expected
    assert (cfg.sampler.s_for, cfg.sampler.s_gen, cfg.metric.clip) == (40, 40, False)
    folder = run(*applied(kind, sampler__s_for=5, sampler__s_gen=4))
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == 1
    assert "judge_success" not in metrics
    assert "s_dir" not in metrics
    result = read_image(folder / "samples" / "image_photo.png", 16)
    models = [dclip.load_model(str(published[name]), 32, 16) for name in (kind, f"tuned_{kind}")]
    latents = dclip.invert(
        models[0], read_image(tmp_path / "photo.jpg", 16)[None], t0=expected[3], steps=5
    )
    again = [
        dclip.generate(model, latents, t0=expected[3], steps=4)[0].clamp(-1, 1) for model in models
    ]
    assert float((again[1] - result).abs().mean()) < 0.01
    assert float((again[0] - result).abs().mean()) > 0.05


def test_a_published_file_has_the_papers_words_also_where_toonfaces_have_others(
    applied, published, tmp_path
):
    file = tmp_path / "zombie_t601.pth"
    file.write_bytes(published["tuned_ddim"].read_bytes())
    cfg = configure(*applied("ddim", edit__adapter=file))
    assert (cfg.edit.source, cfg.edit.target) == ("Human", "Zombie")


def test_a_photograph_is_aligned_before_it_is_edited(applied, tmp_path):
    from dclip.data.load import load_input

    (tmp_path / "points.csv").write_text("photo,12,8,18,8,13,14,17,14\n")
    cfg = configure(
        *applied("ddim", dataset__align="true", dataset__landmarks=tmp_path / "points.csv")
    )
    aligned, plain = (load_input(c, 16).pixels for c in (cfg, configure(*applied("ddim"))))
    assert aligned.shape == plain.shape
    assert not torch.equal(aligned, plain)


def test_the_api_applies_published_files_too(published):
    import dclip

    model = dclip.load_model(str(published["ddim"]), image_size=16)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    edited = dclip.edit(model, images, str(published["tuned_ddim"]))
    assert edited.shape == images.shape
    assert not torch.allclose(
        edited, dclip.edit(model, images, str(published["tuned_ddim"]), gamma=0)
    )


@pytest.mark.parametrize(
    ("name", "edit", "scored"),
    [
        ("human_with_makeup_t301", ("makeup", "person with makeup", 301), True),
        ("human_without_makeup_t301", ("no_makeup", "person without makeup", 301), True),
        ("human_gogh_t601", ("gogh", "painting by Gogh", 601), True),
        ("human_male_t401", ("male", "man", 401), True),
        ("imagenet_watercolor_t601", ("imagenet_watercolor", "a watercolor art", 601), True),
        ("imagenet_pointillism_t601", ("pointillism", "painting in pointillism style", 601), True),
        ("church_golden_t401", ("church_golden", "Golden Church", 401), True),
        ("human_pirate_t450", ("human_pirate", "human pirate", 450), False),
    ],
)
def test_the_name_of_a_published_file_tells_t0_and_texts(name, edit, scored, published, tmp_path):
    path = tmp_path / f"{name}.pth"
    path.write_bytes(published["tuned_ddim"].read_bytes())
    cfg = configure("task=edit", f"edit.adapter={path}", "clip.name=openai_vit_b_16")
    assert (cfg.edit.name, cfg.edit.target, cfg.sampler.t0) == edit
    assert cfg.metric.clip == scored
    told = configure(
        "task=edit",
        f"edit.adapter={path}",
        "clip.name=openai_vit_b_16",
        "edit=old",
        "sampler.t0=222",
        "sampler.s_gen=9",
    )
    assert (told.edit.name, told.sampler.t0, told.sampler.s_gen, told.metric.clip) == (
        "old",
        222,
        9,
        True,
    )


def test_a_published_file_without_t0_in_its_name_needs_it_said(published, tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(published["tuned_ddim"].read_bytes())
    with pytest.raises(DclipError, match=r"mine.pth .* give sampler.t0="):
        configure("task=edit", f"edit.adapter={path}")
    assert configure("task=edit", f"edit.adapter={path}", "sampler.t0=345").sampler.t0 == 345


def test_a_published_file_of_another_base_is_refused_before_images_are_inverted(
    applied, published, monkeypatch
):

    monkeypatch.setattr("dclip.encode.invert._invert", lambda *_: pytest.fail("inverted"))
    with pytest.raises(DclipError, match="is of another architecture than checkpoint"):
        run(*applied("ddim", edit__adapter=published["tuned_adm"]))
    torch.save({"state_dict": {"x": torch.zeros(3)}}, published["folder"] / "odd_t300.pth")
    with pytest.raises(DclipError, match=r"edit.adapter=.*odd_t300.pth.*no known diffusion format"):
        run(*applied("ddim", edit__adapter=published["folder"] / "odd_t300.pth"))


def test_the_base_tells_how_wide_the_heads_of_a_fine_tuned_file_are(published):
    from dclip.edits.saved import read_edit
    from dclip.models.checkpoints import load_model

    model = load_model(str(published["adm"]), 32, 16)
    tuned = put_on(read_edit(str(published["tuned_adm"])), model)
    expected = load_model(str(published["tuned_adm"]), 32, 16)
    assert all(
        torch.equal(a, b)
        for a, b in zip(tuned.unet.parameters(), expected.unet.parameters(), strict=True)
    )
