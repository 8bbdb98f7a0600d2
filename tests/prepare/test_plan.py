import json
from dataclasses import replace

import pytest
import torch

from dclip.config import EditTask
from dclip.data.images import save_png
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.models import sizes
from dclip.models.registry import TABLE
from dclip.prepare import plan
from dclip.prepare.pictures import pictures_note
from helpers.known_weights import FEW, in_a_process, published
from helpers.runs import ROOT, configure

# ---------------------------------------------------------------------------------------------------- the plan


def test_a_plan_counts_what_a_run_would_do(nowhere, photos, monkeypatch):
    monkeypatch.setattr(plan, "gpu", lambda: None)
    settings = [
        "sampler.s_for=40",
        "sampler.s_gen=6",
        "method.epochs=2",
        "method.s_train=6",
        "method.batch=1",
        "dataset.train=5",
    ]
    cfg = configure(
        *published(photos, *settings, "dataset.validation=0", "dataset.test=5", "trainer.threads=2")
    )
    found = plan.plan(cfg)
    assert found["unet_calls"] == {
        "invert": 10 * 39,
        "edit": 5 * 6 + 5 * 6 * (1 + 2 + 1 + 2 + 2),  # both networks at all degrees but 0 and 1
        "fine-tune": 2 * 6 * 3 * 5,
    }
    assert found["seconds"]["invert"] == pytest.approx(10 * 39 * 497.0 / (2 * 74), rel=0.01)
    cfg.metric.axioms = 3
    up, down = 10, 10 + 1 + 2  # two networks on the way back
    assert plan.plan(cfg)["unet_calls"]["axioms"] == 3 * (up * 39 + down * 6)
    cfg.edit.degree, cfg.dataset.validation = "auto", 20
    assert plan.plan(cfg)["unet_calls"]["calibrate"] == 8 * 6 * (1 + 1 + 2 * 3)
    cfg.edit.degree, cfg.dataset.validation = None, 0
    weights = 113_673_219 * 4 / 1e6
    others = sum(
        TABLE[n].megabytes
        for n in (
            "openai_vit_b_16",
            "laion_vit_b_32",
            "arcface",
            "bisenet",
            "lpips_alexnet",
            "inception",
        )
    )
    assert found["memory_mb"]["counted"] == pytest.approx(
        5 * weights + 6 * 2107.5 + others + 900, rel=0.01
    )
    split = ("dataset.validation=0", "dataset.test=5")
    small = configure(*published(photos, *settings, *split, "preset=[chain_checkpointed,lora]"))
    assert plan.plan(small)["memory_mb"]["counted"] == pytest.approx(
        2 * weights + 2107.5 + others + 900, rel=0.01
    )
    assert plan.plan(small)["memory_mb"]["counted"] < 8000
    assert [f["name"] for f in found["fetch"]] == [
        "celeba_hq",
        "openai_vit_b_16",
        "laion_vit_b_32",
        "arcface",
        "bisenet",
    ]
    assert found["may_not_fetch"] == "HF_HUB_OFFLINE=1"
    assert found["network"] == []


def test_a_plan_names_its_device_and_its_basis(photos, monkeypatch):
    monkeypatch.setattr(plan, "gpu", lambda: ("Some GPU", 8.0))
    found = plan.plan(configure(*published(photos, "method.batch=1")))
    assert found["device"] == {"name": "Some GPU", "memory_gb": 8.0}
    assert found["seconds"]["fine-tune"] == pytest.approx(
        found["unet_calls"]["fine-tune"] * 497.0 / 11_800, rel=0.01
    )
    page = plan.text(found)
    assert "Quadro RTX 6000" in page
    assert "of 8 GB; that is too little" in page
    monkeypatch.setattr(plan, "gpu", lambda: None)
    assert "CPU" in plan.plan(configure())["device"]["name"]
    assert "no NVIDIA GPU" in plan.plan(configure("trainer=gpu"))["device"]["name"]


def test_the_cartoons_plan_fetches_nothing_and_an_unknown_model_has_no_estimate(
    nets, photos, monkeypatch
):
    page = plan.text(plan.plan(configure()))
    assert "fetch     nothing" in page
    assert "network   no calls" in page
    own = plan.plan(
        configure(
            "dataset=folder", f"dataset.root={photos}", f"checkpoint.name={nets['model16']}", *FEW
        )
    )
    assert own["seconds"] == {}
    assert own["memory_mb"] is None
    assert "none of the known ones" in plan.text(own)
    for task in (["task=sample"], ["task=pretrain", "task.net=ddpm"], ["task=reconstruct"]):
        assert sum(plan.plan(configure(*task))["seconds"].values()) > 0


