"""What a workflow notes on its way: the time of its steps, and warnings."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from monai_deepssim.files import printable

__all__ = ["timed", "warn"]


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


def warn(message: str) -> None:
    """Tell of something that the user should know, and go on."""
    print(printable(f"memorization_audit: warning: {message}"), file=sys.stderr, flush=True)
