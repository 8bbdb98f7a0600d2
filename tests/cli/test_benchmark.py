"""dclip benchmark, as typed."""

import shutil

import pytest

from dclip.cli import benchmark, command
from dclip.errors import DclipError
from dclip.files import read_json
from dclip.metrics.benchmark import minimality
from dclip.pages.board import read_board


@pytest.fixture(autouse=True)
def few_references(monkeypatch):
    monkeypatch.setattr(minimality.Minimality, "references", 2)


def test_what_is_exported_can_be_scored(tmp_path, capsys):
    folder, results = tmp_path / "cf", tmp_path / "mine"
    part = ["--edits", "beard", "--faces", "2"]
    assert benchmark.main(["export", str(folder), *part]) == 0
    results.mkdir()
    (folder / "beard" / "source").rename(results / "beard")  # a method that does nothing
    words = ["score", str(results), *part, "--output", str(tmp_path / "out"), "--bootstrap", "20"]
    assert benchmark.main(words) == 0
    said = capsys.readouterr().out
    assert "1 edit and 0 pairs of edits, 2 faces each" in said
    assert said.count(command := "dclip benchmark score RESULTS --edits beard --faces 2") == 1
    assert command in (folder / "README.md").read_text("utf-8")
    assert "beard" in said and "0.000 [0.00, 0.00]" in said and "2 of 2" in said
    assert (tmp_path / "out" / "report.html").is_file()
    assert read_json(tmp_path / "out" / "summary.json")["complete"] is True
    (results / "beard" / "test_00002.png").rename(results / "beard" / "x.png")
    assert benchmark.main(words) == 1
    assert "left out: 2" in capsys.readouterr().out


def test_a_method_of_ones_own_becomes_a_line_of_a_leaderboard(tmp_path, capsys):
    board, part = tmp_path / "board", ["--edits", "beard", "--faces", "2"]
    assert benchmark.main(["export", str(tmp_path / "cf"), *part]) == 0
    for name in ("first", "second"):
        shutil.copytree(tmp_path / "cf" / "beard" / "source", tmp_path / name / "beard")
        words = ["score", str(tmp_path / name), "--output", str(tmp_path / "out")]
        assert benchmark.main([*words, "--leaderboard", str(board), *part]) == 0
    assert f"added to {board / 'leaderboard.md'}" in capsys.readouterr().out
    assert list(read_board(board).cards) == ["first", "second"]
    with pytest.raises(DclipError, match=r"no line was added .* they are of 2 faces, the new"):
        benchmark.main([*words, "--leaderboard", str(board), "--edits", "beard", "--faces", "1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "DIR", "--faces", "0"], "--faces 0 is impossible; choose 1 to 100"),
        (["score", "DIR", "--faces", "101"], "choose 1 to 100"),
        (["score", "DIR", "--bootstrap", "-1"], "choose 0"),
        (["export", "DIR", "--edits", "bread"], "did you mean beard"),
        (["score", "nowhere"], "nowhere is no folder"),
    ],
)
def test_bad_settings_are_refused_in_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DclipError, match=message) as caught:
        benchmark.main(words)
    assert "\n" not in str(caught.value)


def test_the_command_is_known():
    assert command.command_of(["benchmark", "score", "DIR"]) == "cli.benchmark"
