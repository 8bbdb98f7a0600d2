import ast
import subprocess
import sys

import pytest
from conftest import ELSEWHERE, ROOT, command, configure
from omegaconf import OmegaConf

from dclip.cli import command as cli
from dclip.config import OPTIONS, Config, Net, TaskName, ToonFaces, option_name, plain
from dclip.errors import DclipError
from dclip.methods.diffusionclip.options import DiffusionClip
from dclip.prepare import needs

EXPERIMENTS = sorted(p.stem for p in (ROOT / "conf" / "experiment").glob("*.yaml"))
SAMPLING = [
    e
    for e in EXPERIMENTS
    if "/task: sample" in (ROOT / "conf" / "experiment" / f"{e}.yaml").read_text("utf-8")
]
EDITS = sorted(p.stem for p in (ROOT / "conf" / "edit").glob("*.yaml"))


def refusal(*overrides):
    with pytest.raises(DclipError) as caught:
        needs.obtain([configure(*overrides)])
    message = str(caught.value)
    assert "\n" not in message or isinstance(
        caught.value, needs.MissingFilesError
    )  # a list, one line a file
    assert len(message) > 10
    return message


def test_there_are_experiments_and_edits():
    assert "toonfaces_red_hair" in EXPERIMENTS
    assert len(EXPERIMENTS) >= 20
    assert len(EDITS) >= 15


@pytest.mark.parametrize("name", [n for n in EXPERIMENTS if not n.startswith(ELSEWHERE)])
def test_every_experiment_composes_and_is_possible(name, configure_on):
    cfg = configure_on(f"experiment={name}")
    assert isinstance(cfg, Config)
    if name.startswith("pretrain_"):
        _, pictures, net = name.split("_")
        assert cfg.task.name is TaskName.pretrain
        assert cfg.task.net is Net(net)
        assert option_name("dataset", cfg.dataset) == pictures
    elif cfg.task.name is TaskName.sample:
        assert cfg.name == name
        assert cfg.guidance.targets
    else:
        assert cfg.task.name is TaskName.finetune
        assert isinstance(cfg.dataset, ToonFaces) == name.startswith("toonfaces")
        assert cfg.clip.name == (
            "toonfaces" if isinstance(cfg.dataset, ToonFaces) else "openai_vit_b_16"
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_file_begins_with_its_own_command(name):
    lines = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text("utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert any(f"python run.py experiment={name}" in line for line in comments[:2])


WITH_EDITS = [
    n
    for n in EXPERIMENTS
    if "_" in n and not n.startswith(("pretrain_", *ELSEWHERE)) and n not in SAMPLING
]


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
    faithful, fixed, default = (
        configure_on("experiment=celeba", *more)
        for more in (["preset=faithful"], ["preset=fixed"], [])
    )
    assert (faithful.loss.templates, faithful.loss.form.value, faithful.loss.clip) == (
        "imagenet79",
        "neg_log",
        3,
    )
    assert (faithful.method.batch, faithful.method.lr_schedule.value) == (1, "code")
    assert (faithful.clip.antialias, faithful.sampler.final_step.value) == (False, "to_clean")
    assert plain(fixed) == plain(default)
    assert (faithful.sampler.solver.value, fixed.sampler.solver.value) == ("ddim", "ab2")
    assert (
        configure_on("experiment=celeba", "preset=faithful", "sampler=heun").sampler.solver.value
        == "heun"
    )
    assert (fixed.clip.antialias, fixed.loss.templates, fixed.method.lr_schedule.value) == (
        True,
        "none",
        "constant",
    )


def test_a_preset_works_on_the_cartoons(configure_on):
    assert (
        configure_on("experiment=toonfaces_red_hair", "preset=faithful").loss.templates
        == "imagenet79"
    )
    fixed = configure_on("experiment=toonfaces_red_hair", "preset=fixed")
    assert (fixed.method.lr, fixed.sampler.solver.value) == (1.2e-4, "fixed_point")


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
    assert cfg.task.name is TaskName.finetune
    assert cfg.edit.name == "red_hair"
    assert isinstance(cfg.dataset, ToonFaces)
    assert isinstance(cfg.method, DiffusionClip)
    assert (cfg.sampler.t0, cfg.sampler.s_for, cfg.sampler.s_gen) == (500, 40, 6)


@pytest.mark.parametrize("group", sorted(OPTIONS))
def test_every_registered_option_is_found_by_its_name(group, photographs):
    needs = {"pretrain": ["task.net=ddpm"], "belm": ["task=reconstruct"]}
    needs |= {
        name: ["task=sample"] for name in (*OPTIONS["guidance"], "latent_opt") if name != "none"
    }
    for name, cls in OPTIONS[group].items():
        if cls.__name__ in photographs:
            counts = [
                "dataset.train=2",
                "dataset.validation=1",
                "dataset.test=2",
                "clip.name=openai_vit_b_16",
            ]
            category = ["dataset.category=automobile"] if name == "cifar10" else []
            needs[name] = [f"dataset.root={photographs[cls.__name__]}", *counts, *category]
        if (group, name) in (
            ("task", "edit"),
            ("method", "none"),
        ):  # these need more, and are refused without it
            assert "needs" in refusal(f"{group}={name}")
            continue
        assert type(getattr(configure(f"{group}={name}", *needs.get(name, ())), group)) is cls


def test_values_from_the_command_line_arrive():
    cfg = configure(
        "sampler.t0=300",
        "loss.clip=1.5",
        "gamma=0.5",
        "edit.target=person with green eyes",
        "trainer.devices=1",
    )
    assert (cfg.sampler.t0, cfg.loss.clip, cfg.gamma, cfg.edit.target) == (
        300,
        1.5,
        0.5,
        "person with green eyes",
    )


def test_a_configuration_survives_the_way_to_yaml_and_back():
    settings = plain(configure("experiment=toonfaces_zombie"))
    assert (
        OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(settings))))
        == settings
    )
    assert settings["sampler"]["final_step"] == "to_clean"


