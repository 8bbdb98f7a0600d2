import torch

from dclip.models.clip import build_clip
from helpers.networks import TINY_CLIP


def test_clip_features_are_unit_vectors_for_pictures_of_any_size(clip):
    for shape in ((1, 3, 64, 64), (2, 3, 16, 16), (1, 3, 100, 70)):
        features = clip.image_features(torch.rand(shape) * 2 - 1)
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(shape[0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        clip.text_features(["a", "red hair"]).norm(dim=-1), torch.ones(2), rtol=0, atol=1e-5
    )


def test_clip_reads_any_text(clip):
    texts = ["", "person with red hair", "ünïcödé 😀 漢字", "word " * 500]
    features = clip.text_features(texts)
    assert features.shape == (4, TINY_CLIP["embed_dim"])
    assert bool(torch.isfinite(features).all())
    assert not torch.equal(features[0], features[1])


def test_a_clip_is_built_from_its_configuration():
    clip = build_clip(TINY_CLIP)
    assert clip.encode_image(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
