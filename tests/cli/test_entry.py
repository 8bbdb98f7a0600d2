"""run.py with a Python that has no packages."""

import os
import shutil
import subprocess
import sys

from helpers.runs import ROOT

BARE = [sys.executable, "-I", "-S"]  # sees the standard library only


def bare_run(folder, *words):
    shutil.copy(ROOT / "run.py", folder)
    return subprocess.run(
        [*BARE, "run.py", *words], cwd=folder, capture_output=True, text=True, timeout=60
    )


def write_python(folder, script):
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    python.chmod(0o755)
    return python


def test_without_packages_the_command_continues_with_the_python_of_venv(tmp_path):
    python = write_python(tmp_path, 'echo "$@"; exit 7')
    result = bare_run(tmp_path, "edit=red_hair", "edit.target=two words")
    assert result.returncode == 7
    assert result.stdout == "run.py edit=red_hair edit.target=two words\n"
    assert result.stderr.count("\n") == 1 and f"continuing with {python}" in result.stderr


def test_without_packages_and_venv_one_line_says_what_to_do(tmp_path):
    result = bare_run(tmp_path)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "make install && source .venv/bin/activate" in result.stderr


def test_a_venv_without_packages_does_not_restart_itself_forever(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    result = bare_run(tmp_path)
    first, second = result.stderr.splitlines()
    assert result.returncode == 2
    assert "continuing with" in first and os.fspath(tmp_path) in second
    assert "make install" in second
