import pytest
from omegaconf import OmegaConf

from dclip.config import Config, FinetuneTask, Net, PretrainTask, SampleTask, option_name
from dclip.data.toonfaces.options import ToonFaces
from dclip.methods.diffusionclip.options import DiffusionClip
from helpers.experiments import EXPERIMENTS, FINE_TUNING, SAMPLING, TRAININGS
from helpers.runs import ROOT, configure

EDITS = sorted(p.stem for p in (ROOT / "conf" / "edit").glob("*.yaml"))


def named(cfg):
    """The sampler's name."""
    return option_name("sampler", cfg.sampler)


def test_there_are_experiments_and_edits():
    assert "toonfaces_red_hair" in EXPERIMENTS
    assert len(EXPERIMENTS) >= 20
    assert len(EDITS) >= 15


@pytest.mark.parametrize("name", [*FINE_TUNING, *SAMPLING, *TRAININGS])
def test_every_experiment_composes_and_is_possible(name, configure_on):
    cfg = configure_on(f"experiment={name}")
    assert isinstance(cfg, Config)
    if name.startswith("pretrain_"):
        _, pictures, net = name.split("_")
        assert isinstance(cfg.task, PretrainTask)
        assert cfg.task.net is Net(net)
        assert option_name("dataset", cfg.dataset) == pictures
    elif isinstance(cfg.task, SampleTask):
        assert cfg.name == name
        assert cfg.guidance.targets
    else:
        assert isinstance(cfg.task, FinetuneTask)
        assert isinstance(cfg.dataset, ToonFaces) == name.startswith("toonfaces")
        assert cfg.clip.name == (
            "toonfaces" if isinstance(cfg.dataset, ToonFaces) else "openai_vit_b_16"
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_file_begins_with_its_own_command(name):
    lines = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text("utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert any(f"python run.py experiment={name}" in line for line in comments[:2])


WITH_EDITS = [name for name in FINE_TUNING if "_" in name]


@pytest.mark.parametrize("name", WITH_EDITS)
def test_an_experiment_with_an_edits_name_has_that_edit(name, configure_on):
    edit = configure_on(f"experiment={name}").edit.name
    words = (
        name.removeprefix("toonfaces_")
        .removeprefix("celeba_")
        .removeprefix("cifar10_")
        .removeprefix("ffhq_")
    )
    assert edit == {"sampled": "tanned", "imagenet_tennis_ball": "tennis_ball_orange"}.get(
        words, words
    )


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_has_two_different_texts_and_its_own_name(name):
    edit = configure(f"edit={name}").edit
    assert edit.name == name
    assert edit.source.strip()
    assert edit.target.strip()
    assert edit.source != edit.target


# ------------------------------------------------------------------------------------------- who wins


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ("red_hair", 500, 1, 0.3, 0.3)),
        (["edit=old"], ("old", 400, 1, 0.3, 0.3)),
        (["edit=gogh"], ("gogh", 600, 1, 0, 0)),
        (["edit=sketch"], ("sketch", 500, 3, 1, 1)),  # sets none: the defaults
        (["experiment=celeba", "edit=old"], ("old", 400, 1, 0.3, 0.3)),
        (["experiment=celeba_tanned"], ("tanned", 300, 1, 0.3, 0.3)),
        (["experiment=celeba_tanned", "edit=frida"], ("frida", 600, 1, 0.3, 0)),
        (
            ["experiment=celeba", "edit=old", "sampler.t0=350", "loss.id=0.7"],
            ("old", 350, 1, 0.3, 0.7),
        ),
        (["experiment=celeba_tanned", "dataset=sampled"], ("tanned", 300, 1, 0.3, 0.3)),
        (
            ["experiment=toonfaces_tanned"],
            ("tanned", 500, 1, 5, 1),
        ),  # tuned for the cartoons, so it holds
        (["experiment=toonfaces_tanned", "sampler.t0=321"], ("tanned", 321, 1, 5, 1)),
        (["experiment=celeba", "edit=old", "preset=faithful"], ("old", 400, 3, 0.3, 0.3)),
        (
            ["experiment=celeba", "edit=old", "preset=faithful", "loss.clip=2"],
            ("old", 400, 2, 0.3, 0.3),
        ),
        (
            ["experiment=celeba", "edit.source=a man", "edit.target=a man with a hat"],
            ("", 300, 1, 0.3, 0.3),
        ),
    ],
)
def test_the_command_line_wins_over_the_preset_the_experiment_and_the_edit(
    overrides, expected, configure_on
):
    cfg = configure_on(*overrides)
    assert (cfg.edit.name, cfg.sampler.t0, cfg.loss.clip, cfg.loss.l1, cfg.loss.id) == expected


def test_the_presets_differ_as_the_published_code_differs_from_ours(configure_on):
    faithful = configure_on("experiment=celeba", "preset=faithful")
    default = configure_on("experiment=celeba")
    assert (faithful.loss.templates, faithful.loss.form.value, faithful.loss.clip) == (
        "imagenet79",
        "neg_log",
        3,
    )
    assert (faithful.method.batch, faithful.method.lr_schedule.value) == (1, "code")
    assert (faithful.clip.antialias, faithful.sampler.final_step.value) == (False, "to_clean")
    assert (named(faithful), named(default)) == ("ddim", "ab2")
    assert named(configure_on("experiment=celeba", "preset=faithful", "sampler=heun")) == "heun"
    assert (default.clip.antialias, default.loss.templates) == (True, "none")
    assert default.method.lr_schedule.value == "constant"


