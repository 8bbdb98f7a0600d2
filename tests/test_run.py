"""Whole runs, from the command line to the report."""

import json
import math
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dclip.config import Net
from dclip.errors import DclipError
from dclip.files import read_json
from helpers.images import read_image
from helpers.processes import run_apart
from helpers.runs import SMALL, command, command_here, configure, run, words

SHORT = {"metric": "none", "degrees": "[]", "dataset.validation": 0, "dataset.test": 2}


def pixels_of(folder):
    return {p.stem: read_image(p, 64) for p in sorted((folder / "samples").glob("image_*.png"))}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """``python run.py experiment=toonfaces_red_hair`` with the shipped networks, in debug size, in a process of its own."""
    output = tmp_path_factory.mktemp("demo")
    done = command(*words({"experiment": "toonfaces_red_hair", **SMALL}, output=output), cwd=output)
    assert done.returncode == 0, done.stderr
    return output / "latest"


@pytest.fixture(scope="session")
def tuned(tiny, tmp_path_factory):
    """A fine-tuning of the tiny networks whose texts, steps and seed are not the defaults."""
    output = tmp_path_factory.mktemp("tuned")
    return run(
        *words(
            {**tiny, "experiment": "toonfaces_zombie"},
            output=output,
            sampler__t0=300,
            sampler__s_gen=3,
            method__lr=0.01,
            degrees="[0,1]",
        )
    )


def applied(tuned, tiny, output, **more):
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "checkpoint", "clip", "dataset", "metric")
    }
    keep |= {"task": "edit", "edit.adapter": tuned, "output": output, "degrees": "[0,1]"}
    return run(*words(keep, **more))


# ------------------------------------------------------------------------------------------- what a run leaves behind


def test_the_demo_leaves_everything_behind(demo):
    assert demo.is_symlink()
    for name in (
        "config.yaml",
        "metrics.json",
        "status.json",
        "rows.csv",
        "curves.jsonl",
        "run.log",
        "report.html",
    ):
        assert (demo / name).stat().st_size > 0, name
    for name in ("before_after", "degree_of_change", "epoch_01"):
        assert Image.open(demo / "samples" / f"{name}.png").size[0] > 64
    edited = {path.name for path in (demo / "samples").glob("image_*.png")}
    assert {path.name for path in (demo / "sources").iterdir()} == edited and len(edited) == 4
    assert {path.name for path in (demo / "truth").iterdir()} == edited
    assert (demo / "adapter.safetensors").is_file()
    assert (demo / "checkpoints" / "best.ckpt").is_file()
    assert not list(demo.resolve().rglob(".*"))


def test_two_runs_that_learned_an_edit_can_be_compared_by_people(demo, tmp_path):
    from dclip.pages import preference

    assert preference.main([f"a={demo}", f"b={demo.resolve()}", f"output={tmp_path}"]) == 0
    page = (tmp_path / "preference.html").read_text("utf-8")
    assert "Which of the two shows it better: " in page
    assert page.count('"source": "data:image/png') == 4


