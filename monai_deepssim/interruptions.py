"""An end from outside: Ctrl-C, and the SIGTERM of a batch system or a container."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["TerminatedError", "interruption_in_words", "sigterm_raises"]

_CONTINUES = "The same command continues where this stopped."


class TerminatedError(KeyboardInterrupt):
    """Raised where a SIGTERM arrives: what cleans up after Ctrl-C then does so after it, too."""


def interruption_in_words(error: KeyboardInterrupt) -> tuple[str, int]:
    """Say what ended a run, and with which exit status: 128 and the number of the signal, as a shell has it.

    Args:
        error: what was raised.

    Example:
        >>> interruption_in_words(TerminatedError())
        ('terminated. The same command continues where this stopped.', 143)
    """
    if isinstance(error, TerminatedError):
        return f"terminated. {_CONTINUES}", 128 + signal.SIGTERM
    return f"interrupted. {_CONTINUES}", 128 + signal.SIGINT


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise :class:`TerminatedError` for a SIGTERM within the block, where Python lets us: in the main thread.

    A program that has a handler of its own keeps it.

    Example:
        >>> import os
        >>> try:
        ...     with sigterm_raises():
        ...         os.kill(os.getpid(), signal.SIGTERM)
        ... except TerminatedError:
        ...     print("cleaned up")
        cleaned up
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise TerminatedError

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
