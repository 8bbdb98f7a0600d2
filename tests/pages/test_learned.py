"""The list of edits: what a card says, and that no text of an edit is taken for HTML."""

import pytest
import torch
from PIL import Image

from dclip.errors import DclipError
from dclip.files import write_json
from dclip.pages.demo import labelled
from dclip.pages.learned import cards_html, face_of
from helpers.networks import write_edit


def test_a_card_says_what_is_known_of_an_edit(tiny, nets, tmp_path):
    folder = tmp_path / "finetune_odd" / "2026-01-01_00-00-00_aaaaaaaa"
    target = "<script>alert(1)</script> hair"
    write_edit(folder, tiny, nets["model64"], "red_hair", 0.1, edit__target=f'"{target}"')
    write_json(folder / "status.json", {"status": "finished", "command": ["edit.name=<b>odd"]})
    write_json(folder / "metrics.json", {"counterfactual_ratio": 0.5, "images": 3})
    assert face_of(folder) == ()
    for place in ("sources", "samples"):
        (folder / place).mkdir()
        Image.new("RGB", (200, 200), "red").save(folder / place / "image_a.png")
    html = cards_html({"<i>odd</i>": str(folder / "adapter.safetensors")})
    assert "<script>" not in html and "<i>" not in html and "<b>odd" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; hair" in html
    assert html.count("data:image/png") == 2
    assert "It worked" in html and "50 % nearer" in html
    assert str(folder) in html
    assert "Nothing has been learned" in cards_html({})


def test_a_published_file_that_does_not_say_its_t0_is_listed_where_t0_is_given(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(DclipError, match="give sampler"):
        labelled([str(path)])
    edits = labelled([str(path)], 500)
    assert list(edits) == ["mine"]
    assert "mine" in cards_html(edits, 500)
