import pytest
import torch
from torchvision.transforms import functional as tv

from dclip.errors import DclipError
from dclip.models.clip import ClipModel, build_clip
from helpers.networks import TINY_CLIP


def test_clip_features_are_unit_vectors_for_pictures_of_any_size(clip):
    for shape in ((1, 3, 64, 64), (2, 3, 16, 16), (1, 3, 100, 70)):
        features = clip.image_features(torch.rand(shape) * 2 - 1)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(shape[0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        clip.text_features(["a", "red hair"]).norm(dim=-1), torch.ones(2), rtol=0, atol=1e-5
    )


def test_clip_reads_any_text(clip):
    texts = ["", "person with red hair", "ünïcödé 😀 漢字"]
    features = clip.text_features(texts)
    assert features.shape == (3, TINY_CLIP["embed_dim"])
    assert bool(torch.isfinite(features).all())
    assert not torch.equal(features[0], features[1])


def test_a_clip_is_built_from_its_configuration():
    clip = build_clip(TINY_CLIP)
    assert clip.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, 16)


@pytest.mark.parametrize(
    "shape", [(300, 451), (451, 300), (225, 227), (100, 333), (32, 32), (224, 301)]
)
def test_pictures_of_any_shape_are_scaled_and_cropped_as_by_openai(shape):
    """OpenAI's preprocessing is torchvision's Resize (bicubic), CenterCrop and Normalize."""
    clip = ClipModel(torch.nn.Identity(), None, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28), 224)
    images = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = tv.resize((images + 1) / 2, [224], tv.InterpolationMode.BICUBIC, antialias=True)
    assert (
        x.shape[-2:]
        == (224, int(224 * max(shape) / min(shape)))[:: 1 if shape[0] <= shape[1] else -1]
    )
    x = tv.normalize(tv.center_crop(x, [224]), [0.48, 0.46, 0.41], [0.27, 0.26, 0.28])
    torch.testing.assert_close(clip.preprocess(images), x, rtol=1e-5, atol=1e-5)


def test_a_text_that_would_be_cut_off_is_refused(clip):
    text = "a " * 31
    with pytest.raises(
        DclipError, match=r"a text is too long for the CLIP .*33 tokens, it reads 32"
    ):
        clip.text_features(["short", text])
    assert clip.text_features(["a " * 30]).shape == (1, TINY_CLIP["embed_dim"])
