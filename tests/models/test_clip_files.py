"""CLIPs from files and folders: each with its own network, preprocessing and tokenizer."""

import copy
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import factory
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torchvision.transforms.functional import to_tensor

from dclip.errors import DclipError
from dclip.models.checkpoints import load_clip
from dclip.models.clip import build_clip
from dclip.models.clip_files import fitting, openai_config, published_preprocess
from helpers.published_networks import Evil

OPENAI = (0.48145466, 0.4578275, 0.40821073)
VISION = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 16}
TINY = {
    "embed_dim": 16,
    "vision_cfg": VISION,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    "quick_gelu": True,
}
PLAIN = {**TINY, "quick_gelu": False}
OWN = {"layers": 1, "width": 64, "heads": 1, "context_length": 8, "vocab_size": 12}


def random_clip(config, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = build_clip(config).eval()
        for parameter in clip.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return clip.requires_grad_(False)


def pictures(*size):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def same_images(loaded, clip, tolerance=1e-5):
    x = loaded.preprocess(pictures(24, 24))
    one, other = loaded.clip.encode_image(x), clip.encode_image(x)
    return float((one - other).abs().max()) < tolerance


def same_texts(loaded, clip, tolerance=1e-5):
    tokens = loaded.tokenizer(["red", "blue hat"])
    one, other = loaded.clip.encode_text(tokens), clip.encode_text(tokens)
    return float((one - other).abs().max()) < tolerance


def hub(folder, config, clip=None, **preprocess):
    """A folder as open_clip writes it for the hub."""
    folder.mkdir(exist_ok=True)
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    if clip is not None:
        save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    return folder


# ------------------------------------------------------------ files


@pytest.fixture
def torchscript(tmp_path):
    """A file as OpenAI published its networks: traced, in half precision."""
    clip = random_clip(TINY)
    for value in clip.state_dict().values():
        value.copy_(value.half().float())
    image, text = torch.zeros(1, 3, 16, 16), torch.zeros(1, 77, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entries = {"encode_image": image, "encode_text": text}
        traced = torch.jit.trace_module(copy.deepcopy(clip), entries)
    traced.half().save(tmp_path / "ViT-B-16.pt")
    return tmp_path / "ViT-B-16.pt", clip


def test_openais_file_is_read_without_running_it(torchscript, monkeypatch):
    path, clip = torchscript
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: pytest.fail("run"))
    loaded = load_clip(str(path))
    assert (loaded.name, loaded.size) == ("ViT-B-16", 16)
    assert torch.allclose(loaded.mean.flatten(), torch.tensor(OPENAI))
    assert same_images(loaded, clip)
    assert same_texts(loaded, clip)
    assert loaded.logit_scale == pytest.approx(float(clip.logit_scale.exp()), rel=1e-3)
    plain = build_clip(PLAIN).eval()
    plain.load_state_dict(clip.state_dict())
    assert not same_images(loaded, plain, 1e-3)  # it has QuickGELU


def test_other_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "net.pt")
    with pytest.raises(DclipError, match="something else than OpenAI's CLIP"):
        load_clip(str(tmp_path / "net.pt"))
    mark = tmp_path / "executed"
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/constants.pkl", b"")
        archive.writestr("evil/data.pkl", pickle.dumps(Evil(mark)))
    with pytest.raises(
        DclipError, match=rf"cannot be read \(it names {os.name}\.mkdir\)"
    ) as caught:
        load_clip(str(tmp_path / "evil.pt"))
    assert not mark.exists()
    assert "\n" not in str(caught.value)


@pytest.fixture
def known(monkeypatch):
    """Small networks among those of open_clip, two as alike as its plain and QuickGELU ones."""
    for name, config in (
        ("Tiny", PLAIN),
        ("Tiny-quickgelu", TINY),
        ("Other", {**PLAIN, "embed_dim": 8}),
    ):
        monkeypatch.setitem(factory._MODEL_CONFIGS, name, config)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("arch", ["Tiny", "Tiny-quickgelu"])
def test_weights_are_read_as_the_network_that_is_named(tmp_path, known, suffix, arch):
    clip, path = random_clip(open_clip.get_model_config(arch)), tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(clip.state_dict(), path)
    else:  # as open_clip's training writes it
        state = {f"module.{key}": value for key, value in clip.state_dict().items()}
        optimizer = torch.optim.AdamW(build_clip(PLAIN).parameters()).state_dict()
        content = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer}
        torch.save(content if suffix == ".pt" else clip.state_dict(), path)
    loaded = load_clip(str(path), arch=arch)
    assert same_images(loaded, clip)
    assert same_texts(loaded, clip)
    with pytest.raises(DclipError, match=r"clip\.arch=Tiny or clip\.arch=Tiny-quickgelu") as caught:
        load_clip(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DclipError, match=r"is not the CLIP Other: .*give the clip\.arch that"):
        load_clip(str(path), arch="Other")
    with pytest.raises(DclipError, match="open_clip has no network 'Tin'"):
        load_clip(str(path), arch="Tin")


