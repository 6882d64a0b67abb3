"""Compiled functions whose code is kept on disk where that is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.registry import cpu_target

__all__ = ["cached_njit", "inlined_njit", "is_cached", "shared_njit"]

#: For functions that cached ones call. Left to itself, a process that compiles calls the code of each of them, and one
#: that reads the cache the copy that was optimised together with its caller; they round sums differently.
inlined_njit = partial(njit, nogil=True, forceinline=True)
#: For those in which nothing can be summed in two orders, so that compiling may be fast.
shared_njit = partial(njit, nogil=True, forceinline=False)  # left out, it would be that of the caller


def _digest() -> str:
    """What compiled code depends on: all files of this folder, numba and the processor."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    processor = cpu_target.target_context.codegen().magic_tuple()
    return hashlib.sha256("".join([*sources, numba.__version__, *map(str, processor)]).encode()).hexdigest()[:16]


_DIGEST = _digest()


def cached_njit(**options: Any) -> Callable[[Callable], Any]:
    """Numba's ``njit`` with a cache on disk, and without one where there is no folder that can be written.

    Numba looks whether the function's own file changed, not whether another one did that is compiled into it. So the
    name under which the code is kept has a digest of them all.

    In a container with a read-only package and without a home, numba's cache raises at import; compiling anew in every
    process takes half a minute then.

    Args:
        options: of ``njit``.
    """

    def compile_function(function: Callable) -> Any:
        function.__qualname__ += f".{_DIGEST}"
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # "no locator available"
            return njit(nogil=True, **options)(function)

    return compile_function


def is_cached(function: Any) -> bool:
    """Whether a function of :func:`cached_njit` was compiled, in this process or an earlier one."""
    folder = function.stats.cache_path
    on_disk = folder is not None and any(Path(folder).glob(f"*{function.__qualname__}-*.nbi"))
    return bool(function.signatures) or on_disk
