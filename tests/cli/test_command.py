import pytest
from omegaconf import OmegaConf

from dclip.cli import command as cli
from dclip.errors import DclipError
from helpers.known_weights import in_a_process
from helpers.runs import ROOT, command, command_here


def test_words_find_their_command():
    assert (
        cli.command_of(["task=report", "runs=x"])
        == cli.command_of(["report", "runs=x"])
        == "study.collect"
    )
    assert cli.command_of(["task=preference", "a=x"]) == "pages.preference"
    assert cli.command_of(["study=toonfaces_table1"]) == "study.command"
    assert (
        cli.command_of(["experiment=celeba"])
        is cli.command_of([])
        is cli.command_of(["task=edit"])
        is None
    )
    with pytest.raises(DclipError, match="leave -m out"):
        cli.command_of(["-m", "study=a,b"])


def test_hydra_is_asked_for_its_mode_only_where_a_setting_of_its_own_may_say_it(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "_ask_mode", lambda *words: asked.append(words[-1]))
    assert cli.Hydra.get_mode(None, "config", ["seed=1"]) is None
    assert asked == []
    cli.Hydra.get_mode(None, "config", ["seed=1", "hydra.mode=MULTIRUN"])
    assert asked == [["seed=1", "hydra.mode=MULTIRUN"]]


def test_help_is_left_to_hydra():
    cli.precheck(["--help", "sampler.t0=1000"])
    cli.precheck(["--cfg", "job", "sampler.t0=1000"])


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("sampler=dim", 2)])
def test_the_command_line_answers_without_torch(word, code, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    _, ended, heavy = in_a_process(word)
    assert (ended, heavy) == (code, [])


def test_a_typo_on_the_command_line_is_one_line_and_exit_code_two(tmp_path):
    done = command("sampler=dim", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: sampler=dim does not exist; did you mean ddim?")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_options_may_stand_anywhere(tmp_path, capsys):
    words = (
        "experiment=toonfaces_red_hair",
        "--cfg",
        "job",
        "sampler.t0=300",
        f"output={tmp_path}",
    )
    command_here(*words, cwd=tmp_path)
    assert "t0: 300" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--dry-run", "plan=true, and for a study dry_run=true"),
        ("--multi", "plan=true, and for a study dry_run=true"),
        ("--resume", "resume=true"),
        ("--seed=3", "seed=3"),
    ],
)
def test_an_option_that_nobody_has_is_refused(word, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command_here("experiment=toonfaces_red_hair", word, "plan=true", cwd=tmp_path)
    assert stop.value.code == 2
    refused = f"error: there is no option {word}; settings are written name=value, such as {said}\n"
    assert capsys.readouterr().err == refused


def test_help_shows_the_choices_and_writes_nothing(tmp_path):
    done = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    for part in ("experiment:", "toonfaces_red_hair", "sampler: ab2, belm, ddim, ddpm", "usage:"):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_can_be_shown_without_running(tmp_path):
    done = command("--cfg", "job", "experiment=toonfaces_zombie", cwd=tmp_path)
    assert done.returncode == 0
    assert OmegaConf.create(done.stdout).edit.name == "zombie"
    assert list(tmp_path.iterdir()) == []


LONG = "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        [f"input={LONG}"],
        [f"output={LONG}", "plan=true"],
        ["dataset=folder", f"dataset.root={LONG}"],
        [f"checkpoint.name={LONG}"],
        ["task=edit", f"edit.adapter={LONG}.safetensors"],
        [f"edit.examples=x/{LONG}"],
        ["report", "runs=.", f"output={LONG}"],
    ],
    ids=lambda words: words[-1][:20],
)
def test_a_name_that_no_file_can_have_is_refused_in_one_line(words, tmp_path, capsys):
    status = tmp_path / "run" / "status.json"
    status.parent.mkdir()
    status.write_text('{"status": "failed", "config": "12"}')
    (status.parent / "config.yaml").write_text("seed: 0")
    with pytest.raises(SystemExit) as stop:
        command_here(*words, cwd=tmp_path)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1 and len(err) < 400
    assert "File name too long" in err or "does not exist" in err


def test_a_folder_of_settings_may_have_any_name(tmp_path, capsys):
    folder = tmp_path / "größe (1), [b]" / "edit"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# @package _global_\nedit: {name: mine, source: a, target: b}\n"
    )
    words = ["-cd", str(folder.parent), "edit=mine", "task=reconstruct", "plan=true"]
    with pytest.raises(SystemExit) as stop:
        command_here(*words, cwd=tmp_path)
    assert stop.value.code == 0, capsys.readouterr().err
