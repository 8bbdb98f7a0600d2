import pytest
import torch
import torch.nn.functional as F

from dclip import losses


def test_text_direction_is_a_unit_vector_and_turns_round_with_the_texts(clip):
    there = losses.text_direction(clip.text_features, "person", "zombie")
    back = losses.text_direction(clip.text_features, "zombie", "person")
    assert float(there.norm()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(there, -back, rtol=0, atol=1e-5)


def test_identical_texts_are_refused(clip):
    with pytest.raises(ValueError, match="'person' and 'person'"):
        losses.text_direction(clip.text_features, "person", "person")


def test_templates_are_averaged_before_the_direction_is_normalised():
    table = {"x a": [1.0, 0.0], "x b": [0.0, 1.0], "y a": [0.0, 0.0], "y b": [3.0, 0.0]}
    direction = losses.text_direction(
        lambda texts: torch.tensor([table[t] for t in texts]), "a", "b", ["x {}", "y {}"]
    )
    torch.testing.assert_close(direction, F.normalize(torch.tensor([2.0, 1.0]), dim=0))


def test_imagenet79_leaves_out_one_of_the_eighty_templates():
    made = losses.templates("imagenet79")
    assert len(made) == 79
    assert len(set(made)) == 79
    assert all(text.count("{}") == 1 for text in made)
    assert "a photo of many {}." not in made
    assert "a bad photo of a {}." in made


def test_without_templates_a_text_stays_as_it_is():
    assert [t.format("red hair") for t in losses.templates("none")] == ["red hair"]


def test_unknown_templates_are_refused():
    with pytest.raises(ValueError, match="imagenet80"):
        losses.templates("imagenet80")
