"""What a call says when it refuses its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai_deepssim.errors import UnusableInputError


def refusal_of(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> str | None:
    """Call something; the words of an UnusableInputError, or nothing where it returns. All else is raised.

    Words are one line: a terminal and a log show them as one.
    """
    try:
        call(*arguments, **keywords)
    except UnusableInputError as error:
        message = str(error)
        if "\n" in message or "Traceback" in message:
            raise AssertionError(f"not one line: {message!r}") from error
        return message
    return None
