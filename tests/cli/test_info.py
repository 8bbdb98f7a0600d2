"""``dclip info``: the block for a bug report."""

from dclip import __version__
from dclip.cli import info
from dclip.files import write_json


def said(output):
    return dict(info.lines(output))


def test_it_says_versions_machine_and_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("DCLIP_CACHE", "/some/where")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    block = said(tmp_path)
    assert block["dclip"].startswith(__version__)
    assert "torch" in block["packages"] and "diffusers" in block["packages"]
    assert "cores" in block["processor"]
    assert "DCLIP_CACHE=/some/where" in block["variables"]
    assert "secret" not in str(block)
    assert block["last error"] == f"no failed run below {tmp_path}"


def test_it_ends_with_the_newest_error(tmp_path):
    for day, state, reason in ((1, "failed", "old"), (3, "failed", "no room"), (4, "finished", "")):
        folder = tmp_path / "red_hair" / f"2026-01-0{day}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0\n")
        status = {"status": state, "reason": reason, "command": ["experiment=toonfaces_red_hair"]}
        write_json(folder / "status.json", status)
    error = said(tmp_path)["last error"]
    assert error == "2026-01-03 failed: no room (settings: experiment=toonfaces_red_hair)"


def test_it_prints_one_line_each(tmp_path, capsys):
    assert info.main(["--output", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(said(tmp_path))
