import torch

from dclip.data.toonfaces.domain import LOOKS
from dclip.models.judge import Judge


def test_the_judge_answers_for_every_attribute_at_any_size():
    from dclip.data.toonfaces.faces import ATTRIBUTES, PARTS

    judge = Judge(LOOKS, 4).eval()
    for size in (64, 100):
        seen = judge.attributes(torch.rand(2, 3, size, size) * 2 - 1)
        assert seen.keys() == ATTRIBUTES.keys()
        assert all(0 <= int(v) < len(ATTRIBUTES[k]) for k, values in seen.items() for v in values)
        parts = judge.part_map(torch.rand(2, 3, size, size) * 2 - 1)
        assert parts.shape == (2, 64, 64)
        assert int(parts.max()) < len(PARTS)
