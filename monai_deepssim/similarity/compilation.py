"""Compiled functions whose code is kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["cached_njit"]


def cached_njit(**options: Any) -> Callable[[Callable], Any]:
    """Numba's ``njit`` with a cache on disk, and without one where there is no folder that can be written.

    In a container with a read-only package and without a home, numba's cache raises at import; compiling anew in every
    process takes half a minute then.

    Args:
        options: of ``njit``.
    """

    def compile_function(function: Callable) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return njit(**options)(function)

    return compile_function
