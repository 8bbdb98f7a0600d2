"""Known weights: the table, the command line, what a run needs, what it says without a network, and what it plans."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ROOT, SMALL, command, configure, words
from omegaconf import OmegaConf
from PIL import Image
from published import plant, write_adm, write_ddim, write_diffusers
from test_convert import ADM, DDIM, AdmNet, DdimNet, Evil, difference, random_net
from test_fetch import closed_port, serving

from dclip.cli import weights
from dclip.config import Encode, FinalStep, Sampler, Solver
from dclip.data.missing import missing_data
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.models import needed, registry, sizes
from dclip.models.checkpoints import load_model
from dclip.models.registry import SHIPPED, TABLE
from dclip.prepare import needs, plan


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks: more threads only cost."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


FEW = ("dataset.train=4", "dataset.validation=2", "dataset.test=4")


def published(folder, *more):
    """Settings of a run on photographs with known weights."""
    return [
        "dataset=folder",
        f"dataset.root={folder}",
        "checkpoint=celeba_hq",
        "clip=openai_vit_b_16",
        *FEW,
        *more,
    ]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Nothing is found, and nothing may be fetched."""
    for name in ("DCLIP_WEIGHTS", "DCLIP_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("DCLIP_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("name", TABLE)
def test_an_entry_is_whole(name):
    entry = TABLE[name]
    assert entry.name == name
    assert entry.kind in ("ddpm", "clip", "identity", "parser", "features")
    assert entry.licence
    assert entry.documented
    assert 10 < entry.megabytes < 3000
    for file in entry.files:
        assert file.sources
        for source in file.sources:
            assert re.match(r"https?://[\w.-]+/", source.url)
            assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256)
            assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
            assert source.size is None or abs(source.size / 1e6 - entry.megabytes) < 1
    if entry.kind == "ddpm":
        assert entry.domain in ("faces", "dogs", "scenes", "objects")
        assert entry.variance in ("fixed_small", "fixed_large", "learned_range")
    if entry.kind in ("ddpm", "clip") and entry.parameters:
        assert entry.megabytes == pytest.approx(4 * entry.parameters / 1e6, rel=0.01)