REFUSALS = [
    (["sampler.t0=1000"], "sampler.t0=1000"),
    (["sampler.t0=0"], "sampler.t0=0"),
    (["sampler.t0=-3"], "sampler.t0=-3"),
    (["sampler.s_gen=1"], "sampler.s_gen=1"),
    (["sampler.s_for=502"], "sampler.s_for=502 is impossible with sampler.t0=500; choose 2 to 501"),
    (["sampler.s_gen=502"], "sampler.s_gen=502"),
    (["sampler.eta=-1"], "sampler.eta=-1"),
    (["sampler.eta=nan"], "sampler.eta=nan"),
    (["sampler.final_step=there"], "sampler.final_step"),
    (["sampler=belm"], "sampler=belm is for task=reconstruct or edit, not task=finetune"),
    (["sampler.t0=abc"], "sampler.t0"),
    (["method.epochs=0"], "method.epochs=0"),
    (["method.batch=0"], "method.batch=0"),
    (["method.lr=0"], "method.lr=0"),
    (["method.lr=inf"], "method.lr=inf"),
    (["method.save_every=0"], "method.save_every=0"),
    (["method.s_train=1"], "method.s_train=1"),
    (["method.s_train=502"], "method.s_train=502"),
    (["method.lr_schedule=cosinus"], "lr_schedule"),
    (["method=none"], "method=diffusionclip"),
    (["edit.adapter=/tmp"], "edit.adapter"),
    (["task=edit"], "edit.adapter"),
    (["task=edit", "edit.adapter=/nowhere/at/all"], "/nowhere/at/all"),
    (["task=sample", "input=/tmp"], "task=edit"),
    (["dataset.train=0"], "dataset.train=0"),
    (["dataset.test=0"], "dataset.test=0"),
    (["dataset.validation=-1"], "dataset.validation=-1"),
    (["dataset=folder"], "dataset.root"),
    (["dataset=folder", "dataset.root=/nowhere/at/all"], "dataset.root=/nowhere/at/all"),
    (["dataset=folder", "dataset.root="], "dataset.root"),
    (["dataset=celeba_hq", "dataset.root=/nowhere"], "LMDB_train/ and LMDB_test/"),
    (["dataset=afhq", "dataset.category=horse"], "choose dog, cat or wild"),
    (["dataset=imagenet", "dataset.category=tennis bal"], "did you mean tennis ball"),
    (["dataset=imagenet", "dataset.category=1000"], "dataset.category=1000"),
    (["dataset=imagenet", "dataset.category=crane"], "choose n02012849 or n03126707"),
    (["dataset=cifar10", "dataset.category=car"], "automobile"),
    (["dataset=sampled", "dataset.steps=1"], "dataset.steps=1"),
    (["dataset=sampled", "dataset.align=true"], "has nothing to align"),
    (["dataset.align=true"], "has nothing to align"),
    (["edit.target="], "edit.target"),
    (["edit.target='  '"], "edit.target"),
    (["edit.target=7"], "edit.target=7"),
    (["edit.target=true"], "edit.target"),
    (["edit.target=person", "edit.source=person"], "same text"),
    (["loss.clip=-1"], "loss.clip=-1"),
    (["loss.l1=nan"], "loss.l1=nan"),
    (["loss.clip=0", "loss.l1=0", "loss.id=0"], "all weights of loss are 0"),
    (["loss.templates=imagenet80"], "loss.templates=imagenet80"),
    (["loss.form=sine"], "loss.form"),
    (["metric.kid_subset=0"], "metric.kid_subset=0"),
    (["metric.kid_subsets=0"], "metric.kid_subsets=0"),
    (["trainer.devices=0"], "trainer.devices=0"),
    (["trainer.batch=0"], "trainer.batch=0"),
    (["trainer.threads=-1"], "trainer.threads=-1"),
    (["trainer.accelerator=tpu"], "choose auto, cpu, gpu, cuda or mps"),
    (["trainer.precision=16"], "trainer.precision"),
    (["logger.wandb=perhaps"], "logger.wandb"),
    (["gamma=3.5"], "gamma=3.5"),
    (["gamma=-0.1"], "gamma=-0.1"),
    (["gamma=nan"], "gamma=nan"),
    (["seed=-1"], "seed=-1"),
    (["seed=one"], "seed"),
    (["task=pretrain"], "task.net"),
    (["task=pretrain", "task.net=gan"], "task.net"),
    (["task=pretrain", "task.net=ddpm", "task.steps=0"], "task.steps=0"),
    (["task=pretrain", "task.net=ddpm", "task.noisy=-1"], "task.noisy=-1"),
    (
        ["task=pretrain", "task.net=ddpm", "dataset=folder", "dataset.root=."],
        "dataset=toonfaces or dataset=cifar10, not on dataset=f",
    ),
    (
        ["experiment=pretrain_cifar10_ddpm", "task.net=judge"],
        "task.net=judge learns the attributes of ToonFaces; with dataset=cifar10",
    ),
    (
        ["experiment=pretrain_cifar10_clip", "dataset.category=cat"],
        "dataset.category=cat leaves CLIP a single caption",
    ),
    (
        ["experiment=pretrain_cifar10_clip", "task.publish=true"],
        "task.publish=true is for the package's own networks",
    ),
    (["metric.features=lpips"], "metric.features"),
    (["task=pretrain", "task.net=ddpm", "task.lr=-1"], "task.lr=-1"),
    (["task=sample", "task.count=0"], "task.count=0"),
    (["checkpoint.name="], "checkpoint.name"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSALS, ids=[" ".join(o) for o, _ in REFUSALS])
def test_what_cannot_work_is_refused_in_one_line_that_names_the_setting(overrides, words):
    assert words in refusal(*overrides)


@pytest.mark.parametrize(
    "word",
    [
        "edit=null",
        "task=null",
        "dataset=null",
        "method=null",
        "sampler=null",
        "loss=null",
        "trainer=null",
        "sampler.t0=null",
    ],
)
def test_nothing_is_not_a_choice(word):
    assert word.split("=")[0].split(".")[-1] in refusal(word)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sampler=dim", ["sampler=dim does not exist", "did you mean ddim?", "ddpm"]),
        ("edit=redhair", ["did you mean red_hair?", "zombie"]),
        ("experiment=toonfaces_red_hiar", ["did you mean toonfaces_red_hair?", "toonfaces_zombie"]),
        ("task=finetun", ["did you mean finetune?", "reconstruct"]),
        ("metric=nothing", ["default", "none"]),
        ("dataset=celeba", ["folder", "toonfaces"]),
        ("sampler.s_gn=5", ["did you mean sampler.s_gen?", "s_for", "t0", "eta"]),
        ("sampler.to=500", ["there is no setting sampler.to", "Below sampler", "t0"]),
        ("sampler.t0.x=500", ["sampler.t0"]),
        ("task.count=5", ["Below task", "name"]),
        ("gama=0.5", ["did you mean gamma?", "seed"]),
        ("guidence=none", ["did you mean guidance?"]),
        ("dataset.only_aplicable=true", ["did you mean dataset.only_applicable?"]),
    ],
)
def test_a_typo_is_answered_with_the_choices(word, expected):
    message = refusal(word)
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    "word", ["+x=1", "++sampler.t0=400", "+sampler.more=1", "~edit", "~sampler.eta"]
)
def test_adding_and_deleting_settings_is_refused(word):
    assert word in refusal(word)
    assert "not supported" in refusal(word)


