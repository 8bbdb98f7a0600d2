import runpy

from conftest import ROOT


def test_the_page_on_scale_is_what_its_script_writes():
    script = runpy.run_path(str(ROOT / "docs" / "scale.py"), run_name="docs")
    assert script["page"]() == (ROOT / "docs" / "scale.md").read_text("utf-8")