def test_names_are_unique_and_files_do_not_share_a_place():
    names = [n for e in TABLE.values() for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(SHIPPED)
    places = [e.relative(n) for e in TABLE.values() for f in e.files for n in f.names]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(("group", "kind"), [("checkpoint", "ddpm"), ("clip", "clip")])
def test_every_known_network_is_a_choice_of_its_group(group, kind):
    files = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
    assert files == {e.name for e in TABLE.values() if e.kind == kind} | {"toonfaces"}
    for name in files - {"toonfaces"}:
        node = OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml")
        assert node.name == name
        if kind == "clip":
            assert TABLE[node.heldout].kind == "clip"
            assert node.heldout != name


def test_an_entry_is_found_by_its_other_names_and_by_its_file():
    assert registry.find("google/ddpm-celebahq-256") is TABLE["ddpm_celebahq_256"]
    assert registry.find("ViT-B/16") is TABLE["openai_vit_b_16"]
    assert registry.find("celeba") is None
    assert registry.entry_of("somewhere/celeba_hq.ckpt") is TABLE["celeba_hq"]
    assert registry.entry_of("somewhere/ddpm-church-256") is TABLE["ddpm_church_256"]
    assert registry.entry_of("somewhere/net.ckpt") is None
    with pytest.raises(
        DclipError, match=r"no weights are called 'celeba'; known: celeba_hq, lsun_bedroom"
    ):
        registry.get("celeba")


def test_files_are_looked_for_in_three_places_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCLIP_WEIGHTS", "own")
    monkeypatch.setenv("DCLIP_CACHE", "cache")
    entry = TABLE["celeba_hq"]
    assert registry.located(entry) is None
    for folder in ("cache/weights", "pretrained", "own"):  # the last wins
        path = tmp_path / folder / "celeba_hq.ckpt"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        assert registry.located(entry).absolute() == path
    monkeypatch.delenv("DCLIP_WEIGHTS")
    assert registry.located(entry).absolute() == tmp_path / "pretrained" / "celeba_hq.ckpt"
    assert registry.home().absolute() == (tmp_path / "cache" / "weights").absolute()


def test_an_entry_of_several_files_is_there_when_all_of_them_are(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    entry = TABLE["ddpm_church_256"]
    folder = tmp_path / "ddpm-church-256"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert registry.located(entry) is None
    assert [f.name for f in entry.missing_in(tmp_path)] == ["diffusion_pytorch_model.safetensors"]
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"x")
    assert registry.located(entry) == folder
    assert [p.name for _, p in registry.paths(entry)] == [
        "config.json",
        "diffusion_pytorch_model.bin",
    ]


# ---------------------------------------------------------------------------------------------------- load by name


def test_a_ddim_file_loads_by_name_and_computes_what_the_published_network_does(
    tmp_path, monkeypatch
):
    plant(tmp_path, monkeypatch, "celeba_hq", "cifar10")
    model = load_model("celeba_hq")
    assert difference(random_net(DdimNet, **DDIM), model.unet) < 1e-5
    assert (model.info.name, model.info.variance, model.image_size) == (
        "celeba_hq",
        "fixed_small",
        32,
    )
    assert (
        load_model("cifar10").info.variance == "fixed_large"
    )  # its tiny shapes do not tell, its name does


def test_an_adm_file_loads_by_name_with_its_learned_variance(tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, "afhq_dog")
    model = load_model("afhq_dog")
    assert difference(random_net(AdmNet, **{**ADM, "head_dim": 64}), model.unet) < 1e-5
    assert model.info.variance == "learned_range"


@pytest.mark.parametrize("name", ["ddpm_celebahq_256", "google/ddpm-celebahq-256"])
def test_a_diffusers_repository_loads_by_either_name(tmp_path, monkeypatch, name):
    plant(tmp_path, monkeypatch, "ddpm_celebahq_256")
    monkeypatch.chdir(tmp_path)
    assert difference(random_net(DdimNet, **DDIM), load_model(name).unet) < 1e-5


def test_a_file_that_is_not_the_published_one_is_refused_by_name_and_taken_by_path(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    write_ddim(tmp_path / "church_outdoor.ckpt")
    with pytest.raises(
        DclipError,
        match=r"is not the published lsun_church: its md5 is .*give the file by its path",
    ) as caught:
        load_model("lsun_church")
    assert "\n" not in str(caught.value)
    assert load_model(str(tmp_path / "church_outdoor.ckpt")).image_size == 32


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("truncated", "truncated, damaged or no checkpoint"),
        ("page", "web page"),
        ("other", "no known diffusion format"),
        ("renamed keys", "missing"),
        ("architecture", "celeba_hq.ckpt is not celeba_hq: it holds a adm network"),
        ("size", "parameters, where a ddim one of 113,673,219 is published"),
        ("code", "nothing in it was run"),
    ],
)
def test_a_wrong_file_under_a_known_name_is_refused_in_one_line(tmp_path, monkeypatch, spoil, said):
    plant(tmp_path, monkeypatch, "celeba_hq")
    path, mark = tmp_path / "celeba_hq.ckpt", tmp_path / "executed"
    whole, state = path.read_bytes(), torch.load(path, weights_only=True)
    if spoil == "size":
        monkeypatch.setitem(TABLE, "celeba_hq", replace(TABLE["celeba_hq"], parameters=113_673_219))
    elif spoil == "architecture":
        write_adm(path)
    elif spoil in ("truncated", "page"):
        path.write_bytes(whole[: len(whole) // 2] if spoil == "truncated" else b"<html>Sign in")
    else:
        renamed = {k.replace("mid.", "middle."): v for k, v in state.items()}
        torch.save(
            {"other": {"weight": torch.zeros(2)}, "code": {**state, "x": Evil(mark)}}.get(
                spoil, renamed
            ),
            path,
        )
    with pytest.raises(DclipError, match=re.escape(said)) as caught:
        load_model("celeba_hq")
    assert "celeba_hq" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_a_missing_file_is_not_fetched_offline(nowhere):
    with pytest.raises(
        DclipError, match=r"celeba_hq is not here and may not be fetched \(HF_HUB_OFFLINE=1\)"
    ):
        load_model("celeba_hq")


# ---------------------------------------------------------------------------------------------------- which networks?


FACES = {
    "model": "celeba_hq",
    "clip": "openai_vit_b_16",
    "heldout": "laion_vit_b_32",
    "identity": "arcface",
    "parser": "bisenet",
}
CHURCH = "google/ddpm-church-256"
TOON = {
    "model": "toonfaces", "clip": "toonfaces_clip", "heldout": "toonfaces_heldout", "identity": "toonfaces_identity",
    "judge": "toonfaces_judge",
}  # fmt: skip


def without(names, *left_out):
    return {k: v for k, v in names.items() if k not in left_out}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], TOON),
        (["metric=none"], without(TOON, "heldout", "judge")),
        (["metric=none", "loss.id=0"], without(TOON, "heldout", "judge", "identity")),
        (["metric.judge=false", "metric.kid=false"], without(TOON, "judge")),
        (["task=reconstruct"], without(TOON, "clip", "heldout")),
        (["task=sample"], {"model": "toonfaces"}),
        (["task=pretrain", "task.net=clip"], {}),
        (["photos"], FACES),
        (["photos", "metric.identity=false"], FACES),
        (["photos", "loss.id=0"], FACES),
        (["photos", "metric.identity=false", "loss.id=0"], without(FACES, "identity")),
        (["photos", "metric.parser=none"], without(FACES, "parser")),
        (["photos", "metric.parser=ade20k"], {**FACES, "parser": "ade20k"}),
        (["photos", "clip.heldout=null"], without(FACES, "heldout")),
        (["photos", "metric=none"], without(FACES, "heldout", "parser")),
        (["photos", "checkpoint=lsun_church"], {**without(FACES, "identity"), "model": "lsun_church", "parser": "ade20k"}),
        (["photos", "checkpoint=afhq_dog"], {**without(FACES, "identity", "parser"), "model": "afhq_dog"}),
        (["photos", "checkpoint=cifar10_ema"], {**without(FACES, "identity", "parser"), "model": "cifar10_ema"}),
        (["photos", "checkpoint=lsun_church", "checkpoint.domain=faces"], {**FACES, "model": "lsun_church"}),
        (["photos", "checkpoint=celeba_hq", "checkpoint.domain=dogs"], without(FACES, "identity", "parser")),
        (["photos", "task=reconstruct"], without(FACES, "clip", "heldout")),
        (["photos", "task=sample"], {"model": "celeba_hq"}),
        (["photos", "task=plan"], FACES),
        (["photos", f"checkpoint.name={CHURCH}"], {**without(FACES, "identity"), "model": CHURCH, "parser": "ade20k"}),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_run_needs_the_networks_of_its_losses_and_metrics_and_no_other(
    photos, settings, expected
):
    given = [w for s in settings for w in (published(photos) if s == "photos" else [s])]
    names = needed.networks(configure(*_last_wins(given)))
    assert {k: v for k, v in vars(names).items() if v} == expected