def test_the_networks_that_fit_are_named_and_no_others():
    with torch.device("meta"):
        state = build_clip(open_clip.get_model_config("ViT-B-32")).state_dict()
        resnet = build_clip(open_clip.get_model_config("RN50")).state_dict()
    assert fitting(state) == ["ViT-B-32", "ViT-B-32-quickgelu"]
    assert fitting(resnet) == ["RN50", "RN50-quickgelu"]
    assert openai_config(resnet, Path("RN50.pt"))["vision_cfg"]["layers"] == [3, 4, 6, 3]


def test_weights_beside_their_description_need_no_name(tmp_path):
    clip = random_clip(PLAIN)
    hub(tmp_path, PLAIN, mean=[0.5] * 3, std=[0.25] * 3, interpolation="bilinear")
    torch.save(clip.state_dict(), tmp_path / "epoch_3.pt")
    loaded = load_clip(str(tmp_path / "epoch_3.pt"))
    assert (loaded.name, loaded.resize.interpolation) == ("epoch_3", "bilinear")
    assert loaded.std.flatten().tolist() == [0.25] * 3
    assert same_images(loaded, clip)


def test_a_name_is_for_files_that_do_not_say_it(tmp_path, nets, torchscript):
    for given in (nets["clip"], "toonfaces_clip", torchscript[0], tmp_path):
        with pytest.raises(DclipError, match=r"clip\.arch=ViT-B-32"):
            load_clip(str(given), arch="ViT-B-32")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(DclipError, match="nor does it hold the weights of a CLIP"):
        load_clip(str(tmp_path / "other.pt"))


@pytest.mark.parametrize(
    ("arch", "weights", "mean", "mode"),
    [
        ("ViT-B-32", None, OPENAI, "shortest"),
        ("ViT-B-16-quickgelu", "openai", OPENAI, "shortest"),
        ("ViT-B-16-SigLIP", None, (0.5, 0.5, 0.5), "squash"),
        ("ViT-L-14-CLIPA", None, (0.485, 0.456, 0.406), "squash"),
        ("ViT-L-14", "laion2b_s32b_b82k", (0.5, 0.5, 0.5), "shortest"),
    ],
)
def test_preprocessing_is_that_of_the_published_weights(arch, weights, mean, mode):
    found = published_preprocess(arch, weights)
    assert tuple(found["mean"]) == pytest.approx(mean)
    assert found["resize_mode"] == mode


def test_weights_that_prepare_images_in_several_ways_are_asked_for():
    with pytest.raises(DclipError, match=r"several ways; say whose: clip\.arch=ViT-L-14/laion"):
        published_preprocess("ViT-L-14")
    with pytest.raises(DclipError, match=r"clip\.arch=ViT-L-14/mine: open_clip has laion400m"):
        published_preprocess("ViT-L-14", "mine")
    with pytest.raises(DclipError, match=r"ViT-B-32/openai: open_clip has laion"):
        published_preprocess("ViT-B-32", "openai")  # trained with QuickGELU


