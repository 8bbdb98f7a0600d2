"""Names and texts as a shell user types them reach the run letter by letter."""

import os
from pathlib import Path

import pytest

from dclip.cli import command as cli
from dclip.errors import DclipError
from dclip.prepare.quoting import as_settings, comma_note, in_quotes, quoted, split
from dclip.prepare.words import parse_words, paths_in
from dclip.study.document import split_args
from helpers.runs import configure, refusal

ODD = [
    "photo (1).png",
    "IMG[1].png",
    "{a}.png",
    "a, b.png",
    "x=1.png",
    "größe.png",
    "写真.png",
    "фото.png",
    "a man's hat",
    'a "man"',
    "costs $5",
    "it's (1), isn't it?",
    "50 % & more; #1 !",
    "a: b",
    "(",
    "a)b[",
    "100 %",
    "2024_01",
    "1e5",
    "007",
    "nan",
    "[a",
    "a\\b",
    "emoji 🙂",
]


@pytest.mark.parametrize("text", ODD)
def test_a_text_arrives_as_it_was_typed(text):
    cfg = configure(f"note={text}")
    assert cfg.note == text
    again = as_settings(as_settings([f"note={text}"]))
    assert again == as_settings([f"note={text}"])


@pytest.mark.parametrize("text", [*ODD, "null", "a\\'b", "a\\"])
def test_a_text_in_quotes_arrives_whatever_is_in_it(text):
    assert configure(f"note={in_quotes(text)}").note == text
    assert configure(f"guidance.targets=[{in_quotes(text)},b]").guidance.targets == [text, "b"]


@pytest.mark.parametrize("text", ["größer, älter", "a cat (grey)", "O'Brien", "[old] man"])
def test_texts_of_every_kind_of_setting_arrive(text):
    cfg = configure(f"edit.target={text}", f"edit.source=no {text}", f"guidance.targets={text}")
    assert (cfg.edit.target, cfg.edit.source, cfg.guidance.targets) == (text, f"no {text}", text)
    cfg = configure(f"guidance.targets=[{text.replace(',', '')},a dog (old)]")
    assert cfg.guidance.targets == [text.replace(",", ""), "a dog (old)"]


def test_what_is_in_hydras_grammar_stays():
    words = [
        "edit.target='a man, old'",
        'edit.target="größe"',
        "edit.target=a\\, b",
        "guidance.targets=[a,b]",
        "note=${edit.name}",
        "input=null",
        "sampler.t0=300",
        "guidance.targets=[7]",
        "mix.weights={300: [1, 0], 0: [0.3, 0.7]}",
        "degrees=[0,0.5]",
        "hydra/launcher=joblib",
        "-m",
        "+x=1",
        "edit.target=",
    ]
    assert as_settings(words) == words
    assert configure("edit.target='a man, old'").edit.target == "a man, old"
    assert configure("note=${edit.name}").note == "red_hair"


def test_a_tilde_is_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    here = str(tmp_path)
    assert configure("output=~/runs").output == f"{here}/runs"
    assert configure("output='~/my runs (1)'").output == f"{here}/my runs (1)"
    assert configure("note=~5 minutes").note == "~5 minutes"
    assert as_settings(["edit.adapter=[~/a,~/b]"]) == [f"edit.adapter=[{here}/a,{here}/b]"]
    assert as_settings(["dataset.root=~"]) == [f"dataset.root={here}"]
    own = tmp_path / "conf" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\noutput: ~/mine\n")
    path = f"hydra.searchpath=[file://{own.parent}]"
    assert configure(path, "experiment=mine").output == f"{here}/mine"


def test_a_setting_that_is_no_text_is_refused_by_name_and_not_by_the_lexer():
    assert "sampler.t0" in refusal("sampler.t0=300 (half)")
    assert "did you mean red_hair?" in refusal("edit=red_häir")
    assert "größe" in refusal("größe=1")
    for word in ("sampler.t0=300 (half)", "edit=red_häir", "größe=1"):
        assert "Lexer" not in refusal(word)


@pytest.mark.parametrize("word", ["note=${", "input=x${y.png", "note=a ${nothing}"])
def test_a_reference_to_no_setting_is_refused_by_its_word(word):
    assert "${" in refusal(word) or "nothing" in refusal(word)


def test_a_name_that_is_no_valid_text_is_refused():
    name = os.fsdecode(b"gr\xf6\xdfe.png")
    with pytest.raises(DclipError, match="not valid UTF-8"):
        configure(f"input={name}")


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("a man, smiling", ["a man", "smiling"]),
        ("'a, b',c", ["'a, b'", "c"]),
        ("[a,b],[c]", ["[a,b]", "[c]"]),
        ("photo (1, 2).png,b", ["photo (1, 2).png", "b"]),
        ("a man's hat, red", ["a man's hat", "red"]),
        ("a (b, c", ["a (b", "c"]),
        ("a) b, c", ["a) b", "c"]),
        ("x", ["x"]),
    ],
)
def test_a_sweep_is_split_at_commas_outside_of_quotes_and_brackets(value, parts):
    assert split(value) == parts


def test_in_a_sweep_a_comma_separates_values_of_any_letters():
    words = as_settings(["-m", "note=größe (1),写真", "sampler.t0=300,400"], sweep=True)
    assert words == ["-m", "note='größe (1)','写真'", "sampler.t0=300,400"]
    jobs = cli._jobs(words, sweep=True)
    notes = {configure(*job).note for job in jobs}
    assert notes == {"größe (1)", "写真"} and len(jobs) == 4
    kept = ["-m", "edit=red_hair,zombie", "note=choice(a,b)", "note='a, b',c"]
    assert as_settings(kept, sweep=True) == kept


def test_a_sweep_says_how_to_write_a_text_with_a_comma(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DclipError) as caught:
        cli.precheck(["-m", "task=edit", "edit.adapter=x.safetensors", "input=a,b.png"])
    message = str(caught.value)
    if "input=a" in message:
        assert "write \"input='a, b.png'\"" in message
    assert comma_note(["edit.target=a man, smiling"], spaced=True).endswith(
        "write \"edit.target='a man, smiling'\""
    )
    assert comma_note(["edit.target=a,b"], spaced=True) == ""
    assert comma_note(["edit=red_hair, zombie", "sampler.t0=300, 400"]) == ""


@pytest.mark.parametrize("path", ["a b", "a,b", "größe", "it's", "(1)", "2024_01", Path("x") / "y"])
def test_a_path_in_a_setting_is_the_path(path):
    assert configure(f"output={quoted(path)}").output == str(path)
    assert configure(f"edit.name={quoted(path)}").edit.name == str(path)


def test_commands_that_hydra_does_not_read_know_the_users_folder_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a, b").mkdir()
    words = parse_words(["runs=~/a, b", "output=x=1"], ("runs", "output"), "task=report")
    assert words == {"runs": f"{tmp_path}/a, b", "output": "x=1"}
    assert paths_in(words["runs"]) == [f"{tmp_path}/a, b"]
    assert paths_in("a,~/b") == ["a", f"{tmp_path}/b"]
    assert split_args(["study=x", "output=~/y"])[0]["output"] == f"{tmp_path}/y"