def _last_wins(given):
    return [f"{k}={v}" for k, v in {w.split("=")[0]: w.split("=", 1)[1] for w in given}.items()]


def test_a_file_that_is_called_as_a_published_one_shows_what_that_one_shows(photos, tmp_path):
    file = tmp_path / "church_outdoor.ckpt"
    write_ddim(file)
    cfg = configure(
        "dataset=folder",
        f"dataset.root={photos}",
        f"checkpoint.name={file}",
        "clip=openai_rn50",
        *FEW,
    )
    assert needed.domain_of(cfg) == "scenes"
    assert [n.name for n in needs.needed(cfg)] == [
        "openai_rn50",
        "laion_vit_b_32",
        "ade20k",
        "lpips_alexnet",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["checkpoint.name=celeba"],
            "checkpoint.name=celeba is neither a file nor a known name; known: celeba_hq",
        ),
        (["clip.name=openai_vit_b_16x"], "clip.name=openai_vit_b_16x is neither"),
        (
            ["clip.heldout=arcface"],
            "clip.heldout=arcface is a network of kind 'identity'; here one of kind 'clip' is needed",
        ),
        (
            ["checkpoint.name=toonfaces_clip"],
            "checkpoint.name=toonfaces_clip is a network of kind 'clip'",
        ),
        (
            ["checkpoint=celeba_hq"],
            "dataset=toonfaces draws 64x64 pictures, but checkpoint.name=celeba_hq takes 256x256",
        ),
        (["metric.parser=resnet"], "metric.parser"),
        (["checkpoint.domain=cats"], "checkpoint.domain"),
        (["task=plan", "task.of=sample"], "task.of=sample cannot be planned"),
        (["task=plan", "checkpoint.name=celeba"], "checkpoint.name=celeba is neither"),
        (["task=plan", "task.of=edit"], "edit.adapter"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_built(settings, said):
    with pytest.raises(DclipError, match=re.escape(said)) as caught:
        configure(*settings)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- what is missing


def test_needs_say_why_where_and_how_to_do_without(nowhere, photos):
    found = {n.name: n for n in needs.needed(configure(*published(photos)))}
    assert list(found) == [
        "celeba_hq",
        "openai_vit_b_16",
        "laion_vit_b_32",
        "arcface",
        "bisenet",
        "lpips_alexnet",
    ]
    assert all(n.path is None and n.sources and n.licence and n.megabytes for n in found.values())
    assert str(found["celeba_hq"].put[0]) == "pretrained/celeba_hq.ckpt"
    assert found["celeba_hq"].without == found["openai_vit_b_16"].without == ""
    assert found["arcface"].without == "metric.identity=false loss.id=0"
    assert found["bisenet"].without == "metric.parser=none"
    assert found["lpips_alexnet"].optional
    assert (
        needs.needed(configure())[0].name == "lpips_alexnet"
    )  # the cartoons need nothing that is not in the package
    needs.obtain([configure()])


def test_one_message_lists_everything_that_is_missing(nowhere, photos):
    with pytest.raises(needs.MissingFilesError) as caught:
        needs.obtain([configure(*published(photos)), configure(*published(photos, "seed=1"))])
    message = str(caught.value)
    for name in ("celeba_hq", "openai_vit_b_16", "laion_vit_b_32", "arcface", "bisenet"):
        assert message.count(f"\n  {name}: ") == 1
        for file in TABLE[name].files:
            assert f"pretrained/{file.name}" in message
            assert all(source.url in message for source in file.sources)
    for part in (
        "5 things",
        "HF_HUB_OFFLINE=1",
        "455 MB",
        "dclip weights fetch celeba_hq",
        "403",
        "every file may also lie in",
    ):
        assert part in message
    assert (
        "clip.heldout=null metric.identity=false loss.id=0 metric.parser=none   (still needed: celeba_hq, openai_vit_b_16)"
        in message
    )
    assert "experiment=toonfaces_red_hair" in message
    assert "lpips" not in message


def test_a_missing_data_set_joins_the_message(nowhere, photos, monkeypatch):
    cfg = configure(*published(photos))
    monkeypatch.setattr(
        "dclip.data.missing.missing",
        lambda data: [f"dataset.root={data.root} is not a folder; put it there"],
    )
    assert missing_data(cfg) == [f"dataset.root={photos} is not a folder; put it there"]
    with pytest.raises(needs.MissingFilesError, match=r"6 things") as caught:
        needs.obtain([cfg])
    assert f"data: dataset.root={photos} is not a folder" in str(caught.value)
    assert missing_data(replace(cfg, input="photo.jpg")) == []
    monkeypatch.setenv(
        "HF_HUB_OFFLINE", "0"
    )  # nothing is fetched for a run that cannot start; no server is asked either
    with pytest.raises(
        needs.MissingFilesError, match="the weights will be fetched once the data is there"
    ):
        needs.obtain([cfg])


def test_without_any_server_the_message_comes_soon_and_says_so(nowhere, photos, monkeypatch):
    dead = closed_port()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name in ("celeba_hq", "openai_vit_b_16", "laion_vit_b_32", "arcface", "bisenet"):
        files = tuple(
            replace(f, sources=tuple(replace(s, url=f"{dead}/{f.name}") for s in f.sources))
            for f in TABLE[name].files
        )
        monkeypatch.setitem(TABLE, name, replace(TABLE[name], files=files))
    with pytest.raises(
        needs.MissingFilesError,
        match=r"they were not fetched: no server has celeba_hq\.ckpt \(127\.0\.0\.1:\d+: .*refused",
    ):
        needs.obtain([configure(*published(photos))])


PROGRAM = """
import sys, time
sys.argv = ["run.py", *sys.argv[1:]]
from dclip.cli import command as cli
try:
    cli.main()
except SystemExit as stop:
    heavy = sorted(set(sys.modules) & {"torch", "lightning", "diffusers", "open_clip"})
    print("code", stop.code, "heavy", heavy, "cpu", time.process_time())
"""


def in_a_process(*given):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *given],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    code, heavy, cpu = re.search(r"code (\d+) heavy (\[.*\]) cpu ([\d.]+)", done.stdout).groups()
    return done, int(code), ast.literal_eval(heavy), float(cpu)