@pytest.mark.parametrize("how", ["plan=true", "task=plan"])
def test_a_plan_is_printed_and_kept_without_torch_and_nothing_runs(
    nowhere, photos, tmp_path, monkeypatch, how
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done, code, heavy = in_a_process(how, *published(photos))
    assert (code, heavy) == (0, [])
    for part in (
        "plan of task=finetune",
        "celeba_hq: 455 MB",
        "to fetch",
        "time",
        "memory",
        "kept in",
    ):
        assert part in done.stdout
    kept = list((tmp_path / "outputs" / "plans").iterdir())
    assert len(kept) == 1
    assert json.loads(kept[0].read_text())["fetch_mb"] == pytest.approx(1886.7, abs=1)
    assert sorted(p.name for p in (tmp_path / "outputs").iterdir()) == ["plans"]


def test_a_plan_counts_time_travel_without_torch(nowhere, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = ["task=sample", "guidance=contrastive", "guidance.targets=a zombie"]
    done, code, heavy = in_a_process("plan=true", *settings, "guidance.time_travel=2")
    assert (code, heavy) == (0, [])
    assert "plan of task=sample" in done.stdout


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ([], {"sample": 600}),
        (["guidance=contrastive"], {"without guidance": 600, "sample": 600}),
        (["guidance=contrastive", "task.paired=false"], {"sample": 600}),
        (
            ["guidance=directional", "task.paired=false"],
            {"without guidance": 600, "sample": 600},
        ),
        (
            ["guidance=contrastive", "task.paired=false", "guidance.sees=x0_through_unet",
             "guidance.t_start=999", "guidance.t_end=0"],
            {"sample": 1800},
        ),
        (
            ["guidance=contrastive", "task.paired=false", "guidance.sees=x0_through_unet",
             "guidance.t_start=999", "guidance.t_end=0", "guidance.every=2"],
            {"sample": 1200},
        ),
    ],
)  # fmt: skip
def test_a_plan_counts_what_guidance_costs(settings, parts):
    common = ["task=sample", "task.count=12", "sampler=ddpm", "sampler.s_gen=50", "sampler.t0=999"]
    cfg = configure(*common, "guidance.targets=a zombie", *settings)
    assert plan.calls(cfg) == parts


@pytest.mark.parametrize(
    "words", ["input={}", "task=reconstruct dataset=folder dataset.root={} dataset.test=1"]
)
def test_a_plan_says_that_a_model_of_cartoons_knows_no_photographs(words, tmp_path):
    save_png(torch.zeros(3, 80, 60), tmp_path / "a.png")
    settings = [*words.format(tmp_path).split(), "edit.source=person", "edit.target=tanned person"]
    cfg = configure(*settings)
    assert "checkpoint=toonfaces knows cartoon faces of 64x64 only" in pictures_note(cfg)
    save_png(torch.zeros(3, 64, 64), tmp_path / "a.png")
    assert pictures_note(cfg) == pictures_note(configure()) == ""


def test_a_pretrainings_memory_grows_with_its_batch():
    def counted(batch):
        cfg = configure("experiment=pretrain_toonfaces_ddpm", f"task.batch={batch}")
        return plan.memory_mb(cfg, sizes.size_of(cfg))

    size = sizes.size_of(configure())
    assert counted(8) - counted(4) == pytest.approx(4 * size.kept_mb)
    assert counted(4) == pytest.approx(5 * size.parameters * 4e-6 + 4 * size.kept_mb)


def test_a_plan_in_python_returns_its_file(tmp_path, capsys):
    path = plan.show(configure("task=plan", f"output={tmp_path}"))
    assert read_json(path)["task"] == "finetune"
    assert "plan of task=finetune" in capsys.readouterr().out


def test_a_plan_that_cannot_be_kept_names_output(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DclipError, match=r"output=.*/file cannot be written \(Not a directory\)"):
        plan.show(configure("task=plan", f"output={tmp_path}/file"))


def test_the_plans_constants_are_what_is_counted():
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "plan_constants", ROOT / "benchmarks" / "plan_constants.py"
    )
    constants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(constants)
    cifar = TABLE["cifar10"]
    expected = {
        "toonfaces": sizes.size_named("toonfaces"),
        "ddim CIFAR-10": sizes.Size(cifar.parameters, cifar.gflop, cifar.kept_mb),
    }
    for name, size in expected.items():
        with torch.device("meta"):
            net = constants.UNETS[name]()
        parameters, gflop, megabytes = constants.count(net)
        assert parameters == size.parameters
        assert gflop == pytest.approx(size.gflop, rel=0.03)
        assert megabytes == pytest.approx(size.kept_mb, rel=0.05)


def test_a_plan_counts_every_variant_and_learns_from_the_input(nowhere, tmp_path):
    cfg = replace(configure("dataset.test=3", "sampler=noisy_ddim"), task=EditTask(), degrees=[])
    once, more = plan.calls(cfg), plan.calls(replace(cfg, variants=4))
    assert more == {**once, "edit": 4 * once["edit"]}, "variants share their image's latent"
    foreign = ["task=translate", "dataset.test=3"]
    once, more = plan.calls(configure(*foreign)), plan.calls(configure(*foreign, "variants=2"))
    assert more["translate"] == 2 * once["translate"]

    for name in ("a", "b"):
        save_png(torch.zeros(3, 64, 64), tmp_path / f"{name}.png")
    mine = plan.image_counts(configure(f"input={tmp_path}"))
    assert (mine.train, mine.validation, mine.test) == (2, 0, 2)
