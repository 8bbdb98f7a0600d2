"""Words of a command that is no run, refused in one line as a run's are."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from dclip.errors import DclipError, choose


class Arguments(argparse.ArgumentParser):
    """A parser whose refusals are a DclipError, without the usage that argparse puts first."""

    def error(self, message: str) -> NoReturn:
        """What cannot be understood, and where it says what can be."""
        wrong = re.fullmatch(r"argument (.*): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if wrong is not None:
            names = wrong[3].replace("'", "").split(", ")
            word = f"{wrong[1]} {wrong[2]}" if wrong[1].startswith("-") else wrong[2]
            raise DclipError(f"{word} does not exist{choose(wrong[2], names)}")
        raise DclipError(f"{message.removeprefix('the ')}; see {self.prog} --help")