def test_the_demos_numbers_are_flat_and_finite(demo):
    metrics = read_json(demo / "metrics.json")
    assert all(isinstance(v, (int, float, str)) for v in metrics.values())
    assert all(math.isfinite(v) for v in metrics.values() if isinstance(v, float))
    expected = {
        "s_dir",
        "s_dir_heldout",
        "id",
        "sc",
        "mae",
        "psnr",
        "ssim",
        "kid_absent",  # of four images
        "judge_success",
        "judge_preservation",
        "true_success",
        "closer",
        "closer_low",
        "effectiveness",
        "amplification",
        "edit_accuracy",
        "preservation_accuracy",
        "edit_iou",
        "changed_pixels",
    }
    assert expected | {
        "counterfactual_ratio",
        "seconds_adapt",
        "seconds_invert",
        "seconds_edit",
        "images_per_s",
        "gflops",
        "mfu",
    } <= set(metrics)
    assert 0 < metrics["mfu"] < 1.5
    assert metrics["images"] == 4
    rows = (demo / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    assert rows[0].startswith("image,")


def test_the_demos_status_says_finished_and_on_what_machine(demo):
    status = read_json(demo / "status.json")
    assert status["status"] == "finished"
    assert (
        status["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
        or torch.__version__
    )
    assert status["environment"]["cpus"] == os.cpu_count()


def test_the_report_needs_no_other_file(demo):
    page = (demo / "report.html").read_text("utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:|//|file:)""", page)
    assert not re.search(r"<script[^>]*src|<link|@import|url\((?!#)", page)
    assert "default-src 'none'" in page  # and the browser would not fetch any
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) >= 3
    assert all(re.match(r"data:image/(png|gif);base64,", s) for s in sources)
    for part in ("person with red hair", "judge_success", "finished", "s_train", "error_map"):
        assert part in page
    assert "of the pictures are closer to the truth" in page[: page.index("<h2>Every picture</h2>")]
    numbers = page[page.index("<h2>Numbers</h2>") :]
    assert 0 < numbers.index("closer") < numbers.index("counterfactual_ratio")
    assert numbers.index("counterfactual_ratio") < numbers.index("judge_success")


def test_the_run_can_be_repeated_from_its_own_configuration(tuned):
    from omegaconf import OmegaConf

    settings = OmegaConf.load(tuned / "config.yaml")
    assert settings.edit.name == "zombie"
    assert settings.sampler.t0 == 300
    assert settings.dataset.train == 4


def test_a_run_writes_only_below_its_output(tiny, tmp_path):
    (tmp_path / "here").mkdir()
    settings = words({**tiny, **SHORT}, output=tmp_path / "out")
    command_here(*settings, cwd=tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []
    assert read_json(tmp_path / "out" / "latest" / "status.json")["status"] == "finished"


def test_the_same_run_twice_gives_the_same_edit(tiny, tmp_path):
    first, second = (run(*words({**tiny, **SHORT}, output=tmp_path / name)) for name in "ab")
    one, other = (load_file(str(f / "adapter.safetensors")) for f in (first, second))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert first.name.split("_")[2] == second.name.split("_")[2]


def test_two_runs_of_one_second_get_two_folders(tiny, tmp_path, monkeypatch):
    from dclip.record import record

    monkeypatch.setattr(record.time, "strftime", lambda _: "2026-01-01_00-00-00")
    settings = words(tiny, task="sample", task__count=1, output=tmp_path)
    first, second = run(*settings), run(*settings)
    assert first != second
    assert all(read_json(f / "status.json")["status"] == "finished" for f in (first, second))


# ------------------------------------------------------------------------------------------- applying an edit


def odd_images(folder):
    (folder / "sub").mkdir(parents=True)
    Image.new("RGBA", (90, 70), (200, 100, 50, 128)).save(folder / "rgba.png")
    Image.new("L", (64, 64), 77).save(folder / "grey.jpg")
    Image.new("RGB", (300, 40), (20, 200, 90)).quantize(4).save(folder / "sub" / "palette.png")
    (folder / "broken.png").write_text("no picture")
    return folder


def test_an_edit_is_applied_to_a_folder_of_odd_images(tuned, tiny, tmp_path):
    folder = applied(tuned, tiny, tmp_path / "out", input=odd_images(tmp_path / "in"))
    assert set(pixels_of(folder)) == {"image_rgba", "image_grey", "image_sub_palette"}
    assert all(Image.open(p).size == (64, 64) for p in (folder / "samples").glob("image_*.png"))
    assert "skipped 1 of 4 files" in (folder / "run.log").read_text("utf-8")
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == 3
    assert "counterfactual_ratio" not in metrics
    assert "judge_success" not in metrics


def test_the_background_of_photographs_is_scored_outside_a_mask(tuned, tiny, tmp_path):
    Image.new("RGB", (64, 64), (120, 130, 90)).save(tmp_path / "me.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 48, 64))
    mask.save(tmp_path / "mask.png")
    where = {"input": tmp_path / "me.png", "metric__region": tmp_path / "mask.png"}
    where["edit__region"] = "none"  # it acts everywhere
    metrics = read_json(applied(tuned, tiny, tmp_path / "out", **where) / "metrics.json")
    assert 0 < metrics["background_psnr"] < metrics["piebench_psnr"] - 5
    assert {"background_mse", "background_ssim", "piebench_ssim", "changed_pixels"} <= set(metrics)
    with pytest.raises(DclipError, match="nowhere does not exist"):
        applied(tuned, tiny, tmp_path / "out", **{**where, "metric__region": "nowhere"})


def test_an_edit_is_applied_to_one_file(tuned, tiny, tmp_path):
    Image.new("RGB", (50, 80), (120, 130, 90)).save(tmp_path / "me.webp")
    folder = applied(
        tuned / "adapter.safetensors", tiny, tmp_path / "out", input=tmp_path / "me.webp"
    )
    assert set(pixels_of(folder)) == {"image_me"}
    assert read_json(folder / "metrics.json")["images"] == 1


def test_an_edit_applied_later_gives_the_numbers_of_its_own_run(tuned, tiny, tmp_path):
    folder = applied(tuned, tiny, tmp_path)
    before, after = read_json(tuned / "metrics.json"), read_json(folder / "metrics.json")
    for name in ("mae", "ssim", "s_dir", "counterfactual_ratio"):
        assert after[name] == pytest.approx(before[name], abs=1e-4), name
    assert "zombie" in folder.parent.name


def test_degree_zero_is_the_original_model_and_degree_one_is_not(tuned, tiny, nets, tmp_path):
    import dclip
    from dclip.data.toonfaces.images import toonfaces
    from dclip.data.toonfaces.truths import TRUTHS
    from dclip.types import to_uint8

    images = toonfaces("test", 4, TRUTHS["zombie"])
    model = dclip.load_model(str(nets["model64"]))
    original = dclip.generate(
        model, dclip.invert(model, images.pixels, t0=300, steps=4), t0=300, steps=3
    )
    found = {}
    for gamma in (0, 1):
        pictures = pixels_of(
            applied(
                tuned, tiny, tmp_path / str(gamma), gamma=gamma, metric="none", edit__region="none"
            )
        )
        result = torch.stack([pictures[f"image_{name}"] for name in images.ids])
        found[gamma] = (to_uint8(result).int() - to_uint8(original).int()).abs()
    assert int(found[0].max()) <= 1
    assert float(found[1].float().mean()) > 1


def test_an_edit_of_another_base_is_refused_and_the_run_says_so(tuned, tiny, nets, tmp_path):
    with pytest.raises(DclipError, match="choose its own checkpoint"):
        applied(tuned, {**tiny, "checkpoint.name": nets["learned64"]}, tmp_path)
    status = read_json(tmp_path / "latest" / "status.json")
    assert status["status"] == "failed"
    assert "choose its own checkpoint" in status["reason"]


# ------------------------------------------------------------------------------------------- batches and devices


def test_the_batch_size_never_changes_a_picture(tiny, monkeypatch, tmp_path):
    from dclip.data.load import load_images
    from dclip.encode.generate import generate
    from dclip.encode.invert import encode
    from dclip.models.networks import build_networks
    from dclip.prepare.networks import networks
    from dclip.record.record import Record
    from dclip.run import Run

    found = []
    for batch in (1, 3, 4):
        monkeypatch.setenv("DCLIP_CACHE", str(tmp_path / str(batch)))
        cfg = configure(*words(tiny, trainer__batch=batch, sampler__eta=0.5))
        run = Run(cfg, build_networks(cfg, networks(cfg)), Record.quiet(cfg))
        start = encode(run, load_images(cfg, "test", 64))
        found.append((start.latents, generate(run, run.model.predict, start)))
    for other in found[1:]:
        torch.testing.assert_close(other[0], found[0][0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            other[1], found[0][1], rtol=2e-3, atol=5e-3
        )  # random weights: values up to 10


@pytest.mark.slow
def test_two_processes_give_the_edit_of_one(tiny, tmp_path):
    settings = words(
        tiny, output=tmp_path, method__epochs=2, method__lr=0.001, metric="none", trainer__threads=1
    )
    one = run(*settings)
    start = load_file(str(tiny["checkpoint.name"]))
    done = command(*settings, "trainer.devices=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two = (tmp_path / "latest").resolve()
    assert two != one
    a, b = (load_file(str(f / "adapter.safetensors")) for f in (one, two))
    assert max(float((a[k] - start[k]).abs().max()) for k in a) > 1e-3
    for key, value in a.items():
        torch.testing.assert_close(
            b[key], value, rtol=0, atol=5e-4
        )  # Adam turns rounding of tiny gradients into steps
    assert len([f for f in one.parent.iterdir() if f.is_dir()]) == 2


# ------------------------------------------------------------------------------------------- other tasks


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("net", ["model64", "learned64"])
def test_samples_are_drawn_from_noise(tiny, nets, tmp_path, sampler, net):
    settings = {**tiny, "checkpoint.name": nets[net], "sampler.t0": 999, "sampler.s_gen": 4}
    folder = run(*words(settings, task="sample", task__count=3, sampler=sampler, output=tmp_path))
    assert set(pixels_of(folder)) == {f"image_sample_{i:05d}" for i in range(3)}
    assert (folder / "samples" / "sheet.png").is_file()
    assert read_json(folder / "metrics.json")["count"] == 3


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "belm"])
@pytest.mark.parametrize("net", ["model64", "learned64"])
def test_images_are_reconstructed(tiny, nets, tmp_path, sampler, net):
    settings = {**tiny, "checkpoint.name": nets[net], "sampler.s_gen": 4}
    folder = run(*words(settings, task="reconstruct", sampler=sampler, output=tmp_path))
    metrics = read_json(folder / "metrics.json")
    assert (
        metrics["mae"] == 0 if sampler == "belm" else 0 < metrics["mae"] < 1
    )  # belm: every byte comes back
    assert (folder / "samples" / "before_after.png").is_file()
    assert read_json(folder / "status.json")["status"] == "finished"


def test_a_network_with_learned_variance_is_tuned_and_sampled_ancestrally(tiny, nets, tmp_path):
    settings = {**tiny, "checkpoint.name": nets["learned64"], "sampler": "ddpm"}
    folder = run(*words({**settings, **SHORT}, output=tmp_path, degrees="[0,1]"))
    assert (folder / "samples" / "degree_of_change.png").is_file()


def test_a_folder_of_images_is_tuned_on(tiny, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(10):
        Image.new("RGB", (70, 64), (25 * i, 100, 255 - 25 * i)).save(tmp_path / "in" / f"{i}.png")
    folder = run(
        *words(
            tiny,
            dataset="folder",
            dataset__root=tmp_path / "in",
            loss__id=0,
            output=tmp_path / "out",
            metric="default",
            degrees="[]",
        )
    )
    metrics = read_json(folder / "metrics.json")
    assert metrics["images"] == 4
    assert "id_absent" in metrics
    assert "judge_success" not in metrics


@pytest.mark.parametrize("net", list(Net))
def test_a_network_is_trained_and_its_weights_load(net, tmp_path, monkeypatch):
    from dclip.models.checkpoints import load_clip, load_identity, load_judge, load_model
    from dclip.pretrain import toonfaces

    load = {Net.ddpm: load_model, Net.identity: load_identity, Net.judge: load_judge}.get(
        net, load_clip
    )
    monkeypatch.setitem(
        toonfaces.SCORES, net, lambda path, _: ({"parameters": 1.0 if load(str(path)) else 0.0}, {})
    )
    settings = {
        "task.steps": 2,
        "task.batch": 4,
        "task.pool": 24,
        "task.compile": "false",
        "trainer": "cpu",
        "logger": "csv",
    }
    settings = {
        "experiment": f"pretrain_toonfaces_{net.value}",
        **settings,
        "trainer.progress": "false",
        "trainer.threads": 0,
    }
    folder = run(*words(settings, output=tmp_path))
    name = toonfaces.FILES[net]
    assert all(
        bool(torch.isfinite(p).all())
        for p in load(str(folder / f"{name}.safetensors")).parameters()
    )
    card = (folder / f"{name}.md").read_text("utf-8")
    assert f"experiment=pretrain_toonfaces_{net.value}" in card
    assert "| parameters | 1.0000 |" in card
    assert read_json(folder / "status.json")["status"] == "finished"


# ------------------------------------------------------------------------------------------- failures


def one_line(code, said):
    assert code == 2, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1, said
    return said


def test_an_output_that_cannot_be_written_is_one_line_and_exit_code_two(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as stop:
        command_here(*words(tiny, output=tmp_path / "file"), cwd=tmp_path)
    message = one_line(stop.value.code, capsys.readouterr().err)
    assert f"output={tmp_path / 'file'}" in message
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_text_file_as_input_is_one_line_and_exit_code_two(tuned, tiny, tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")
    keep = {
        k: v
        for k, v in tiny.items()
        if k.split(".")[0] in ("trainer", "logger", "checkpoint", "clip", "metric")
    }
    settings = words(
        keep,
        task="edit",
        edit__adapter=tuned,
        input=tmp_path / "letter.txt",
        output=tmp_path / "out",
    )
    done = command(*settings, cwd=tmp_path)
    assert "letter.txt cannot be read as an image" in one_line(done.returncode, done.stderr)
    assert not (tmp_path / "out").exists()


def test_a_failed_run_says_failed_and_why(tiny, tmp_path, monkeypatch):
    from dclip import pipeline

    def breaks(*_):
        raise RuntimeError("the roof fell in")

    monkeypatch.setattr(pipeline, "encode_splits", breaks)
    with pytest.raises(RuntimeError, match="roof"):
        run(*words(tiny, output=tmp_path))
    status = read_json(tmp_path / "latest" / "status.json")
    assert status["status"] == "failed"
    assert status["reason"] == "RuntimeError: the roof fell in"
    assert not (tmp_path / "latest" / "metrics.json").exists()


def test_a_missing_checkpoint_is_refused_before_anything_is_built(tiny, tmp_path):
    with pytest.raises(DclipError, match="neither a file nor a known name"):
        run(*words({**tiny, "checkpoint.name": "celeba"}, output=tmp_path))


def test_a_finished_run_is_not_resumed(tiny, tmp_path):
    settings = words(tiny, task="sample", task__count=1, output=tmp_path)
    run(*settings)
    with pytest.raises(DclipError, match="is finished"):
        run(*settings, "resume=true")


def test_a_killed_fine_tuning_goes_on_and_ends_as_an_uninterrupted_one(tiny, tmp_path):
    few = {"method.epochs": 4, "method.batch": 2, "dataset.train": 6}
    settings = words({**tiny, **SHORT, **few}, trainer__threads=2)
    process = run_apart([*settings, f"output={tmp_path / 'killed'}"], os.environ["DCLIP_CACHE"])
    saved: list[Path] = []
    end = time.monotonic() + 120
    while not saved and process.is_alive() and time.monotonic() < end:
        saved = list((tmp_path / "killed").glob("*/*/checkpoints/last.ckpt"))
        time.sleep(0.01)
    process.kill()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    folder = saved[0].parent.parent
    assert read_json(folder / "status.json")["status"] == "running"
    assert not (folder / "adapter.safetensors").exists()

    resumed = run(*settings, f"output={tmp_path / 'killed'}", "resume=true")
    assert resumed == folder
    assert read_json(folder / "status.json")["status"] == "finished"
    steps = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    assert max(s["step"] for s in steps) == 4 * 3 - 1
    whole = run(*settings, f"output={tmp_path / 'whole'}")
    torch.set_num_threads(1)  # as for all other tests
    one, other = (load_file(str(f / "adapter.safetensors")) for f in (whole, resumed))
    for key, value in one.items():
        assert torch.equal(other[key], value), key
