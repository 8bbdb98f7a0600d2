"""SIGTERM ends a command as Ctrl-C does: what was begun is recorded as stopped. No torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells count
TERMINATED = 143  # 128 + SIGTERM
PIPE_CLOSED = 141  # 128 + SIGPIPE


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same as Ctrl-C."""


_received: list[int] = []


def _terminate(number: int, _: FrameType | None) -> None:
    if _received:
        return  # it is on its way; a second one must not cut short what is being written
    _received.append(number)
    raise Terminated


def received() -> bool:
    """Whether SIGTERM came while the command was at work."""
    return bool(_received)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises ``Terminated`` in here; afterwards it is what it was.

    Only a process's main thread can decide this; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def stop_reason(error: BaseException) -> str:
    """Why a command stopped, in words: Lightning turns Ctrl-C and SIGTERM into an exit of its own."""
    if received():
        return "stopped by SIGTERM"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return "stopped by Ctrl-C"
        cause = cause.__context__
    return f"{type(error).__name__}: {error}"


def stop_code() -> int:
    """The exit code of a command that was stopped: by SIGTERM, or else by Ctrl-C.

    Lightning turns either into an exit of its own, so what came is kept here.
    """
    return TERMINATED if _received else INTERRUPTED