def test_the_message_comes_without_torch_within_seconds_and_leaves_nothing(
    nowhere, photos, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done, code, heavy, cpu = in_a_process(*published(photos))
    assert (code, heavy) == (2, [])
    assert cpu < 3
    assert done.stderr.startswith("error: this run needs 5 things that are not here")
    assert done.stderr.count("error:") == 1
    assert "pretrained/model_ir_se50.pth" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]


# ---------------------------------------------------------------------------------------------------- the whole way


def debug(photos, output):
    small = {
        **SMALL,
        "method.batch": 2,
        "dataset.train": 3,
        "dataset.test": 3,
        "metric.lpips": "false",
    }
    return [*published(photos, "edit=tanned"), *words(small, output=output, sampler__t0=300)]


def test_a_run_with_published_weights_goes_from_photographs_to_the_report(
    photos, tmp_path, monkeypatch
):
    from dclip.pipeline import run

    plant(
        tmp_path / "weights",
        monkeypatch,
        "celeba_hq",
        "openai_vit_b_16",
        "laion_vit_b_32",
        "arcface",
        "bisenet",
    )
    folder = run(configure(*debug(photos, tmp_path)))
    metrics = read_json(folder / "metrics.json")
    assert {"s_dir", "s_dir_heldout", "id", "sc", "mae", "psnr", "ssim"} <= set(metrics)
    assert metrics["sc_parser"] == "bisenet"
    assert 0 <= metrics["sc"] <= 1
    assert -1 <= metrics["id"] <= 1
    assert (folder / "report.html").is_file()
    rows = (folder / "rows.csv").read_text().splitlines()
    assert {"id", "sc", "s_dir"} <= set(rows[0].split(","))
    assert len(rows) == 4


