"""Checks of single options that several workflows have, each with a message that names the option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from monai_deepssim.errors import UnusableInputError

__all__ = ["device", "image_size", "names", "one_of", "share", "whole", "wrong", "yes_or_no"]


def wrong(option: str, value: Any, wanted: str) -> UnusableInputError:
    """The error for an option that cannot be used.

    Example:
        >>> wrong("seed", -1, "a whole number of at least 0")
        UnusableInputError('--seed: is -1, wanted a whole number of at least 0.')
    """
    return UnusableInputError(f"--{option}: is {value!r}, wanted {wanted}.")


def whole(option: str, value: Any, low: int) -> int:
    """Check a whole number.

    Args:
        option: its name.
        value: as it arrived.
        low: the least that it may be.

    Raises:
        UnusableInputError: if it is none, or less.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise wrong(option, value, f"a whole number of at least {low}")
    return value


def share(option: str, value: Any) -> float:
    """Check a share between 0 and 1, both excluded.

    Raises:
        UnusableInputError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise wrong(option, value, "a share between 0 and 1, such as 0.3")
    return float(value)


def yes_or_no(option: str, value: Any) -> bool:
    """Check a choice, which arrives as a truth value or as its text.

    Example:
        >>> yes_or_no("overwrite", "true"), yes_or_no("overwrite", False)
        (True, False)
    """
    word = str(value).lower()
    if word not in ("true", "false"):
        raise wrong(option, value, "true or false")
    return word == "true"


def one_of(option: str, value: Any, known: Sequence[str]) -> str:
    """Check a name.

    Raises:
        UnusableInputError: if it is none of those known.
    """
    if value not in known:
        raise wrong(option, value, f"one of {', '.join(known)}")
    return str(value)


def names(option: str, value: Any, known: Sequence[str]) -> list[str]:
    """Check names, a single one or several; they come back in the order of ``known``, none when nothing was given.

    Example:
        >>> names("only", "ssim", ["mse", "ssim"]), names("only", ["ssim", "mse"], ["mse", "ssim"])
        (['ssim'], ['mse', 'ssim'])
    """
    if value is None:
        return []
    given = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    for name in given:
        if name not in known:
            raise UnusableInputError(f"--{option}: {name!r} is unknown. The names are: {', '.join(known)}.")
    return [name for name in known if name in given]


def image_size(option: str, value: Any, smallest: int) -> tuple[int, int]:
    """Check rows and columns.

    Args:
        option: its name.
        value: as it arrived.
        smallest: side in pixels.

    Raises:
        UnusableInputError: if it is not two such numbers.
    """
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(sides) != 2 or not all(isinstance(side, int) and side >= smallest for side in sides):
        raise wrong(option, value, f"rows and columns of at least {smallest} pixels each, such as '[136, 112]'")
    return sides[0], sides[1]


def device(option: str, value: str | None) -> torch.device:
    """Check that a device is there; by default it is a GPU if there is one.

    Raises:
        UnusableInputError: if it cannot be used on this machine.
    """
    if value is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(value)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UnusableInputError(
            f"--{option}: {value!r} cannot be used here ({reason}). Give cpu, or leave the option out."
        ) from error
    return found
