"""Networks that begin alike compute their beginning once."""

import copy

import pytest
import torch

from dclip.config import Mix
from dclip.diffusion.mix import mix
from dclip.edits.network import NetworkEdit
from dclip.edits.saved import read_edit
from dclip.methods.load import join_edits
from dclip.models.checkpoints import load_model
from dclip.models.shared import Remembered, common_beginning, share, stages
from helpers.networks import write_edit

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def edits(tiny, nets, tmp_path_factory):
    """Low-rank edits of the tiny model: three in its last block only, one everywhere."""
    root = tmp_path_factory.mktemp("shared")
    made = {
        n: write_edit(root / n, tiny, nets["model16"], "red_hair", lora=i, decoder_from=1)
        for i, n in enumerate(NAMES, 1)
    }
    return {
        **made,
        "everywhere": write_edit(root / "everywhere", tiny, nets["model16"], "beard", lora=True),
    }


@pytest.fixture
def model(nets):
    return load_model(str(nets["model16"]))


def on_top(model, name):
    return NetworkEdit.load(read_edit(name), model).network


def ask(fn, seed=0, t=250):
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    with torch.no_grad():
        return fn(x, torch.full((2,), t)).eps


def watch(*nets):
    """Which layers compute: one of the beginning, one of the end."""
    seen = []
    for net in nets:
        net.get_submodule("down_blocks.0.resnets.0.conv1").register_forward_hook(
            lambda *_: seen.append("beginning")
        )
        net.get_submodule("up_blocks.1.resnets.0.conv1").register_forward_hook(
            lambda *_: seen.append("end")
        )
    return seen


def test_stages_are_all_of_the_network_but_its_output(model):
    named = set(stages(model.unet))
    assert {
        n
        for n in {name.split(".")[0] for name, _ in model.unet.named_parameters()}
        if "out" not in n
    } == {name.split(".")[0] for name in named}


def test_the_common_beginning_ends_at_the_first_difference(model, edits):
    nets = [on_top(model, edits[name]).unet for name in ("one", "two", "everywhere")]
    assert common_beginning([model.unet, *nets[:2]])[-1] == "up_blocks.0"
    assert common_beginning([model.unet, nets[2]]) == []
    changed = copy.deepcopy(model.unet)
    with torch.no_grad():
        changed.mid_block.resnets[0].conv1.bias += 1
    assert common_beginning([model.unet, changed])[-1] == "down_blocks.1"


def test_a_mixture_computes_its_beginning_once_a_step_and_is_the_same_picture(model, edits):
    saved = [read_edit(edits[name]) for name in NAMES]
    plain = mix([NetworkEdit.load(edit, model).network.predict for edit in saved], [0.2, 0.3, 0.5])
    editor = join_edits(model, saved, Mix([0.2, 0.3, 0.5]), 500)
    seen = watch(editor.parts[0].unet)
    for step in range(3):
        assert torch.equal(ask(editor.tuned, step, 100 * step), ask(plain, step, 100 * step))
    assert seen.count("beginning") == 3
    seen = watch(*(part.unet for part in editor.parts[1:]))
    ask(editor.tuned, 9)
    assert seen.count("end") == 2


def test_half_a_change_shares_with_the_original(model, edits):
    editor = join_edits(model, [read_edit(edits["one"])], Mix(), 500)
    expected = 0.5 * ask(model.predict) + 0.5 * ask(on_top(model, edits["one"]).predict)
    seen = watch(editor.original.unet)
    torch.testing.assert_close(ask(editor.denoiser(0.5)), expected, rtol=0, atol=1e-6)
    assert seen.count("beginning") == 1


def test_the_callers_network_is_left_alone(model, edits):
    join_edits(model, [read_edit(edits["one"]), read_edit(edits["two"])], Mix(), 500)
    assert not any("forward" in vars(module) for module in model.modules())


def test_edits_that_change_everything_share_nothing(model, edits):
    editor = join_edits(
        model, [read_edit(edits["one"]), read_edit(edits["everywhere"])], Mix(), 500
    )
    assert editor.original is model
    assert not any("forward" in vars(module) for part in editor.parts for module in part.modules())


def test_shared_networks_hold_their_beginning_once_and_can_be_copied(model, edits):
    nets = [on_top(model, edits[name]).unet for name in ("one", "two")]
    before = sum(p.numel() for net in nets for p in net.parameters())
    names = common_beginning(nets)
    assert len(names) == len(list(stages(model.unet))) - 1
    share(nets, names)
    held = {id(p): p.numel() for net in nets for p in net.parameters()}
    assert sum(held.values()) < 0.8 * before
    twin = copy.deepcopy(nets[0])
    x, t = torch.ones(1, 3, 16, 16), torch.tensor([3])
    with torch.no_grad():
        assert torch.equal(twin(x, t, return_dict=False)[0], nets[0](x, t, return_dict=False)[0])


# ------------------------------------------------------------------------------------------- what is remembered


@pytest.fixture
def counted():
    calls = []
    return calls, Remembered(lambda x, *rest, **more: calls.append(1) or x * 2)


def test_the_same_question_is_answered_once(counted):
    calls, remembered = counted
    x = torch.arange(3.0)
    with torch.no_grad():
        for again in (x, x, x.clone()):
            assert torch.equal(remembered(again, (x, None), k=1), 2 * x)
        assert len(calls) == 1
        assert torch.equal(remembered(x + 1, (x, None), k=1), 2 * x + 2)
        remembered(x, (x, None), k=1)
        remembered(x, (x, None), k=2)
        remembered(x, (x + 1, None), k=2)
        remembered(x, (x + 1,), k=2)
        remembered(x[:2], (x + 1,), k=2)
        remembered(x.double(), (x + 1,), k=2)
    assert len(calls) == 8


def test_a_tensor_that_was_changed_in_place_is_another_question(counted):
    calls, remembered = counted
    x = torch.arange(3.0)
    with torch.no_grad():
        remembered(x)
        x += 1
        assert torch.equal(remembered(x), 2 * x)
        x += 1
        assert torch.equal(
            remembered(x.clone()), 2 * x
        )  # equal to what the remembered one has become, not to what it was
    assert len(calls) == 3


def test_with_gradients_everything_is_computed_anew(counted):
    calls, remembered = counted
    x = torch.ones(2, requires_grad=True)
    remembered(x).sum().backward()
    remembered(x).sum().backward()
    assert len(calls) == 2
    assert x.grad.tolist() == [4, 4]


def test_inference_tensors_have_no_count_of_changes_and_work(counted):
    calls, remembered = counted
    with torch.inference_mode():
        x = torch.ones(2)
        remembered(x)
        remembered(x)
    assert len(calls) == 1