def test_what_is_missing_is_fetched_before_anything_else(photos, tmp_path, monkeypatch):
    plant(tmp_path / "there", monkeypatch, "celeba_hq")
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path / "here"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    cfg = configure(*published(photos, "task=sample"))
    assert needs.needed(cfg)[0].path is None
    with serving(body=(tmp_path / "there" / "celeba_hq.ckpt").read_bytes()) as site:
        monkeypatch.setenv("DCLIP_MIRROR", site.url)
        monkeypatch.setattr(
            needs.fetch,
            "silent_hosts",
            lambda urls: {h: "silent" for h in map(needs.fetch.host, urls) if h not in site.url},
        )
        needs.obtain([cfg])
        assert site.asked == [("/celeba_hq.ckpt", None)]
    assert needs.needed(cfg)[0].path == tmp_path / "here" / "celeba_hq.ckpt"
    assert difference(random_net(DdimNet, **DDIM), load_model("celeba_hq").unet) < 1e-5


def test_a_loss_that_has_no_network_is_said(photos, tmp_path, monkeypatch, caplog):
    import logging

    from dclip.models.networks import build_networks

    plant(tmp_path, monkeypatch, "lsun_church", "openai_vit_b_16", "ade20k")
    cfg = configure(
        *published(photos, "clip.heldout=null")[:2],
        "checkpoint=lsun_church",
        "clip=openai_vit_b_16",
        "clip.heldout=null",
        *FEW,
    )
    monkeypatch.setattr(logging.getLogger("dclip"), "propagate", True)
    networks = build_networks(cfg)
    assert networks.identity is None
    assert networks.parser.name == "ade20k"
    assert any("loss.id=0.3 has no effect" in r.getMessage() for r in caplog.records)


