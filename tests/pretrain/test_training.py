"""Small networks of one's own on CIFAR-10: trained at debug size on a tiny fake folder, scored, and sampled with."""

import re
from functools import partial

import pytest
import torch

from dclip.config import Net
from dclip.data import cifar10
from dclip.data.cifar10 import CIFAR10, WORDINGS, captions, classes
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.prepare import needs
from dclip.pretrain import augment
from dclip.pretrain.classes import TrainClassCLIP
from dclip.pretrain.contrastive import Attack
from dclip.pretrain.training import Budget, Pretraining, Weighting, known_entropy
from helpers import layouts
from helpers.networks import TINY_CLIP
from helpers.runs import ROOT, configure, words

QUICK = {
    "task.size": "small", "task.steps": 2, "task.batch": 4, "task.compile": "false", "dataset.train": 12, "dataset.test": 6,
    "trainer": "cpu", "trainer.progress": "false", "trainer.threads": 1, "logger": "csv",
}  # fmt: skip
NETS = ("ddpm", "clip", "heldout")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar10")
    for name in ("airplane", "automobile"):
        layouts.files(folder / "train" / name, 6, name + "{:04d}.png", (32, 32))
        layouts.files(folder / "test" / name, 3, name + "{:04d}.png", (32, 32))
    return folder


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """The run folders of all three, by net."""
    from dclip.pipeline import run
    from dclip.pretrain import course

    patch, down = pytest.MonkeyPatch(), course.pairs_down
    patch.setattr(
        course, "pairs_down", lambda t0, steps: down(t0, min(steps, 2))
    )  # 64 samples in seconds
    output = tmp_path_factory.mktemp("trained")
    settings = {**QUICK, "dataset.root": root, "output": output}
    folders = {
        net: run(configure(f"experiment=pretrain_cifar10_{net}", *words(settings))) for net in NETS
    }
    yield folders
    patch.undo()


def weights(trained, net):
    return trained[net] / f"cifar10_{net}.safetensors"


@pytest.mark.parametrize("net", NETS)
def test_a_card_says_how_the_network_was_made_and_what_it_is_worth(net, trained, root):
    card = (trained[net] / f"cifar10_{net}.md").read_text("utf-8")
    assert f"python run.py experiment=pretrain_cifar10_{net} task.steps=2 task.batch=4" in card
    assert "task.size=small" in card
    assert "dataset.train=12" in card
    assert "seed=" in card
    assert re.search(r"- time: \d+ minutes on ", card)
    assert "12 training pictures, flipped at random, 8 looked at; scores: 6 test pictures" in card
    assert "ToonFaces" not in card
    assert str(root) not in card
    metrics = read_json(trained[net] / "metrics.json")
    names = {"ddpm": ["eps_loss", "eps_loss_t_750_999"]}.get(
        net,
        ["zero_shot_name", "zero_shot_sentence", "p_truth", "painted_color", "painted_class_l2_1"],
    )
    for name in names:
        assert f"| {name} | {metrics[name]:.4f} |" in card
    assert read_json(trained[net] / "status.json")["status"] == "finished"


@pytest.mark.parametrize("net", [Net(name) for name in NETS])
def test_large_networks_fit_16_mb_and_are_of_other_sizes_than_the_small_ones(net):
    """Nothing is built: parameters without memory."""
    from dclip.config import Size
    from dclip.models.clip import build_clip
    from dclip.models.unet import build_unet
    from dclip.pretrain.cifar10 import CONFIGS

    counts = {}
    for size, configs in CONFIGS.items():
        build = build_unet if net is Net.ddpm else build_clip
        with torch.device("meta"):
            counts[size] = sum(p.numel() for p in build(configs[net]).parameters())
    assert 4e6 < counts[Size.large] < 8.4e6
    assert counts[Size.large] != counts[Size.small]


def test_the_command_on_a_card_composes_to_the_same_training(trained, root):
    card = (trained["ddpm"] / "cifar10_ddpm.md").read_text("utf-8")
    told = re.search(r"`python run.py ([^`]+)`", card)[1].split()
    again = configure(*told, f"dataset.root={root}", "dataset.test=6")
    assert (again.task.net, again.task.steps, again.task.batch) == (Net.ddpm, 2, 4)
    assert (again.task.noisy, again.task.min_snr) == (0.05, 5)