# ------------------------------------------------------------ preprocessing


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(24, 24), (40, 24), (24, 40), (16, 16)])
def test_images_are_prepared_as_open_clip_prepares_them(tmp_path, mode, interpolation, size):
    settings = {"mean": OPENAI, "std": [0.3] * 3, "fill_color": 100}
    settings |= {"interpolation": interpolation, "resize_mode": mode}
    folder = hub(tmp_path / "clip", PLAIN, random_clip(PLAIN), **settings)
    loaded = load_clip(str(folder))
    theirs = image_transform_v2(PreprocessCfg(size=16, **settings), is_train=False)
    values = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
    picture = Image.fromarray(values.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    mine = loaded.preprocess(to_tensor(picture)[None] * 2 - 1)[0]
    assert mine.shape == (3, 16, 16)
    # PIL rounds to bytes after each direction, and keeps no value outside
    assert float((mine - theirs(picture)).abs().mean()) < 0.05


def test_what_cannot_be_prepared_is_refused(tmp_path):
    folder = hub(tmp_path / "clip", PLAIN, random_clip(PLAIN), resize_mode="tile")
    with pytest.raises(DclipError, match="resize_mode=tile is not known"):
        load_clip(str(folder))
    wide = {**PLAIN, "vision_cfg": {**VISION, "image_size": [16, 32]}}
    folder = hub(tmp_path / "wide", wide, random_clip(wide))
    with pytest.raises(DclipError, match=r"images of \[16, 32\]"):
        load_clip(str(folder))


# ------------------------------------------------------------ tokenizers


def write_tokenizer(folder, kind):
    """Of CLIPA's kind (BERT: [CLS] words [SEP]), or of SigLIP's (words, end; padded with the end)."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "</s>", "red", "blue", "hat", "##s"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"bert": ("[CLS] $A [SEP]", ["[CLS]", "[SEP]"]), "siglip": ("$A </s>", ["</s>"])}
    template, special = ends[kind]
    pairs = [(token, vocabulary[token]) for token in special]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    tokenizer.save(str(folder / "tokenizer.json"))
    pads = {"bert": "[PAD]", "siglip": {"content": "</s>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pads[kind]}))


CLIPA = {
    **PLAIN,
    "text_cfg": {
        **OWN,
        "hf_tokenizer_name": "bert-base-uncased",
        "tokenizer_kwargs": {"strip_sep_token": True},
        "pool_type": "last",
        "no_causal_mask": True,
    },
}
SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": VISION,
    "text_cfg": {
        **OWN,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "pool_type": "last",
        "no_causal_mask": True,
        "proj_bias": True,
        "norm_kwargs": {"eps": 1e-6},
    },
}


def test_a_clip_with_a_tokenizer_of_its_own_uses_it(tmp_path):
    clip = random_clip(CLIPA)
    folder = hub(tmp_path / "clipa", CLIPA, clip)
    with pytest.raises(DclipError, match=r"tokenizer of its own \(bert-base-uncased\).*clipa"):
        load_clip(str(folder))
    write_tokenizer(folder, "bert")
    loaded = load_clip(str(folder))
    # [CLS] blue hat ##s [SEP], the separator struck out, padded
    assert loaded.tokenizer(["Blue  hats"]).tolist() == [[2, 6, 7, 8, 0, 0, 0, 0]]
    assert loaded.tokenizer(["red " * 20]).tolist() == [[2, 5, 5, 5, 5, 5, 5, 0]]
    assert len(loaded.tokenizer.encode("red " * 20)) == 20
    assert same_texts(loaded, clip)


def test_siglip_loads_with_its_own_tower_for_texts(tmp_path):
    clip = random_clip(SIGLIP)
    assert isinstance(clip, open_clip.CustomTextCLIP)
    half = {"mean": [0.5] * 3, "std": [0.5] * 3}
    folder = hub(tmp_path / "siglip", SIGLIP, clip, resize_mode="squash", **half)
    write_tokenizer(folder, "siglip")
    loaded = load_clip(str(folder))
    assert loaded.tokenizer(["Red, hat!"]).tolist() == [[5, 7, 4, 4, 4, 4, 4, 4]]
    assert same_images(loaded, clip)
    assert same_texts(loaded, clip)
    assert loaded.image_features(pictures(30, 20)).shape == (2, 64)
    # checkpoints of early versions have no tower of their own for texts, and a list for the scale
    early = {key.removeprefix("text."): value for key, value in clip.state_dict().items()}
    early["logit_scale"] = early["logit_scale"].reshape(1)
    save_file(early, folder / "open_clip_model.safetensors")
    assert same_texts(load_clip(str(folder)), clip)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text_cfg": {**OWN, "hf_model_name": "xlm-roberta-base"}}, "reads texts with xlm-rob"),
        ({"multimodal_cfg": {}}, "is a CoCa"),
        ({"text_cfg": {**OWN}}, "knows 12 tokens, OpenAI's tokenizer has 49,408"),
        ({"text_cfg": {**OWN, "tokenizer_mode": "clips"}}, "tokenizer_mode=clips"),
        ({"vision_cfg": {**VISION, "wings": 2}}, "cannot build this CLIP .*wings"),
        (
            {"text_cfg": {**OWN, "hf_tokenizer_name": "nllb", "tokenizer_kwargs": {"language": 1}}},
            r"settings that dclip does not know: \['language'\]",
        ),
    ],
)
def test_clips_that_cannot_be_used_are_refused_by_what_they_are(tmp_path, change, said):
    folder = hub(tmp_path / "clip", {**PLAIN, **change})
    save_file({"logit_scale": torch.zeros(())}, folder / "open_clip_model.safetensors")
    with pytest.raises(DclipError, match=said) as caught:
        load_clip(str(folder))
    assert "\n" not in str(caught.value)


def test_folders_of_transformers_are_named_as_such(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(DclipError, match="is a siglip in transformers' format"):
        load_clip(str(tmp_path))
