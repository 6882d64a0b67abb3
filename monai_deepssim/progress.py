"""What a long computation says on its way: progress bars, the time of its steps, and warnings."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

from monai_deepssim.files import printable

__all__ = ["is_quiet", "progress_bar", "quiet", "say", "timed", "warn"]

_IS_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet(is_quiet: bool = True) -> Iterator[None]:
    """Show no progress and print nothing within the block; warnings become Python's.

    Example:
        >>> with quiet():
        ...     say("not shown")
    """
    token = _IS_QUIET.set(is_quiet)
    try:
        yield
    finally:
        _IS_QUIET.reset(token)


def is_quiet() -> bool:
    """Whether nothing is to be printed.

    Example:
        >>> with quiet():
        ...     is_quiet()
        True
    """
    return _IS_QUIET.get()


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """Make a progress bar: tqdm's, which writes rarely into a log file, and not at all where it is quiet.

    Args:
        items: what to iterate over.
        options: of tqdm.
    """
    # Into a log file a bar writes a line each time it moves, so there it moves rarely.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    disable = bool(options.pop("disable", False)) or _IS_QUIET.get()
    return tqdm(items, mininterval=interval, disable=disable, **options)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long a step takes.

    Args:
        seconds: gets the time.
        name: of the step.

    Example:
        >>> seconds = {}
        >>> with timed(seconds, "search"):
        ...     pass
        >>> list(seconds)
        ['search']
    """
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def say(line: str, stream: Any = None) -> None:
    """Print a line that may hold names of files, on whatever terminal; ``stream`` is the standard output by default."""
    if _IS_QUIET.get():
        return
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(printable(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def warn(message: str) -> None:
    """Tell of something that the user should know, and go on."""
    if _IS_QUIET.get():
        warnings.warn(message, stacklevel=3)
    else:
        say(f"memorization_audit: warning: {message}", sys.stderr)