def test_the_clean_end_weighs_min_snr_over_snr_and_the_noisy_end_more():
    snr = torch.tensor([500.0, 5.0, 1.0, 0.001])  # 0.001: 1 / SNR is taken as 100
    alpha_bars = snr / (1 + snr)
    close = partial(torch.testing.assert_close, rtol=1e-3, atol=0)
    close(Weighting(0, min_snr=5).of(alpha_bars), torch.tensor([0.01, 1.0, 1.0, 1.0]))
    close(Weighting(0.05).of(alpha_bars), torch.tensor([1.0001, 1.01, 1.05, 6.0]))
    close(Weighting(0.05, 5).of(alpha_bars), torch.tensor([0.010001, 1.01, 1.05, 6.0]))


def test_unknown_classes_weigh_nothing_and_none_known_is_no_loss():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    truth = torch.tensor([-1, 2, 0])
    of_known = torch.nn.functional.cross_entropy(logits[1:], truth[1:])
    torch.testing.assert_close(known_entropy(logits, truth), of_known)
    assert known_entropy(logits, torch.full((3,), -1)) == 0


def test_a_resumed_training_knows_how_long_it_took_before():
    before = Pretraining(torch.nn.Linear(1, 1), Budget(1, 1, 0.1))
    before.on_fit_start()
    before.spent, kept = 100.0, {}
    before.on_save_checkpoint(kept)
    after = Pretraining(torch.nn.Linear(1, 1), Budget(1, 1, 0.1))
    after.on_load_checkpoint(kept)
    after.on_fit_start()
    assert 100 <= after.seconds < 110


def test_the_noise_predictor_is_a_32x32_model_with_64_samples_beside_it(trained):
    from PIL import Image

    from dclip.models.checkpoints import load_model

    model = load_model(str(weights(trained, "ddpm")))
    assert (model.image_size, model.info.name) == (32, "cifar10_ddpm")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    eps = model.eps(x, torch.tensor([10, 900]))
    assert eps.shape == x.shape
    assert bool(torch.isfinite(eps).all())
    with Image.open(trained["ddpm"] / "samples" / "cifar10_ddpm_samples.png") as sheet:
        assert sheet.width >= 16 * 32
        assert sheet.height >= 4 * 32