@pytest.mark.parametrize("word", ["sampler.t0", "=5", "sampler.t0=[", "sampler.t0=300,400"])
def test_a_word_that_is_no_setting_is_refused_in_one_line(word):
    refusal(word)


def test_a_sweep_is_checked_job_by_job_before_any_starts():
    cli.precheck(["-m", "edit=red_hair,zombie", "sampler.t0=300,400"])
    with pytest.raises(DclipError, match=r"sampler.t0=1000"):
        cli.precheck(["-m", "edit=red_hair,zombie", "sampler.t0=300,1000"])
    with pytest.raises(DclipError, match="zombi does not exist"):
        cli.precheck(["--multirun", "edit=red_hair,zombi"])


def test_help_is_left_to_hydra():
    cli.precheck(["--help", "sampler.t0=1000"])
    cli.precheck(["--cfg", "job", "sampler.t0=1000"])


def test_the_command_line_answers_without_torch():
    program = "import sys, dclip, dclip.cli; print(sorted(set(sys.modules) & {'torch', 'lightning', 'diffusers', 'open_clip'}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ast.literal_eval(done.stdout) == []


def test_a_typo_on_the_command_line_is_one_line_and_exit_code_two(tmp_path):
    done = command("sampler=dim", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: sampler=dim does not exist; did you mean ddim?")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_shows_the_choices_and_writes_nothing(tmp_path):
    done = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    for part in ("experiment:", "toonfaces_red_hair", "sampler: ab2, belm, ddim, ddpm", "usage:"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_can_be_shown_without_running(tmp_path):
    done = command("--cfg", "job", "experiment=toonfaces_zombie", cwd=tmp_path)
    assert done.returncode == 0
    assert OmegaConf.create(done.stdout).edit.name == "zombie"
    assert list(tmp_path.iterdir()) == []
