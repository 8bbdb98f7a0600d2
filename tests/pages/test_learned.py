"""The list of edits: what a card says, and that no text of an edit is taken for HTML."""

from PIL import Image

from dclip.files import write_json
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
