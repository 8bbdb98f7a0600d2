"""What a sweep says of its jobs, and how commands end that are stopped or not listened to."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from dclip import pipeline
from dclip.cli import command, sweep
from dclip.errors import DclipError
from dclip.files import read_json, write_json
from dclip.record.identity import config_hash
from dclip.runtime import signals
from helpers.processes import command_apart
from helpers.runs import ROOT, command_here, configure, words

SWEEP = ["-m", "sampler.t0=300,400,450", "logger=csv"]


def swept(tmp_path, monkeypatch, capsys, broken=(), more=()):
    """A sweep whose jobs do nothing, some of them failing: exit code, stdout and stderr."""
    ran = []

    def run(cfg):
        ran.append(cfg.sampler.t0)
        if cfg.sampler.t0 in broken:
            raise broken[cfg.sampler.t0]
        folder = tmp_path / "outputs" / "finetune_red_hair" / f"x_{config_hash(cfg)}"
        write_json(folder / "metrics.json", {"s_dir": cfg.sampler.t0 / 1000, "images": 4})
        write_json(folder / "status.json", {"status": "finished", "config": config_hash(cfg)})
        return folder

    monkeypatch.setattr(pipeline, "run", run)
    code = 0
    try:
        command_here(*SWEEP, *more, cwd=tmp_path)
    except SystemExit as stop:
        code = stop.code
    return code, ran, *capsys.readouterr()


def test_a_sweep_names_every_job_and_ends_with_a_table(tmp_path, monkeypatch, capsys):
    code, ran, out, err = swept(tmp_path, monkeypatch, capsys)
    assert (code, ran) == (0, [300, 400, 450])
    for number, t0 in enumerate(ran, 1):
        assert f"[{number}/3] sampler.t0={t0}\n" in err
    head, *lines = out.strip().splitlines()
    assert "s_dir" in head
    cells = [line.split() for line in lines]
    assert cells == [
        ["[1/3]", "sampler.t0=300", "finished", "0.3"],
        ["[2/3]", "sampler.t0=400", "finished", "0.4"],
        ["[3/3]", "sampler.t0=450", "finished", "0.45"],
    ]


def test_a_job_without_a_result_is_named_and_decides_the_exit_code(tmp_path, monkeypatch, capsys):
    code, ran, out, err = swept(tmp_path, monkeypatch, capsys, {400: DclipError("it diverged")})
    assert (code, ran) == (2, [300, 400, 450])
    assert "sampler.t0=400: failed: it diverged" in err
    assert "error: 1 of 3 jobs has no result" in err
    assert [line.split()[2] for line in out.splitlines() if "t0" in line] == [
        "finished",
        "failed",
        "finished",
    ]
    # the same again, with resume=true: what is finished is taken
    code, ran, out, err = swept(tmp_path, monkeypatch, capsys, more=["resume=true"])
    assert (code, ran) == (0, [400])
    assert out.count("finished") == 3 and err.count("finished before") == 2


def test_a_sweep_that_is_stopped_says_what_is_missing(tmp_path, monkeypatch, capsys):
    code, ran, out, err = swept(tmp_path, monkeypatch, capsys, {400: KeyboardInterrupt()})
    assert (code, ran) == (130, [300, 400])
    assert "stopped; repeat the command with resume=true to continue" in err
    assert "sampler.t0=450: not begun" in err
    assert "stopped" in out and "not begun" in out


def test_a_job_that_ends_its_process_quietly_is_no_success(tmp_path, monkeypatch, capsys):
    """Lightning once answered SIGTERM with exit code 0 and not a word."""
    code, ran, _, err = swept(tmp_path, monkeypatch, capsys, {300: SystemExit(0)})
    assert code != 0 and ran == [300]
    assert "sampler.t0=400: not begun" in err


def test_titles_are_what_differs():
    jobs = [["a=1", "b=1", "c='x y'"], ["a=1", "b=2", "c='x y'"]]
    assert sweep.titles(jobs) == ["b=1", "b=2"]
    assert sweep.titles([["a=1"]]) == ["a=1"]


def test_lines_of_jobs_side_by_side_say_whose_they_are():
    message = command._Prefixed("[2] ").format(logging.makeLogRecord({"msg": "a\nb"}))
    assert message == "[2] a\n[2] b"


def test_the_table_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    numbers = {"s_dir": 0.25, "mae": 0.5, "counterfactual_ratio": 1.5, "images": 4}
    table = sweep.table([sweep.Job("t0=300 " * 20, "finished", "", numbers)])
    assert "counterfactual_ratio" in table and "..." in table
    wide = [sweep.Job("t0=3", "finished", "", numbers)]
    monkeypatch.setenv("COLUMNS", "200")
    names = ["counterfactual_ratio", "s_dir", "mae"]
    places = [sweep.table(wide).index(name) for name in names]
    assert places == sorted(places)


# ------------------------------------------------------------------------------- signals, pipes


def lines_of(folder):
    return [line for path in folder.glob("*/*/curves.jsonl") for line in path.open()]


def test_sigterm_while_training_is_told_as_ctrl_c_is(tiny, tmp_path):
    settings = words(tiny, metric="none", method__epochs=200, dataset__train=2, output=tmp_path)
    log = tmp_path / "log"
    process = command_apart(["-m", *settings, "sampler.t0=300,400"], tmp_path, log)
    end = time.monotonic() + 120
    while len(lines_of(tmp_path)) < 6 and process.is_alive() and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    process.join(60)
    said = log.read_text("utf-8")
    assert process.exitcode == 143, said
    assert "stopped; repeat the command with resume=true to continue" in said
    table = [line for line in said.splitlines() if line.startswith("[2/2]")]
    assert "sampler.t0=400: not begun" in said and "not begun" in table[-1]
    (status,) = [read_json(path) for path in tmp_path.glob("finetune*/*/status.json")]
    assert (status["status"], status["reason"]) == ("stopped", "stopped by SIGTERM")


def lightnings_exit():
    """How Lightning leaves a training that was interrupted."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (lightnings_exit, "stopped by Ctrl-C"),
        (lambda: sys.exit("no licence"), "SystemExit: no licence"),
    ],
)
def test_why_a_run_was_stopped_is_said_in_words(tiny, tmp_path, stop, said):
    from dclip.record.record import recording

    signals._received.clear()
    cfg = configure(*words(tiny, output=tmp_path))
    with pytest.raises(SystemExit), recording(cfg) as record:
        stop()
    status = read_json(record.folder / "status.json")
    assert (status["status"], status["reason"]) == ("stopped", said)