def test_a_preset_works_on_the_cartoons(configure_on):
    assert (
        configure_on("experiment=toonfaces_red_hair", "preset=faithful").loss.templates
        == "imagenet79"
    )


def test_every_text_pair_of_the_published_list_is_there():
    paper = {  # DiffusionCLIP's Table 5: t0, weights of L1 and of the identity loss (none outside faces)
        "tanned": (300, 0.3, 0.3), "makeup": (300, 0.3, 0.3), "no_makeup": (300, 0.3, 0.3), "old": (400, 0.3, 0.3),
        "beards": (400, 0.3, 0.3), "angry": (500, 0.3, 0.3), "red_hair": (500, 0.3, 0.3), "grey_hair": (500, 0.3, 0.3),
        "curly_hair": (400, 0.3, 0.3), "zuckerberg": (600, 0.3, 0), "gogh": (600, 0, 0), "frida": (600, 0.3, 0),
        "modigliani": (600, 0, 0), "human_sketch": (600, 0.3, 0), "watercolor": (600, 0.3, 0), "elf": (600, 0, 0),
        "super_saiyan": (600, 0, 0), "pixar": (600, 0.3, 0), "neanderthal": (600, 0, 0), "human_zombie": (600, 0, 0),
        "joker": (600, 0, 0), "dog_nicolas": (600, 0, 0), "dog_yorkshire": (600, 0, 0), "dog_smiling": (600, 0.3, 0),
        "dog_zombie": (600, 0.3, 0), "dog_venom": (600, 0.3, 0), "dog_bear": (500, 0, 0), "dog_fox": (500, 0, 0),
        "dog_wolf": (500, 0, 0), "dog_hamster": (600, 0, 0), "dog_gogh": (500, 0.3, 0), "church_snow": (500, 0.3, 0),
        "church_red_brick": (300, 0.3, 0), "church_golden": (400, 0.3, 0), "church_wooden_house": (500, 0.3, 0),
        "church_ancient_tower": (500, 0.3, 0), "church_department_store": (500, 0.3, 0), "bedroom_blue": (500, 0.3, 0),
        "bedroom_green": (500, 0.3, 0), "bedroom_golden": (400, 0.3, 0), "bedroom_princess": (500, 0.3, 0),
        "bedroom_palace": (500, 0.3, 0), "bedroom_wooden": (500, 0.3, 0),
    }  # fmt: skip
    for name, values in paper.items():
        node = OmegaConf.load(ROOT / "conf" / "edit" / f"{name}.yaml")
        assert (node.sampler.t0, node.loss.l1, node.loss.id) == values, name
        assert node.loss.clip == 1
    unlisted = "pale young surprised smiling blond_hair nicolas benedict dog_super_saiyan church_night church_gothic church_temple"
    asked_for = "church_factory church_sunset tennis_ball_orange imagenet_watercolor female male pointillism cubism"
    assert {*paper, *unlisted.split(), *asked_for.split()} <= set(EDITS)
    assert "grey" in OmegaConf.load(ROOT / "conf" / "edit" / "grey_hair.yaml").edit.target


def test_without_any_word_the_demo_is_configured():
    cfg = configure()
    assert isinstance(cfg.task, FinetuneTask)
    assert cfg.edit.name == "red_hair"
    assert isinstance(cfg.dataset, ToonFaces)
    assert isinstance(cfg.method, DiffusionClip)
    assert (cfg.sampler.t0, cfg.sampler.s_for, cfg.sampler.s_gen) == (500, 40, 6)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["edit=zombie"], ("zombie", "person", "zombie", 500, 3, 1, 1)),
        (["edit=zombie", "dataset=sampled"], ("zombie", "person", "zombie", 500, 3, 1, 1)),
        (["experiment=toonfaces_zombie"], ("zombie", "person", "zombie", 500, 1, 5, 1)),
        (["experiment=celeba", "edit=zombie"], ("zombie", "Human", "Zombie", 600, 1, 0, 0)),
        (["experiment=celeba_sampled", "edit=zombie"], ("zombie", "Human", "Zombie", 600, 1, 0, 0)),
        (["dataset=folder", "edit=zombie"], ("zombie", "Human", "Zombie", 600, 1, 0, 0)),
        (
            ["checkpoint=ffhq", "dataset=ffhq", "clip=openai_rn50", "edit=zombie"],
            ("zombie", "Human", "Zombie", 600, 1, 0, 0),
        ),
        (
            ["experiment=ffhq", "edit=beard"],
            ("beard", "person", "person with beards", 400, 1, 0.3, 0.3),
        ),
        (["experiment=celeba", "edit=sketch"], ("sketch", "photo", "sketch", 600, 1, 0.3, 0)),
    ],
)
def test_an_edit_of_photographs_never_has_the_words_of_toonfaces(overrides, expected, configure_on):
    cfg = configure_on(*overrides)
    loss = cfg.loss
    texts = (cfg.edit.name, cfg.edit.source, cfg.edit.target)
    assert (*texts, cfg.sampler.t0, loss.clip, loss.l1, loss.id) == expected


@pytest.mark.parametrize(
    "path", (ROOT / "conf/edit/photographs").glob("*.yaml"), ids=lambda p: p.stem
)
def test_an_edit_with_words_of_its_own_on_photographs_exists_on_toonfaces_too(path):
    assert path.stem in EDITS


@pytest.mark.parametrize("name", [*FINE_TUNING, *SAMPLING])
def test_every_experiment_works_without_data(name):
    assert configure(f"experiment={name}", "dataset=sampled").dataset.needs_model
