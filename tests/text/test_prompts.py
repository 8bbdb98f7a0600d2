import numpy as np
import pytest

from dclip.data.cifar10 import CIFAR10
from dclip.data.toonfaces.words import parse_attributes, siblings
from dclip.text.prompts import Prompt
from helpers.runs import configure

# ------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(("text", "expected"), [
    ("a smiling person with a beard", {"expression": "smiling", "beard": "full"}),
    ("person with red hair", {"hair_color": "red"}),
    ("angry face", {"expression": "angry"}),
    ("A Furious Human with long light brown hair", {"expression": "angry", "hair_length": "long", "hair_color": "light_brown"}),
    ("a tanned face", {"skin": "tanned"}),
    ("person with dark skin, a goatee and moustache and red clothes", {"skin": "dark", "beard": "goatee", "clothes_color": "red"}),
    ("person with no beard", {"beard": "none"}),
    ("a person with a very long beard", {"beard": "long"}),
    ("a person without a beard", {}),
    ("zombie", {"skin": "green"}),
    ("pixel art of a person", {"style": "pixel"}),
    ("a black and white sketch of a sad person", {"style": "sketch", "expression": "sad"}),
    ("airplane", {}),
    ("a hairy brownie", {}),
])  # fmt: skip
def test_the_attributes_that_a_text_names_are_read(text, expected):
    assert parse_attributes(text) == expected


def test_every_caption_is_read_back():
    from dclip.data.toonfaces.captions import caption
    from dclip.data.toonfaces.faces import sample_face

    rng = np.random.default_rng(0)
    for i in range(300):
        face = sample_face("train", i, "all")
        text = caption(face, rng)
        named = parse_attributes(text)
        assert all(face[name] == value for name, value in named.items()), text
        words = (
            "hair",
            "beard",
            "skin",
            "clothes",
            "moustache",
            "goatee",
            "sketch",
            "pixel",
            "zombie",
            "drawing",
        )
        assert named or not any(word in text for word in words), text


def test_siblings_change_one_attribute_and_keep_the_wording():
    assert siblings("angry face") == ("calm face", "smiling face", "sad face", "surprised face")
    found = siblings("a smiling person with a beard")
    assert "an angry person with a beard" in found
    assert "a smiling person with no beard" in found
    assert len(found) == 4 + 4
    assert "pale person" in siblings("zombie")
    assert siblings("airplane") == ()
    for text in found:
        assert (
            len(
                set(parse_attributes(text).items()) ^ {("expression", "smiling"), ("beard", "full")}
            )
            == 2
        )


def test_named_distractors():
    cfg = configure(
        "task=sample",
        "guidance=contrastive",
        "guidance.targets=airplane",
        "guidance.distractors=cifar10",
    )
    from dclip.text.prompts import resolve

    (prompt,) = resolve(cfg)
    assert set(prompt.distractors) == set(CIFAR10) - {"airplane"}
    cfg = configure(
        "task=sample",
        "guidance=contrastive",
        "guidance.targets=red truck",
        "guidance.distractors=cifar10",
    )
    assert "truck" not in resolve(cfg)[0].distractors
    cfg = configure(
        "task=sample", "guidance=contrastive", "edit=smiling", "guidance.distractors=source"
    )
    assert resolve(cfg) == (Prompt("smiling face", 1.0, ("face",), {"expression": "smiling"}),)