def test_sigterm_comes_once_and_leaves_the_handler_as_it_was():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(signals.Terminated), signals.terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signals.stop_code() == 143 and signals.received()
    assert signal.getsignal(signal.SIGTERM) == before
    with signals.terminable():
        assert signals.stop_code() == 130


def listened_to(script, tmp_path):
    """Exit codes of run.py and of a reader that leaves at once, and what run.py complains of."""
    program = f"{sys.executable} {ROOT / 'run.py'} {script} 2>err | head -c 10 >out; "
    done = subprocess.run(
        ["bash", "-c", program + 'echo "${PIPESTATUS[@]}"'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split(), (tmp_path / "err").read_text()


@pytest.mark.parametrize("script", ["plan=true", "--help"])
def test_a_reader_that_leaves_is_no_error(script, tmp_path):
    codes, complaints = listened_to(script, tmp_path)
    assert codes[0] in ("0", "141") and codes[1] == "0"
    assert complaints == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "sampler.t0=300,400", "--help"], "a comma separates the values of a sweep"),
        (["--cfg", "job", "sampler=dim"], "did you mean ddim?"),
        (["--cfg", "job", "sampler.s_gn=3"], "did you mean sampler.s_gen?"),
    ],
)
def test_what_hydra_cannot_show_is_refused_in_one_line(words, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command_here(*words, cwd=tmp_path)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and err.count("\n") == 1


def test_help_of_a_sweep_is_help(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        command_here("-m", "--help", cwd=tmp_path)
    assert stop.value.code in (None, 0) and "usage:" in capsys.readouterr().out


def test_the_version_is_ours(tmp_path, capsys):
    command_here("--version", cwd=tmp_path)
    assert capsys.readouterr().out == "dclip 0.1.0\n"


# ------------------------------------------------------------------------------- before networks


def test_a_bad_input_is_refused_before_torch_is_imported(tmp_path):
    (tmp_path / "notes (1).png").write_text("no picture")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "sys.argv = ['run.py', 'experiment=toonfaces_red_hair', 'input=notes (1).png']\n"
        "from dclip.cli.command import main\n"
        "try:\n    main()\n"
        "except SystemExit as stop:\n    print(stop.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr.startswith("error: input=notes (1).png: notes (1).png cannot be read as an")
    assert done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------- run.log


def test_the_log_holds_what_the_console_shows(tiny, tmp_path, capsys):
    few = words(tiny, output=tmp_path, method__epochs=2, dataset__train=2, degrees="[]")
    command_here(*few, cwd=tmp_path)
    text = (tmp_path / "latest" / "run.log").read_text("utf-8")
    for part in ("settings:\n", "t0: 500", "epoch 1 of 2: loss_", "epoch 2 of 2: ", "report: "):
        assert part in text
    shown = capsys.readouterr().err
    metrics = read_json(tmp_path / "latest" / "metrics.json")
    assert f"{metrics['s_dir']:.4f}" in shown and f"{metrics['s_dir']:.4f}" in text
    curves = [json.loads(line) for line in (tmp_path / "latest" / "curves.jsonl").open()]
    last = [line["loss_total"] for line in curves if "loss_total" in line][-1]
    assert f"loss_total {last:.4g}" in text
