"""An end from outside: Ctrl-C, and the SIGTERM of a batch system or a container."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["TerminatedError", "interruption_in_words", "sigterm_raises", "time_limit"]

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


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeoutError` in a block that takes longer: in the main thread, and not on Windows.

    An alarm of the caller's own goes off when it would have, or at the end of the block.

    Args:
        seconds: how long the block may take.

    Example:
        >>> import re
        >>> try:
        ...     with time_limit(0.1):
        ...         re.search("(a+)+$", 64 * "a" + "b")
        ... except TimeoutError:
        ...     print("took too long")
        took too long
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise TimeoutError

    handler, start = signal.signal(signal.SIGALRM, stop), time.monotonic()
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            signal.setitimer(signal.ITIMER_REAL, max(remaining - (time.monotonic() - start), 1e-3), interval)
