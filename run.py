"""``python run.py experiment=toonfaces_red_hair``: the same as the installed ``dclip`` command.

If this Python lacks the packages, the command continues with the Python of ``.venv`` beside it.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"


def ensure_packages() -> None:
    """Return if Hydra is installed; else restart with the Python of ``.venv``, or say what to do."""
    if find_spec("hydra") is not None:
        return
    python = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    runs_there = Path(sys.prefix).resolve() == VENV.resolve()
    if runs_there or not python.is_file():
        fix = "run: make install && source .venv/bin/activate"
        print(f"error: {sys.executable} has no Hydra, which dclip needs; {fix}", file=sys.stderr)
        sys.exit(2)
    hint = "source .venv/bin/activate makes this the default"
    print(f"{sys.executable} has no Hydra; continuing with {python} ({hint})", file=sys.stderr)
    sys.stderr.flush()
    os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    ensure_packages()
    from dclip.cli.command import main

    main()
