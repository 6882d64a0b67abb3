"""What a long computation says on its way: its stages, progress bars and warnings."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

from monai_deepssim.files import printable

__all__ = ["PROGRAM", "Stages", "is_quiet", "progress_bar", "quiet", "say", "warn"]

#: What messages on the terminal begin with.
PROGRAM = "monai-deepssim"
_COLOURS = {"red": 31, "green": 32, "yellow": 33}

_IS_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show no progress and print nothing within the block; warnings become Python's.

    Example:
        >>> with quiet():
        ...     say("not shown")
    """
    token = _IS_QUIET.set(wanted)
    try:
        yield
    finally:
        _IS_QUIET.reset(token)


def is_quiet() -> bool:
    """Whether nothing is to be printed, for what has progress bars of its own.

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
        options: further arguments of tqdm.
    """
    # Into a log file a bar writes a line each time it moves, so there it moves rarely.
    interval = 0.1 if sys.stderr.isatty() else 10.0
    disable = bool(options.pop("disable", False)) or _IS_QUIET.get()
    return tqdm(items, mininterval=interval, disable=disable, **options)


class Stages:
    """The stages of a long computation: each is announced with its number when it begins, and timed.

    Args:
        titles: what is done in each stage, by its name, in their order. A stage that is not in it is timed alone.

    Attributes:
        seconds: time spent, by stage.

    Example:
        >>> stages = Stages({"listing": "List the images", "search": "Search"})
        >>> with stages("listing"):
        ...     pass
        [1/2] List the images
        >>> list(stages.seconds)
        ['listing']
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.titles = dict(titles)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announce a stage and time what is done in it."""
        if name in self.titles:
            say(f"[{list(self.titles).index(name) + 1}/{len(self.titles)}] {self.titles[name]}")
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


def say(line: str, stream: Any = None, colour: str | None = None) -> None:
    """Print a line that may hold names of files, on whatever terminal.

    Args:
        line: what cannot be printed of it is shown as an escape.
        stream: where to; the standard output by default.
        colour: ``red``, ``green`` or ``yellow`` on a terminal that has colours, unless ``NO_COLOR`` is set
            (https://no-color.org).
    """
    if _IS_QUIET.get():
        return
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    text = printable(line).encode(encoding, "backslashreplace").decode(encoding)
    has_colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    if colour is not None and has_colours:
        text = f"\x1b[1;{_COLOURS[colour]}m{text}\x1b[0m"
    print(text, file=stream, flush=True)


def warn(message: str) -> None:
    """Tell of something that the user should know, and go on."""
    if _IS_QUIET.get():
        warnings.warn(message, stacklevel=3)
    else:
        say(f"{PROGRAM}: warning: {message}", sys.stderr)