def test_the_loss_on_test_pictures_is_that_of_the_weights(trained, root):
    """By hand, picture by picture, with the noise that belongs to each."""
    from dclip.data.load import load_images
    from dclip.diffusion.noise import ImageNoise
    from dclip.models.checkpoints import load_model

    images = load_images(
        configure("experiment=pretrain_cifar10_ddpm", *words({**QUICK, "dataset.root": root})),
        "test",
        32,
    )
    model, errors = load_model(str(weights(trained, "ddpm"))), []
    for i, name in enumerate(images.ids):
        a = model.schedule.alpha_bar(1000 * i // 6)
        noise = ImageNoise([name]).like(images.pixels[i : i + 1])
        x = a**0.5 * images.pixels[i : i + 1] + (1 - a) ** 0.5 * noise
        with torch.no_grad():
            errors.append(
                float((model.eps(x, torch.tensor([1000 * i // 6])) - noise).square().mean())
            )
    assert read_json(trained["ddpm"] / "metrics.json")["eps_loss"] == pytest.approx(
        sum(errors) / 6, rel=1e-4
    )


@pytest.mark.parametrize(
    "experiment",
    ["cifar10_unconditional", "cifar10_contrastive", "cifar10_spherical", "cifar10_latent"],
)
def test_the_trained_networks_sample_guide_and_score(
    experiment, trained, root, tmp_path, monkeypatch
):
    from dclip.pipeline import run

    monkeypatch.setattr("dclip.metrics.sets.FEWEST", 2)
    settings = {k: v for k, v in QUICK.items() if k.split(".")[0] in ("trainer", "logger")}
    settings |= {"checkpoint.name": weights(trained, "ddpm"), "clip.name": weights(trained, "clip")}
    settings |= {
        "clip.heldout": weights(trained, "heldout"),
        "metric.features": "heldout",
        "metric.bootstrap": 10,
    }
    settings |= {
        "task.count": 3,
        "sampler.s_gen": 3,
        "dataset.root": root,
        "dataset.test": 3,
        "metric.kid_sizes": "[2]",
    }
    if experiment == "cifar10_latent":
        settings |= {"method.steps": 1, "method.s_opt": 2}
    folder = run(configure(f"experiment={experiment}", *words(settings), f"output={tmp_path}"))
    metrics = read_json(folder / "metrics.json")
    assert 0 < metrics["p_target_heldout"] < 1
    assert metrics["kid_features"] == "held-out CLIP cifar10_heldout, 3 images against 3 true ones"
    assert isinstance(metrics["kid_2"], float)
    assert (folder / "samples" / "sheet.png").is_file()


def test_kid_by_a_held_out_clip_is_absent_with_its_reason_where_there_is_none(
    trained, root, tmp_path, monkeypatch
):
    from dclip.pipeline import run

    monkeypatch.setattr("dclip.metrics.sampled.too_few", lambda count: None)
    settings = {k: v for k, v in QUICK.items() if k.split(".")[0] in ("trainer", "logger")}
    settings |= {
        "checkpoint.name": weights(trained, "ddpm"),
        "clip.name": weights(trained, "clip"),
        "clip.heldout": "null",
    }
    settings |= {
        "task.count": 2,
        "sampler.s_gen": 2,
        "dataset.root": root,
        "dataset.test": 2,
        "metric.features": "heldout",
    }
    metrics = read_json(
        run(configure("experiment=cifar10_unconditional", *words(settings), f"output={tmp_path}"))
        / "metrics.json"
    )
    assert metrics["fid_absent"].startswith("metric.features=heldout needs clip.heldout")
    assert "fid" not in metrics


# ------------------------------------------------------------------------------------------- what is trained on


def test_captions_are_english_and_name_every_class_once():
    assert captions("{}") == list(CIFAR10)
    assert captions("a photo of a {}")[:3] == [
        "a photo of an airplane",
        "a photo of an automobile",
        "a photo of a bird",
    ]
    for wording in WORDINGS:
        texts = captions(wording)
        assert len(set(texts)) == 10
        assert not any(re.search(r"\ba [aeiou]", text) for text in texts)


def test_the_class_of_a_picture_is_its_folder():
    assert classes(["truck_0004", "airplane_airplane0000"]) == [9, 0]
    with pytest.raises(
        DclipError,
        match=r"dataset.root has pictures in a folder 'boat', which is no class; choose airplane, ",
    ):
        classes(["airplane_1", "boat_1"])


def test_both_formats_of_cifar10_give_the_same_classes(tmp_path, monkeypatch):
    """Its own batches, and a folder a class."""
    from dclip.data.load import load_images

    md5s = layouts.cifar_batches(tmp_path / "cifar-10-batches-py")
    from torchvision.datasets import CIFAR10 as Batches  # noqa: N811

    monkeypatch.setattr(
        Batches, "train_list", [[f"data_batch_{k}", md5s[f"data_batch_{k}"]] for k in range(1, 6)]
    )
    monkeypatch.setattr(Batches, "test_list", [["test_batch", md5s["test_batch"]]])
    monkeypatch.setattr(Batches, "meta", {**Batches.meta, "md5": md5s["batches.meta"]})
    monkeypatch.setattr(cifar10, "PER_CLASS", {"train": 15, "test": 3})
    cifar10._arrays.cache_clear()
    cfg = configure(
        "experiment=pretrain_cifar10_clip",
        f"dataset.root={tmp_path}",
        "dataset.train=150",
        "dataset.test=30",
    )
    images = load_images(cfg, "train", 32)
    found, pool = classes(images.ids), cfg.dataset.pools()["train"]
    assert sorted(found) == [k for k in range(10) for _ in range(15)]
    for i in range(0, 150, 17):
        own = pool.open(images.ids[i].replace("_", "/"), 32)
        assert torch.equal(
            images.pixels[i], torch.from_numpy(layouts.np.array(own)).permute(2, 0, 1) / 127.5 - 1
        )
    cifar10._arrays.cache_clear()


def test_about_half_of_the_pictures_are_flipped_and_the_others_are_left_alone():
    x = torch.rand(200, 3, 4, 4)
    y = augment.flipped(x, torch.Generator().manual_seed(0))
    turned = torch.tensor([torch.equal(a.flip(-1), b) for a, b in zip(x, y, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(x, y, strict=True)])
    assert bool((turned ^ same).all())
    assert 70 < int(turned.sum()) < 130


def test_an_adversarial_step_has_its_length_and_the_direction_of_the_gradient():
    x, slope = (
        torch.zeros(3, 3, 4, 4),
        torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0)),
    )
    length = torch.tensor([0.0, 0.5, 2.0])
    moved = augment.adversarial_step(x, length, lambda y: (y * slope).sum())
    expected = length.view(-1, 1, 1, 1) * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(moved, expected)
    assert not moved.requires_grad


def test_an_attack_of_several_steps_stays_within_its_length_and_does_more():
    """Against a curved loss, where the gradient at the picture is not the way to go."""
    random = torch.Generator().manual_seed(0)
    x, centre = torch.randn(2, 3, 4, 4, generator=random), torch.randn(3, 4, 4, generator=random)

    def loss(y):
        return (y[:, 0] * (y[:, 1] - centre[1]) * y[:, 2]).flatten(1).sum(1).square().sum()

    length = torch.tensor([1.0, 3.0])
    once, often = (augment.adversarial(x, length, loss, steps) for steps in (1, 8))
    assert bool(((often - x).flatten(1).norm(dim=1) <= length + 1e-4).all())
    assert loss(often) > loss(once) > loss(x)


def test_a_half_made_edit_never_goes_further_than_it_may():
    x, other = torch.zeros(400, 3, 2, 2), torch.ones(400, 3, 2, 2)
    way = augment.partly(x, other, torch.Generator().manual_seed(0), 0.5)[:, 0, 0, 0]
    assert 0 < float(way.max()) <= augment.PARTLY
    assert 150 < int((way == 0).sum()) < 250


def test_a_face_that_is_edited_has_another_value_of_one_attribute():
    from dclip.pretrain.training import EDITED, edited_faces, sampled_faces

    faces = sampled_faces("train", 20)
    for face, edited in zip(faces, edited_faces(faces), strict=True):
        differ = [name for name in face if face[name] != edited[name]]
        assert len(differ) == 1
        assert differ[0] in EDITED


@pytest.mark.parametrize("robust", [Attack(), pytest.param(Attack(0.5, 2), marks=pytest.mark.slow)])
def test_a_small_clip_learns_which_name_belongs_to_which_picture(robust, monkeypatch):
    """Ten classes that differ in colour: after a short training, most pictures find their name (by chance: one in ten)."""
    from dclip.models.clip import ClipModel, build_clip
    from dclip.pretrain.course import tokenizer as small_tokenizer
    from dclip.types import from_uint8

    random = torch.Generator().manual_seed(0)
    colours = torch.tensor([[r, g, b] for r in (0, 120, 240) for g in (0, 240) for b in (0, 240)])[
        :10
    ]
    labels = torch.arange(10).repeat(6)
    pool = (
        colours[labels].view(-1, 1, 1, 3) + torch.randint(0, 15, (60, 32, 32, 3), generator=random)
    ).to(torch.uint8)
    torch.manual_seed(0)
    net, tokenizer = build_clip(TINY_CLIP), small_tokenizer()
    budget = Budget(steps=100, batch=20, lr=3e-3)
    module = TrainClassCLIP(net, budget, tokenizer, pool, labels, 64, robust)
    done: list[int] = []
    monkeypatch.setattr(TrainClassCLIP, "global_step", property(lambda _: len(done)), raising=False)
    monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    while len(done) < 100:
        optimizer.zero_grad()
        module.training_step().backward()
        optimizer.step()
        done.append(1)
    clip = ClipModel(net.eval(), tokenizer)
    features = clip.image_features(from_uint8(pool.numpy()))
    for wording in ("{}", "a photo of a {}"):
        guess = (features @ clip.text_features(captions(wording)).T).argmax(1)
        assert float((guess == labels).float().mean()) > 0.6


# ------------------------------------------------------------------------------------------- refusals


def test_without_the_pictures_a_training_says_where_they_belong(tmp_path):
    settings = (f"dataset.root={tmp_path / 'nothing'}", "dataset.fetch=false")
    with pytest.raises(
        needs.MissingFilesError,
        match=r"data: Cifar10: dataset.root=.*nothing is not a folder .* put there cifar-10-",
    ):
        needs.obtain([configure("experiment=pretrain_cifar10_ddpm", *settings)])


def test_too_few_pictures_are_refused_before_anything_is_built(root):
    with pytest.raises(
        DclipError, match=r"has 12 images for train, but dataset.train=50000 are asked for"
    ):
        configure("experiment=pretrain_cifar10_ddpm", f"dataset.root={root}", "dataset.test=6")


def test_what_was_trained_is_refused_in_the_wrong_place(trained, root, tmp_path):
    from dclip.pipeline import run

    right = {"checkpoint.name": weights(trained, "ddpm"), "clip.name": weights(trained, "clip")}
    right |= {
        "dataset.root": root,
        "dataset.test": 2,
        "clip.heldout": "null",
        "logger": "csv",
        "trainer": "cpu",
    }
    for setting, net, kind in (("checkpoint.name", "clip", "ddpm"), ("clip.name", "ddpm", "clip")):
        words_ = words({**right, setting: weights(trained, net), "output": tmp_path})
        with pytest.raises(
            DclipError,
            match=rf"cifar10_{net}.safetensors holds a network of kind '{net}'; here {kind}",
        ):
            run(configure("experiment=cifar10_contrastive", *words_))


def test_the_page_on_guided_sampling_names_the_experiments():
    text = (ROOT / "docs" / "guided_sampling.md").read_text("utf-8")
    assert all(f"pretrain_cifar10_{net}" in text for net in NETS)
