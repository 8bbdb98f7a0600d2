import re
from dataclasses import replace

import pytest

from dclip.data.missing import missing_data
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.models import needed
from dclip.models.checkpoints import load_model
from dclip.models.registry import TABLE
from dclip.prepare import needs
from dclip.prepare.networks import networks
from helpers.known_weights import FEW, in_a_process, published
from helpers.published import plant, write_ddim
from helpers.published_networks import DDIM, DdimNet, difference, random_net
from helpers.runs import ROOT, SMALL, configure, words
from helpers.server import closed_port, serving

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
    names = networks(configure(*_last_wins(given)))
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
    assert needed.shown_domain(cfg).name == "scenes"
    assert [n.name for n in needs.needed(cfg)] == [
        "openai_rn50",
        "laion_vit_b_32",
        "ade20k",
        "lpips_alexnet",
        "inception",
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["checkpoint.name=celeba"],
            "checkpoint.name=celeba is neither a file nor a known name; known: toonfaces, celeba_hq",
        ),
        (
            ["experiment=cifar10_own_blue_car"],
            "checkpoint.name is not set; name a weights file (checkpoint.name=FILE) or: toonfaces",
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
        "inception",
    ]
    assert all(n.path is None and n.sources and n.licence and n.megabytes for n in found.values())
    assert str(found["celeba_hq"].put[0]) == "pretrained/celeba_hq.ckpt"
    assert found["celeba_hq"].without == found["openai_vit_b_16"].without == ""
    assert found["arcface"].without == "metric.identity=false loss.id=0"
    assert found["bisenet"].without == "metric.parser=none"
    assert found["lpips_alexnet"].optional and found["inception"].optional
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
        "dclip.data.photographs.Photographs.missing",
        lambda data, downloads: [f"dataset.root={data.root} is not a folder; put it there"],
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


def test_the_message_comes_without_torch_and_leaves_nothing(nowhere, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done, code, heavy = in_a_process(*published(photos))
    assert (code, heavy) == (2, [])
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

    from dclip.methods.contract import method_of
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
    built = build_networks(cfg, networks(cfg))
    method_of(cfg).check_networks(cfg, built)
    assert built.identity is None
    assert built.parser.name == "ade20k"
    assert any("loss.id=0.3 has no effect" in r.getMessage() for r in caplog.records)
