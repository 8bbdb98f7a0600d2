"""The command line."""

from dclip.cli.command import main

__all__ = ["main"]
