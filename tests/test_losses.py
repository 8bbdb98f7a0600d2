import math

import pytest
import torch
import torch.nn.functional as F

from dclip import losses


def unit(rows):
    return F.normalize(torch.tensor(rows, dtype=torch.float64), dim=-1)


DIRECTION = unit([[1.0, 2.0, -2.0]])[0]
SOURCE = unit([[0.3, 0.1, 0.9], [-0.5, 0.4, 0.1]])


def moved(cosine, length=0.3):
    """Features whose change from SOURCE has this cosine with DIRECTION."""
    across = F.normalize(
        torch.linalg.cross(DIRECTION, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)), dim=0
    )
    return SOURCE + length * (cosine * DIRECTION + math.sqrt(1 - cosine**2) * across)


@pytest.mark.parametrize("length", [0.01, 0.3, 5.0])
def test_directional_loss_is_zero_along_the_direction_and_two_against_it(length):
    assert float(losses.directional(moved(1.0, length), SOURCE, DIRECTION)) == pytest.approx(
        0, abs=1e-4
    )
    assert float(losses.directional(moved(-1.0, length), SOURCE, DIRECTION)) == pytest.approx(
        2, abs=1e-4
    )


@pytest.mark.parametrize("cosine", [-0.6, 0.0, 0.2, 0.5, 0.9])
def test_directional_loss_is_one_minus_the_cosine(cosine):
    assert float(losses.directional(moved(cosine), SOURCE, DIRECTION)) == pytest.approx(
        1 - cosine, abs=1e-5
    )
    torch.testing.assert_close(
        losses.direction_cosine(moved(cosine), SOURCE, DIRECTION),
        torch.full((2,), cosine).double(),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("cosine", "expected"), [(0.0, 0.693), (0.2, 0.511), (0.5, 0.288), (1.0, 0.0)]
)
def test_neg_log_form_has_the_published_values(cosine, expected):
    assert float(losses.directional(moved(cosine), SOURCE, DIRECTION, "neg_log")) == pytest.approx(
        expected, abs=5e-4
    )


def test_shift_asks_for_a_length_along_the_direction_and_then_is_silent():
    source = unit([[1.0, 0.0, 0.0]])
    direction = unit([[0.0, 1.0, 0.0]])[0]
    faint, plain = (source + torch.tensor([[0.0, length, 0.5]]) for length in (0.1, 0.4))
    assert float(losses.shift(faint, source, direction, 0.3)) == pytest.approx(0.2)
    assert float(losses.shift(plain, source, direction, 0.3)) == 0
    assert float(losses.shift(torch.cat([faint, plain]), source, direction, 0.3)) == pytest.approx(
        0.1
    )
    moving = source.clone().requires_grad_()
    losses.shift(moving, source, direction, 0.3).backward()
    torch.testing.assert_close(moving.grad, -direction[None])


def test_neg_log_form_stays_finite_against_the_direction():
    assert math.isfinite(float(losses.directional(moved(-1.0), SOURCE, DIRECTION, "neg_log")))


def test_directional_loss_is_a_mean_over_images():
    edited = torch.stack([moved(1.0)[0], moved(-1.0)[1]])
    assert float(losses.directional(edited, SOURCE, DIRECTION)) == pytest.approx(1, abs=1e-5)


def test_an_unchanged_image_has_a_finite_loss_and_gradient():
    edited = SOURCE.clone().requires_grad_()
    loss = losses.directional(edited, SOURCE, DIRECTION)
    loss.backward()
    assert float(loss) == pytest.approx(1)
    assert bool(torch.isfinite(edited.grad).all())


def test_an_unknown_form_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="choose cosine or neg_log"):
        losses.directional(SOURCE, SOURCE, DIRECTION, "sine")


@pytest.mark.parametrize("form", ["cosine", "neg_log"])
def test_the_gradient_reaches_the_pixels_through_clip(clip, form):
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    edited = (
        (source + 0.2 * torch.randn(source.shape, generator=generator))
        .clamp(-1, 1)
        .requires_grad_()
    )
    direction = losses.text_direction(clip.text_features, "person", "person with red hair")
    losses.directional(
        clip.image_features(edited), clip.image_features(source), direction, form
    ).backward()
    assert bool(torch.isfinite(edited.grad).all())
    assert bool((edited.grad.abs().amax((1, 2, 3)) > 0).all())


def test_a_step_against_the_gradient_lowers_the_loss(clip):
    generator = torch.Generator().manual_seed(1)
    source = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    edited = (source + 0.2 * torch.randn(source.shape, generator=generator)).requires_grad_()
    direction = losses.text_direction(clip.text_features, "person", "zombie")

    def loss():
        return losses.directional(
            clip.image_features(edited), clip.image_features(source), direction
        )

    before = loss()
    before.backward()
    with torch.no_grad():
        edited -= 0.05 * edited.grad / edited.grad.norm()
    assert float(loss()) < float(before)


def test_global_l1_and_identity_losses_by_hand():
    text = torch.tensor([0.0, 1.0])
    features = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]])
    assert float(losses.global_(features, text)) == pytest.approx((0 + 1 + 2) / 3)
    assert float(losses.identity(features, features)) == pytest.approx(0)
    assert float(losses.identity(features, -features)) == pytest.approx(2)
    assert float(losses.identity(features, features.flip(1))) == pytest.approx((1 + 1 + 1) / 3)
    assert float(
        losses.l1(torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.25))
    ) == pytest.approx(0.75)


# ------------------------------------------------------------------------------------ what stays


def test_what_must_stay_is_apart_from_the_edits_own_direction():
    rows = torch.stack([DIRECTION, *unit([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]])])
    basis = losses.keep_basis(rows, DIRECTION)
    assert torch.allclose(basis @ DIRECTION, torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert torch.allclose(basis @ basis.T, torch.eye(2, dtype=torch.float64), atol=1e-9)


def test_a_change_along_the_edit_is_free_and_one_across_is_not():
    basis = losses.keep_basis(unit([[0.0, 1.0, 1.0], [1.0, 0.0, 0.5]]), DIRECTION)
    assert float(losses.kept(moved(1.0), SOURCE, basis)) == pytest.approx(0, abs=1e-12)
    assert float(losses.kept(moved(0.0), SOURCE, basis)) == pytest.approx(0.09, abs=1e-9)


def test_outside_counts_a_spot_and_not_the_region_itself():
    source, edited = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    edited[..., 2:9, 2:9] = 1.0
    inside = float(losses.outside(edited, source))
    edited[..., 14, 14] = 0.5
    assert float(losses.outside(edited, source)) - inside == pytest.approx(0.5 / 256, abs=1e-6)
    assert inside < 0.02


def test_the_region_has_no_gradient():
    source, edited = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    edited[..., 1:5, 1:5] = 1.0
    edited[..., 7, 7] = 0.2
    edited.requires_grad_()
    losses.outside(edited, source).backward()
    assert float(edited.grad[0, 0, 7, 7]) == pytest.approx(1 / 64)
    assert float(edited.grad[0, 0, 2, 2]) == 0
