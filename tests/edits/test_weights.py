import pytest

from dclip.config import Mix
from dclip.edits.weights import constant_weights, weights_of
from dclip.errors import DclipError

# ------------------------------------------------------------------------------------------- weights over time


def test_weights_are_equal_unless_told():
    assert weights_of(None, 2, 500)(300) == [0.5, 0.5]
    assert weights_of([0.3, 0.7], 2, 500)(7) == [0.3, 0.7]


def test_piecewise_weights_are_those_of_the_highest_threshold_that_t_reaches():
    weights = weights_of({0: [0.3, 0.7], 300: [1, 0]}, 2, 500)
    assert [weights(t) for t in (500, 300, 299, 0)] == [[1, 0], [1, 0], [0.3, 0.7], [0.3, 0.7]]


@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_schedule_fades_from_the_first_edit_to_the_last(name, count):
    weights = weights_of(name, count, 500)
    assert weights(500) == [1.0] + [0.0] * (count - 1)
    assert weights(0) == [0.0] * (count - 1) + [1.0]
    assert all(sum(weights(t)) == pytest.approx(1) and min(weights(t)) >= 0 for t in range(501))
    assert weights(250) == pytest.approx([0.5, 0.5] if count == 2 else [0, 1, 0])
    firsts = [weights(t)[0] for t in range(0, 501, 50)]
    assert firsts == sorted(firsts)


def test_linear_and_cosine_differ_between_the_ends():
    assert weights_of("linear", 2, 400)(300) == pytest.approx([0.75, 0.25])
    assert weights_of("cosine", 2, 400)(300) == pytest.approx([0.8535534, 0.1464466])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ([0.4, 0.4], "sum to 0.8, not to 1"),
        ([0.5, 0.3, 0.2], "has 3 weights for 2 edits"),
        ([1.0], "has 1 weight for 2 edits"),
        ([float("nan"), 1.0], "must be numbers"),
        (["a", "b"], "must be numbers"),
        (0.5, "must be numbers"),
        ({300: [0.4, 0.6, 0], 0: [0.5, 0.5]}, "mix.weights[300]=[0.4, 0.6, 0] has 3 weights"),
        ({300: [0.4, 0.6], 0: [0.5, 0.6]}, "mix.weights[0]=[0.5, 0.6] sum to 1.1"),
        ({300: [0.4, 0.6]}, "says nothing of the last steps"),
        ({"high": [0.4, 0.6], 0: [0.5, 0.5]}, "must map timesteps"),
        ({}, "says nothing"),
        ("quadratic", "choose linear, cosine"),
    ],
)
def test_weights_that_cannot_be_are_refused_in_one_line(spec, said):
    with pytest.raises(DclipError) as caught:
        weights_of(spec, 2, 500)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schedule_of_one_edit_and_a_soup_that_changes_are_refused():
    with pytest.raises(DclipError, match="names only one"):
        weights_of("linear", 1, 500)
    for spec in ("linear", {0: [0.5, 0.5]}):
        with pytest.raises(DclipError, match=r"mix\.soup=true merges .* cannot change with t"):
            constant_weights(Mix(spec, soup=True), 2)
        with pytest.raises(DclipError, match=r"mix\.in_turn=true applies .* cannot change with t"):
            constant_weights(Mix(spec, in_turn=True), 2)
