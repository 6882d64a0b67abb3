"""What the memory of this machine can hold, asked before it is filled."""

from __future__ import annotations

import os

from monai_deepssim.errors import UnusableInputError

__all__ = ["BYTES_PER_PIXEL", "check_memory"]

#: Of an image as networks take it: float32, one channel.
BYTES_PER_PIXEL = 4


def check_memory(num_bytes: int, what: str, remedy: str) -> None:
    """Refuse what cannot fit into the memory of this machine, whatever else is in it.

    Args:
        num_bytes: the least that it takes, in bytes.
        what: names it for the message, such as ``a batch of 64 images of 2,048 x 2,048``.
        remedy: what to do, in a sentence.

    Raises:
        UnusableInputError: it is more than the memory that the machine has. Where the system does not tell that, as on
            Windows, nothing is refused.

    Example:
        >>> check_memory(2**20, "an image", "Give a smaller one.")
        >>> check_memory(2**60, "a batch of images", "Give a smaller --image_size.")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: a batch of images takes at least 1,073,741,824 GiB of memory, and this
        machine has ... GiB. Give a smaller --image_size.
    """
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if num_bytes > total > 0:
        raise UnusableInputError(
            f"{what} takes at least {-(-num_bytes // 2**30):,} GiB of memory, and this machine has "
            f"{total / 2**30:,.0f} GiB. {remedy}"
        )
