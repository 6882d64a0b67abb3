"""How a workflow ends: in words on the terminal and with an exit status, never with a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import remove_files, write_text
from monai_deepssim.interruptions import interruption_in_words, sigterm_raises
from monai_deepssim.progress import PROGRAM, quiet, say
from monai_deepssim.ranks import current_ranks

__all__ = ["STATUS_FILE", "end_unless_passed", "errors_in_words", "recorded_status"]

#: The file in an output folder that holds the exit status of the run that wrote the folder.
STATUS_FILE = "exit_status"
_FAILED, _UNUSABLE_INPUT, _GATE_EXCEEDED = 1, 2, 3


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


@contextmanager
def recorded_status(folder: Path) -> Iterator[None]:
    """Leave the exit status in a file, for pipelines that start the run by something that has a status of its own.

    torchrun, for one, makes 1 of every status that is not 0. While the block runs there is no such file, and none is
    left by a run that is killed.

    Args:
        folder: where :data:`STATUS_FILE` is written, by rank 0.

    Raises:
        UnusableInputError: where the block ended well and its status cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with recorded_status(folder):
        ...     pass
        >>> (folder / STATUS_FILE).read_text()
        '0\\n'
    """
    if not current_ranks().is_first:
        yield
        return
    remove_files([folder / STATUS_FILE])
    status = _FAILED
    try:
        yield
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
        raise
    except UnusableInputError:
        status = _UNUSABLE_INPUT
        raise
    except KeyboardInterrupt as error:
        status = interruption_in_words(error)[1]
        raise
    finally:
        # A second error would hide why it ended; where all else was well it is the one to be told.
        with suppress(UnusableInputError) if status else nullcontext():
            write_text(folder / STATUS_FILE, f"{status}\n")


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
