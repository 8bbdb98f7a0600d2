"""The networks that measure photographs, in their published formats: IR-SE50, BiSeNet, the ADE20K segmenter, CLIPs."""

import json
import os

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import nn

from dclip.errors import DclipError
from dclip.models import registry
from dclip.models.checkpoints import load_clip, load_identity, load_parser
from dclip.models.clip import build_clip
from dclip.models.clip_files import published_config
from dclip.models.identity import CELEBA_CROP, IR_SE50, IrSe, ir_se_config
from dclip.models.parser import BiSeNet, SceneSegmenter
from helpers.published import (
    TINY_CLIP,
    TINY_IR_SE,
    plant,
    randomised,
    write_ade20k,
    write_bisenet,
    write_clip,
    write_identity,
)


def images(count=2, size=48):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def count(net):
    return sum(p.numel() for p in net.parameters())


# ---------------------------------------------------------------------------------------------------- published sizes


def test_ir_se50_is_recognised_from_its_shapes():
    with torch.device("meta"):
        state = IrSe().state_dict()
    assert ir_se_config(state) == IR_SE50
    assert registry.TABLE["arcface"].parameters == 43_797_696


def test_bisenet_has_resnet18_inside_and_the_published_size():
    with torch.device("meta"):
        net, trunk = BiSeNet(), torchvision.models.resnet18()
    names = {k: v.shape for k, v in net.cp.resnet.state_dict().items()}
    assert names == {k: v.shape for k, v in trunk.state_dict().items() if not k.startswith("fc.")}
    assert count(net) == registry.TABLE["bisenet"].parameters
    tensors = sum(v.numel() * v.element_size() for v in net.state_dict().values())
    assert (
        0 < registry.TABLE["bisenet"].files[0].sources[0].size - tensors < 100_000
    )  # the published file holds exactly these


def test_the_scene_encoder_is_resnet50_but_for_its_stem():
    with torch.device("meta"):
        net, trunk = SceneSegmenter(), torchvision.models.resnet50()
    stem = (
        "conv1.",
        "bn1.",
        "conv2.",
        "bn2.",
        "conv3.",
        "bn3.",
        "fc.",
        "layer1.0.conv1.",
        "layer1.0.downsample.0.",
    )
    ours, theirs = (
        {k: v.shape for k, v in each.state_dict().items() if not k.startswith(stem)}
        for each in (net.encoder, trunk)
    )
    assert ours == theirs
    assert net.encoder.layer1[0].conv1.weight.shape == (64, 128, 1, 1)
    assert net.decoder.conv_last[0].weight.shape == (512, 2048 + 4 * 512, 3, 3)
    assert count(net) == registry.TABLE["ade20k"].parameters


@pytest.mark.parametrize(
    "name", [e.name for e in registry.TABLE.values() if e.kind == "clip" and not e.shipped]
)
def test_a_published_clip_has_its_size_and_its_activation(name):
    entry = registry.TABLE[name]
    config = published_config(entry.format)
    with torch.device("meta"):
        net = build_clip(config)
    assert count(net) == entry.parameters
    assert config["vision_cfg"]["image_size"] == entry.image_size
    assert config.get("quick_gelu", False) == ("laion" not in name)
    kinds = {type(m).__name__ for m in net.transformer.modules()}
    assert ("QuickGELU" in kinds) == ("laion" not in name)
    size = entry.files[0].sources[0].size
    if size is not None:
        assert (
            0
            < size - sum(v.numel() * v.element_size() for v in net.state_dict().values())
            < 500_000
        )


# ---------------------------------------------------------------------------------------------------- what they compute


@torch.no_grad()
def test_bisenets_trunk_computes_what_torchvisions_resnet18_does():
    ours = randomised(BiSeNet()).cp.resnet
    theirs = torchvision.models.resnet18()
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    theirs.eval()
    x = images(1, 64)
    y = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
    expected = []
    for layer in (theirs.layer2, theirs.layer3, theirs.layer4):
        y = layer(y)
        expected.append(y)
    for mine, wanted in zip(ours(x), expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_scene_encoder_dilates_as_torchvisions_does():
    ours = randomised(SceneSegmenter(width=8)).encoder
    theirs = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck,
        [3, 4, 6, 3],
        width_per_group=64,
        replace_stride_with_dilation=[False, True, True],
    )
    shapes = {}
    for name, mine in ours.named_modules():  # the same strides and dilations, layer by layer
        if isinstance(mine, nn.Conv2d) and name.startswith("layer"):
            other = theirs.get_submodule(name)
            shapes[name] = (mine.stride, mine.dilation, mine.padding, mine.kernel_size)
            assert shapes[name] == (
                other.stride,
                other.dilation,
                other.padding,
                other.kernel_size,
            ), name
    assert len(shapes) == 52
    assert ours(images(1, 64)).shape == (1, 256, 8, 8)


