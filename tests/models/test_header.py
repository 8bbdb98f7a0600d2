"""What a file's name and header say."""

import pytest

from dclip.models import header


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("human_tanned_t201.pth", 201),
        ("a/b/human_pixar_t601.pth", 601),
        ("dog_bear_t500", 500),
        ("celeba_hq.ckpt", None),
        ("cat_t601_v2.pth", None),
        ("x_t0.pth", None),
        ("x_t1000.pth", None),
        ("test601.pth", None),
    ],
)
def test_t0_is_read_from_published_names(name, expected):
    assert header.t0_from_name(name) == expected
