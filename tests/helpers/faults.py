"""What disks do to a process: they are full, or may not be written. Root is told so, too."""

import errno
import os
import sys
from pathlib import Path

from dclip.record.record import RESERVE


def _opened_to_write(event, args):
    """The file that is opened to be written, or made; None where it is another event."""
    if event == "open":
        path, _, flags = args
        if isinstance(path, str | Path) and flags & (os.O_WRONLY | os.O_RDWR):
            return Path(path)
    if event == "os.mkdir":
        return Path(args[0])
    return None


def _refuse(code, path):
    raise OSError(code, os.strerror(code), str(path))


class FullDisk:
    """The disk is full from when the file of this name is written, until the reserve is given back."""

    def __init__(self, name):
        self.begins, self.full = f".{Path(name).stem}.", False

    def __call__(self):
        sys.addaudithook(self.hear)

    def hear(self, event, args):
        path = _opened_to_write(event, args)
        if path is None:
            return
        self.full = self.full or path.name.startswith(self.begins)
        if self.full and any((folder / RESERVE).exists() for folder in path.parents):
            _refuse(errno.ENOSPC, path)


class ReadOnly:
    """Nothing below a folder may be written: for want of rights, or as it is mounted so."""

    def __init__(self, folder, code):
        self.folder, self.code = Path(folder).resolve(), code

    def __call__(self):
        sys.addaudithook(self.hear)

    def hear(self, event, args):
        path = _opened_to_write(event, args)
        if path is not None and path.absolute().is_relative_to(self.folder):
            _refuse(self.code, path)