@torch.no_grad()
def test_bisenet_computes_what_its_description_says():
    """The same arithmetic once more, from the layers' weights alone."""
    net = randomised(BiSeNet(width=4))
    x = images(1, 64)
    p = dict(net.named_modules())

    def cbr(name, v):
        conv, bn = p[f"{name}.conv"], p[f"{name}.bn"]
        return F.batch_norm(
            F.conv2d(v, conv.weight, padding=conv.weight.shape[-1] // 2),
            bn.running_mean,
            bn.running_var,
            bn.weight,
            bn.bias,
        ).relu()

    def arm(name, v):
        v = cbr(f"{name}.conv", v)
        bn = p[f"{name}.bn_atten"]
        a = F.conv2d(F.adaptive_avg_pool2d(v, 1), p[f"{name}.conv_atten"].weight)
        return v * F.batch_norm(a, bn.running_mean, bn.running_var, bn.weight, bn.bias).sigmoid()

    f8, f16, f32 = net.cp.resnet(x)
    avg = cbr("cp.conv_avg", F.adaptive_avg_pool2d(f32, 1))
    up32 = cbr(
        "cp.conv_head32", F.interpolate(arm("cp.arm32", f32) + avg, f16.shape[2:], mode="nearest")
    )
    up16 = cbr(
        "cp.conv_head16", F.interpolate(arm("cp.arm16", f16) + up32, f8.shape[2:], mode="nearest")
    )
    fused = cbr("ffm.convblk", torch.cat([f8, up16], 1))
    gate = F.conv2d(
        F.conv2d(F.adaptive_avg_pool2d(fused, 1), p["ffm.conv1"].weight).relu(),
        p["ffm.conv2"].weight,
    ).sigmoid()
    expected = F.conv2d(cbr("conv_out.conv", fused * gate + fused), p["conv_out.conv_out"].weight)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_scene_decoder_pools_at_four_scales():
    net = randomised(SceneSegmenter(width=2)).decoder
    x = torch.randn(1, 64, 6, 6, generator=torch.Generator().manual_seed(0))

    def cbr(seq, v, padding):
        conv, bn = [m for m in seq if isinstance(m, nn.Conv2d | nn.BatchNorm2d)][:2]
        return F.batch_norm(
            F.conv2d(v, conv.weight, padding=padding),
            bn.running_mean,
            bn.running_var,
            bn.weight,
            bn.bias,
        ).relu()

    pieces = [x]
    for side, level in zip((1, 2, 3, 6), net.ppm, strict=True):
        pieces.append(
            F.interpolate(
                cbr(level, F.adaptive_avg_pool2d(x, side), 0),
                (6, 6),
                mode="bilinear",
                align_corners=False,
            )
        )
    last = net.conv_last[4]
    expected = F.conv2d(cbr(net.conv_last, torch.cat(pieces, 1), 1), last.weight, last.bias)
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- behind one class


@pytest.mark.parametrize(("name", "most"), [("bisenet", 19), ("ade20k", 150)])
def test_a_parser_maps_every_pixel_at_the_images_own_size(tmp_path, monkeypatch, name, most):
    plant(tmp_path, monkeypatch, name)
    parser = load_parser(name)
    assert not parser.training
    assert not any(p.requires_grad for p in parser.parameters())
    x = images()
    parts = parser.part_map(x)
    assert (parts.shape, parts.dtype) == ((2, 48, 48), torch.int64)
    assert int(parts.min()) >= 0
    assert int(parts.max()) < most
    assert len(parts.unique()) > 1
    assert torch.equal(parser.part_map(x[1:])[0], parts[1])
    assert not torch.equal(parser.part_map(-x), parts)


def test_a_parser_normalises_as_imagenet_does_and_resizes(tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, "bisenet")
    parser = load_parser("bisenet")
    seen = []
    parser.net.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    parser.part_map(torch.full((1, 3, 20, 20), -1.0))
    assert seen[0].shape == (1, 3, 512, 512)
    expected = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_arcface_loads_by_name_with_the_crop_of_aligned_faces(tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, "arcface")
    model = load_identity("arcface")
    assert model.crop == CELEBA_CROP
    assert model.net.config == TINY_IR_SE
    x = images(2, 256)
    inside = F.adaptive_avg_pool2d(x[..., 35:223, 32:220], (8, 8))
    torch.testing.assert_close(model.features(x), model.net(inside))
    torch.testing.assert_close(model.features(x).norm(dim=1), torch.ones(2))
    assert not any(p.requires_grad for p in model.parameters())


def test_a_clip_loads_by_name_with_openais_mean_std_tokens_and_quickgelu(tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, "openai_vit_b_16")
    clip = load_clip("openai_vit_b_16")
    assert (clip.name, clip.size, clip.training) == ("openai_vit_b_16", 32, False)
    assert not any(p.requires_grad for p in clip.parameters())
    torch.testing.assert_close(
        clip.mean.flatten(), torch.tensor([0.48145466, 0.4578275, 0.40821073])
    )
    torch.testing.assert_close(
        clip.std.flatten(), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    )
    assert clip.tokenizer(["a face"]).shape == (1, 77)
    texts = clip.text_features(["a face", "a church"])
    assert not torch.equal(texts[0], texts[1])
    x = images(2, 48).requires_grad_()
    clip.image_features(x).sum().backward()
    assert float(x.grad.abs().sum()) > 0
    plain = build_clip({**TINY_CLIP, "quick_gelu": False})
    plain.load_state_dict(clip.clip.state_dict())  # loads without a word ...
    with torch.no_grad():
        given = clip.preprocess(images(2, 48))
        assert (
            float((plain.eval().encode_image(given) - clip.clip.encode_image(given)).abs().max())
            > 1e-3
        )  # ... and differs


def test_a_clip_loads_from_a_folder_of_open_clip(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_clip(folder / "open_clip_model.safetensors")
    described = {
        "model_cfg": TINY_CLIP,
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    clip = load_clip(str(folder))
    assert (clip.name, clip.size) == ("mine", 32)
    assert clip.std.flatten().tolist() == [0.25] * 3
    (folder / "open_clip_config.json").write_text("<html>")
    refused(load_clip, folder, "open_clip_config.json")
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    (folder / "open_clip_model.safetensors").unlink()
    refused(load_clip, folder, "open_clip_model.safetensors")


# ---------------------------------------------------------------------------------------------------- bad files


def refused(load, path, *words):
    with pytest.raises(DclipError) as caught:
        load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or path.name in message
    for word in words:
        assert word in message
    return message


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


FILES = {"identity": (write_identity, load_identity), "bisenet": (write_bisenet, load_parser)}


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_file_is_refused_in_one_line(tmp_path, kind):
    write, load = FILES[kind]
    path = tmp_path / "net.pth"
    write(path)
    load(str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(load, path, "truncated")
    path.write_text("<!DOCTYPE html><html>Quota exceeded")
    refused(load, path, "web page")
    torch.save({"weight": torch.zeros(3)}, path)
    refused(load, path, "has no")
    path.write_bytes(whole)
    state = torch.load(path, weights_only=True)
    first, some = next(iter(state)), next(k for k in state if k.endswith("running_mean"))
    missing = {k: v for k, v in state.items() if k != some}
    for changed in (
        missing,
        {**missing, "renamed": state[some]},
        {**state, first: state[first][..., :1]},
    ):
        torch.save(changed, path)
        refused(load, path)
    mark = tmp_path / "executed"
    torch.save({**state, "x": Evil(mark)}, path)
    refused(load, path, "nothing in it was run")
    assert not mark.exists()


def test_the_scenes_network_needs_both_of_its_files(tmp_path):
    write_ade20k(tmp_path)
    load_parser(str(tmp_path))
    decoder = tmp_path / "decoder_epoch_20.pth"
    whole = decoder.read_bytes()
    decoder.write_bytes((tmp_path / "encoder_epoch_20.pth").read_bytes())
    with pytest.raises(DclipError, match="is not the ADE20K decoder"):
        load_parser(str(tmp_path))
    decoder.write_bytes(whole[:-100])
    with pytest.raises(DclipError, match="truncated"):
        load_parser(str(tmp_path))
    decoder.unlink()
    with pytest.raises(DclipError, match=r"holds no decoder\*\.pth"):
        load_parser(str(tmp_path))


def test_batch_norms_without_counters_load_as_well(tmp_path):
    """Files from before PyTorch 0.4.1 have none."""
    write_bisenet(tmp_path / "new.pth")
    state = torch.load(tmp_path / "new.pth", weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "old.pth")
    new, old = (load_parser(str(tmp_path / f"{name}.pth")) for name in ("new", "old"))
    assert torch.equal(new.part_map(images()), old.part_map(images()))


def test_another_clip_than_the_name_says_is_refused(tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, "openai_vit_b_16")
    file = tmp_path / registry.TABLE["openai_vit_b_16"].files[0].name
    other = build_clip({**TINY_CLIP, "embed_dim": 8})
    save_file(other.state_dict(), str(file))
    with pytest.raises(DclipError, match="is not the CLIP openai_vit_b_16") as caught:
        load_clip("openai_vit_b_16")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "name"),
    [
        (load_identity, "bisenet"),
        (load_clip, "arcface"),
        (load_parser, "celeba_hq"),
        (load_clip, "celeba_hq"),
    ],
)
def test_a_name_of_another_kind_is_refused(load, name):
    with pytest.raises(DclipError, match=f"{name} is a network of kind"):
        load(name)