# ---------------------------------------------------------------------------------------------------- the command line


def cli(capsys, *given):
    code = weights.main(given)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_list_is_an_aligned_table_of_everything(capsys, nowhere, monkeypatch):
    monkeypatch.setenv("COLUMNS", "132")
    code, out, _ = cli(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "SHOWS", "MB", "FORMAT", "HERE", "LICENCE"]
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in TABLE)
    column = lines[0].index("KIND")
    assert all(
        line[column - 1] == " " and line[column] != " "
        for line in lines
        if line.split(" ")[0] in TABLE
    )
    assert max(map(len, lines[:-1])) <= 132
    assert lines[-1].startswith("looked for in: ")


def test_where_and_verify_tell_by_their_exit_codes(capsys, nowhere, tmp_path, monkeypatch):
    assert cli(capsys, "where")[:2] == (
        0,
        f"{tmp_path / 'empty'}\n{tmp_path / 'pretrained'}\n{tmp_path / 'empty' / 'weights'}\n",
    )
    code, out, _ = cli(capsys, "where", "celeba_hq")
    assert code == 1
    assert "put pretrained/celeba_hq.ckpt" in out
    assert cli(capsys, "verify")[0] == 0
    code, out, _ = cli(capsys, "verify", "celeba_hq")
    assert (code, out.split()) == (1, ["celeba_hq", "MISSING", "-", "not", "here"])
    (tmp_path / "pretrained").mkdir()
    write_ddim(tmp_path / "pretrained" / "celeba_hq.ckpt")
    write_ddim(tmp_path / "pretrained" / "cifar10.ckpt")
    assert cli(capsys, "where", "celeba_hq")[:2] == (
        0,
        f"{tmp_path / 'pretrained' / 'celeba_hq.ckpt'}\n",
    )
    code, out, _ = cli(capsys, "verify", "celeba_hq")
    assert code == 0
    assert "no hash is published" in out
    code, out, _ = cli(capsys, "verify")
    assert code == 1
    assert re.search(r"cifar10 +WRONG .*its md5 is \w+\.\.\., not 82ed3067fd10", out)
    assert re.search(r"celeba_hq +ok ", out)


