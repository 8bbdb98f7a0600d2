"""Known weights: the table, and networks loaded by their names."""

import re
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from dclip.errors import DclipError
from dclip.models import registry
from dclip.models.checkpoints import load_model
from dclip.models.registry import TABLE
from helpers.published import plant, write_adm, write_ddim, write_diffusers
from helpers.published_networks import ADM, DDIM, AdmNet, DdimNet, Evil, difference, random_net
from helpers.runs import ROOT

SHOWN = ("faces", "dogs", "scenes", "objects")
SHIPPED = [entry.name for entry in TABLE.values() if entry.shipped]


@pytest.mark.parametrize("name", TABLE)
def test_an_entry_is_whole(name):
    entry = TABLE[name]
    assert entry.name == name
    assert entry.kind in ("ddpm", "clip", "identity", "parser", "judge", "features")
    assert entry.licence
    assert entry.documented
    assert 1 < entry.megabytes < 3000
    for file in entry.files:
        assert bool(file.sources) != entry.shipped
        for source in file.sources:
            assert re.match(r"https?://[\w.-]+/", source.url)
            # torch's hub writes the digest's beginning into the name
            digest = "[0-9a-f]{64}|(?<=-)[0-9a-f]{8}(?=.pth)"
            assert source.sha256 is None or source.sha256 in re.findall(
                digest, f"{source.sha256} {file.name}"
            )
            assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
            assert source.size is None or abs(source.size / 1e6 - entry.megabytes) < 1
    if entry.kind == "ddpm" and not entry.shipped:
        assert entry.domain in SHOWN
        assert entry.variance in ("fixed_small", "fixed_large", "learned_range")
    if entry.kind in ("ddpm", "clip", "features") and entry.parameters and not entry.shipped:
        assert entry.megabytes == pytest.approx(4 * entry.parameters / 1e6, rel=0.01)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_there_as_the_table_says(name):
    place = registry.located(TABLE[name])
    assert place == registry.package_folder() / f"{name}.safetensors"
    assert place.stat().st_size / 1e6 == pytest.approx(TABLE[name].megabytes, abs=0.05)


def test_names_are_unique_and_files_do_not_share_a_place():
    names = [(e.kind, n) for e in TABLE.values() for n in (e.name, *e.aliases)]
    assert len(names) == len(set(names))
    places = [e.relative(n) for e in TABLE.values() for f in e.files for n in f.names]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(("group", "kind"), [("checkpoint", "ddpm"), ("clip", "clip")])
def test_every_known_network_is_a_choice_of_its_group(group, kind):
    files = {p.stem for p in (ROOT / "conf" / group).glob("*.yaml")}
    published = {e.name for e in TABLE.values() if e.kind == kind and not e.shipped}
    files -= {"toonfaces", "own"}
    assert files == published
    for name in files:
        node = OmegaConf.load(ROOT / "conf" / group / f"{name}.yaml")
        assert node.name == name
        if kind == "clip":
            assert TABLE[node.heldout].kind == "clip"
            assert node.heldout != name


def test_an_entry_is_found_by_its_other_names_and_by_its_file():
    assert registry.find("google/ddpm-celebahq-256") is TABLE["ddpm_celebahq_256"]
    assert registry.find("ViT-B/16") is TABLE["openai_vit_b_16"]
    assert registry.find("celeba") is None
    assert registry.find("toonfaces") is TABLE["toonfaces"]
    assert registry.find("toonfaces", "clip") is TABLE["toonfaces_clip"]
    assert registry.find("toonfaces", "parser").kind == "ddpm"  # for the caller to refuse
    assert registry.entry_of("somewhere/celeba_hq.ckpt") is TABLE["celeba_hq"]
    assert registry.entry_of("somewhere/ddpm-church-256") is TABLE["ddpm_church_256"]
    assert registry.entry_of("somewhere/net.ckpt") is None
    with pytest.raises(
        DclipError,
        match=r"no weights are called 'celeba'; known: toonfaces, .*celeba_hq, lsun_bedroom",
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


# ------------------------------------------------------------ load by name


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


def test_writers_write_what_they_say(tmp_path):
    """The other tests rest on these."""
    write_adm(tmp_path / "a.pt")
    assert "input_blocks.1.0.in_layers.2.weight" in torch.load(tmp_path / "a.pt", weights_only=True)
    write_diffusers(tmp_path / "d")
    assert {p.name for p in (tmp_path / "d").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
