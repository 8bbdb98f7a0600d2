import re
from dataclasses import replace

from dclip.cli import weights
from dclip.models import registry
from dclip.models.registry import TABLE
from helpers.known_weights import in_a_process
from helpers.published import write_ddim
from helpers.runs import ROOT, command
from helpers.server import serving

# ------------------------------------------------------------ the command line


def cli(capsys, *given):
    code = weights.main(given)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_list_is_an_aligned_table_of_everything(capsys, nowhere, monkeypatch):
    monkeypatch.setenv("COLUMNS", "132")
    code, out, _ = cli(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "SHOWS", "MB", "FORMAT", "HERE", "LICENCE"]
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in TABLE)
    column = lines[0].index("KIND")
    assert all(
        line[column - 1] == " " and line[column] != " "
        for line in lines
        if line.split(" ")[0] in TABLE
    )
    assert max(map(len, lines[:-1])) <= 132
    assert lines[-1].startswith("looked for in: ")


def test_where_and_verify_tell_by_their_exit_codes(capsys, nowhere, tmp_path, monkeypatch):
    assert cli(capsys, "where")[:2] == (
        0,
        f"{tmp_path / 'empty'}\n{tmp_path / 'pretrained'}\n{tmp_path / 'empty' / 'weights'}\n",
    )
    code, out, _ = cli(capsys, "where", "celeba_hq")
    assert code == 1
    assert "put pretrained/celeba_hq.ckpt" in out
    assert cli(capsys, "verify")[0] == 0
    code, out, _ = cli(capsys, "verify", "celeba_hq")
    assert (code, out.split()) == (1, ["celeba_hq", "MISSING", "-", "not", "here"])
    (tmp_path / "pretrained").mkdir()
    write_ddim(tmp_path / "pretrained" / "celeba_hq.ckpt")
    write_ddim(tmp_path / "pretrained" / "cifar10.ckpt")
    assert cli(capsys, "where", "celeba_hq")[:2] == (
        0,
        f"{tmp_path / 'pretrained' / 'celeba_hq.ckpt'}\n",
    )
    code, out, _ = cli(capsys, "verify", "celeba_hq")
    assert code == 0
    assert "no hash is published" in out
    code, out, _ = cli(capsys, "verify")
    assert code == 1
    assert re.search(r"cifar10 +WRONG .*its md5 is \w+\.\.\., not 82ed3067fd10", out)
    assert re.search(r"celeba_hq +ok ", out)


def test_fetch_fetches_and_says_where_to(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DCLIP_WEIGHTS", str(tmp_path))
    with serving(body=b"weights") as site:
        files = (replace(TABLE["celeba_hq"].files[0], sources=(registry.Source(f"{site.url}/a"),)),)
        monkeypatch.setitem(TABLE, "celeba_hq", replace(TABLE["celeba_hq"], files=files))
        dead = (replace(TABLE["ffhq"].files[0], sources=(registry.Source(f"{site.url}/missing"),)),)
        monkeypatch.setitem(TABLE, "ffhq", replace(TABLE["ffhq"], files=dead))
        code, out, err = cli(capsys, "fetch", "ffhq", "celeba_hq", "--quiet")
    assert code == 1
    assert out == f"celeba_hq  {tmp_path / 'celeba_hq.ckpt'}\n"
    assert "error: ffhq: no source gave ffhq_10m.pt" in err
    assert (tmp_path / "celeba_hq.ckpt").read_bytes() == b"weights"


def test_the_command_is_reached_through_run_py(nowhere, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done, code, heavy = in_a_process("weights", "fetch", "celeba_hq")
    assert (code, heavy) == (2, [])
    assert (
        done.stderr
        == "error: nothing may be fetched (HF_HUB_OFFLINE=1); unset it, or fetch on another machine and copy the files\n"
    )
    done, code, _ = in_a_process("weights", "where", "nothing")
    assert code == 2
    assert done.stderr.startswith("error: no weights are called 'nothing'; known: toonfaces")
    assert command("weights", "remove", cwd=tmp_path).returncode == 2
