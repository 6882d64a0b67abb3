"""How a workflow ends: in words on the terminal and with an exit status, never with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.interruptions import interruption_in_words, sigterm_raises
from monai_deepssim.progress import PROGRAM, quiet, say

__all__ = ["end_unless_passed", "errors_in_words"]

_UNUSABLE_INPUT, _GATE_EXCEEDED = 2, 3


@contextmanager
def errors_in_words() -> Iterator[None]:
    """End the process with a message and a status when the input cannot be used or the user interrupts.

    Raises:
        SystemExit: with status 2 for input that cannot be used, 130 when interrupted, and 143 when terminated.

    Example:
        >>> with errors_in_words():
        ...     raise UnusableInputError("images: there is no such folder")
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """
    try:
        with sigterm_raises():
            yield
    except UnusableInputError as error:
        _end(str(error), _UNUSABLE_INPUT)
    except KeyboardInterrupt as error:
        _end(*interruption_in_words(error))


def end_unless_passed(result: str | None, reason: str) -> None:
    """End the process when a gate was asked for and is not passed.

    Args:
        result: ``passed``, ``exceeded``, ``undecided``, or ``None`` where no gate was asked for.
        reason: why it is undecided, in a sentence.

    Raises:
        SystemExit: with status 3 when there are more copies than it allows, and 2 when it cannot be decided.
    """
    if result == "exceeded":
        sys.exit(_GATE_EXCEEDED)
    if result == "undecided":
        _end(f"the gate cannot be decided: {reason}", _UNUSABLE_INPUT)


def _end(message: str, status: int) -> NoReturn:
    with quiet(False):  # the reason is what --quiet leaves
        say(f"{PROGRAM}: {message}", sys.stderr)
    sys.exit(status)