def test_fetch_fetches_and_says_where_to(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    with serving(body=b"weights") as site:
        files = (replace(TABLE["celeba_hq"].files[0], sources=(registry.Source(f"{site.url}/a"),)),)
        monkeypatch.setitem(TABLE, "celeba_hq", replace(TABLE["celeba_hq"], files=files))
        dead = (replace(TABLE["ffhq"].files[0], sources=(registry.Source(f"{site.url}/missing"),)),)
        monkeypatch.setitem(TABLE, "ffhq", replace(TABLE["ffhq"], files=dead))
        code, out, err = cli(capsys, "fetch", "ffhq", "celeba_hq", "--quiet")
    assert code == 1
    assert out == f"celeba_hq  {tmp_path / 'celeba_hq.ckpt'}\n"
    assert "error: ffhq: no source gave ffhq_10m.pt" in err
    assert (tmp_path / "celeba_hq.ckpt").read_bytes() == b"weights"


def test_the_command_is_reached_through_run_py(nowhere, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done, code, heavy, _ = in_a_process("weights", "fetch", "celeba_hq")
    assert (code, heavy) == (2, [])
    assert (
        done.stderr
        == "error: nothing may be fetched (HF_HUB_OFFLINE=1); unset it, or fetch on another machine and copy the files\n"
    )
    done, code, _, _ = in_a_process("weights", "where", "nothing")
    assert code == 2
    assert done.stderr.startswith("error: no weights are called 'nothing'; known: celeba_hq")
    assert command("weights", "remove", cwd=tmp_path).returncode == 2


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
        "edit": 5 * 6 + 4 * 5 * 6 * 2,
        "fine-tune": 2 * 6 * 3 * 5,
    }
    assert found["seconds"]["invert"] == pytest.approx(10 * 39 * 497.0 / (2 * 74), rel=0.01)
    weights = 113_673_219 * 4 / 1e6
    others = sum(
        TABLE[n].megabytes
        for n in ("openai_vit_b_16", "laion_vit_b_32", "arcface", "bisenet", "lpips_alexnet")
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


@pytest.mark.parametrize("final", ["to_clean", "to_t0"])
@pytest.mark.parametrize(
    "solver", ["ddim", "ddpm", "ab2", "heun", "dpmpp_2m", "fixed_point", "belm"]
)
def test_a_plan_counts_the_calls_of_every_inversion(solver, final):
    from dclip.diffusion.sampler import sample
    from dclip.diffusion.schedule import Schedule
    from dclip.diffusion.solvers import inverter_of, pairs_of

    options = Sampler(Solver(solver), 500, 9, 5, final_step=FinalStep(final), tolerance=1e-30)
    seen = []
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    sample(
        lambda x, t: seen.append(1) or torch.sin(3 * x),
        x,
        pairs_of(options)[0],
        Schedule(),
        solver=inverter_of(options),
    )  # never quite still
    assert plan.inversion_calls(options) == len(seen)
    assert plan.inversion_calls(replace(options, encode=Encode.stochastic)) == 0


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
    done, code, heavy, cpu = in_a_process(how, *published(photos))
    assert (code, heavy) == (0, [])
    assert cpu < 3
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


def test_a_plan_in_python_returns_its_file(tmp_path, capsys):
    from dclip.pipeline import run

    path = run(configure("task=plan", f"output={tmp_path}"))
    assert read_json(path)["task"] == "finetune"
    assert "plan of task=finetune" in capsys.readouterr().out


def test_the_plans_constants_are_what_is_counted():
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        "plan_constants", ROOT / "benchmarks" / "plan_constants.py"
    )
    constants = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(constants)
    cifar = TABLE["cifar10"]
    expected = {
        "toonfaces": sizes.SHIPPED["toonfaces"],
        "ddim CIFAR-10": sizes.Size(cifar.parameters, cifar.gflop, cifar.kept_mb),
    }
    for name, size in expected.items():
        with torch.device("meta"):
            net = constants.UNETS[name]()
        parameters, gflop, megabytes = constants.count(net)
        assert parameters == size.parameters
        assert gflop == pytest.approx(size.gflop, rel=0.03)
        assert megabytes == pytest.approx(size.kept_mb, rel=0.05)


def test_writers_write_what_they_say(tmp_path):
    """The other tests rest on these."""
    write_adm(tmp_path / "a.pt")
    assert "input_blocks.1.0.in_layers.2.weight" in torch.load(tmp_path / "a.pt", weights_only=True)
    write_diffusers(tmp_path / "d")
    assert {p.name for p in (tmp_path / "d").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
