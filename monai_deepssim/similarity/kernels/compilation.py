"""Compiled functions whose code is kept on disk where that is possible."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.registry import cpu_target

__all__ = ["cached_njit", "compile_in_child", "is_cached"]

_IN_CHILD = "MONAI_DEEPSSIM_COMPILING"


def _digest() -> str:
    """What compiled code depends on: all files of this folder and their times, numba and the processor."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    files = [f"{path.stat().st_mtime_ns} {path.read_text(encoding='utf-8')}" for path in paths]
    processor = cpu_target.target_context.codegen().magic_tuple()
    return hashlib.sha256("".join([*files, numba.__version__, *map(str, processor)]).encode()).hexdigest()[:16]


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


def compile_in_child(functions: Sequence[Any], code: str) -> None:
    """See to it that functions of :func:`cached_njit` are in numba's cache, for this process to read them from there.

    A process that compiles a function calls, for each function inside, the code that was compiled for that one alone. A
    process that reads the cache calls the copy that was optimised together with its caller. The two round sums
    differently, which a search amplifies: to 0.002 in SSIM. So that all processes score alike, a child compiles, and
    nobody else. Where no cache can be written, or the child fails, this process compiles at its first call.

    Args:
        functions: of :func:`cached_njit`.
        code: Python that calls them all, for the child to run.
    """
    if _IN_CHILD in os.environ or all(is_cached(function) for function in functions):
        return
    if sys.executable and all(function.stats.cache_path for function in functions):
        code = f"import sys; sys.path[:] = {sys.path!r}; {code}"
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, _IN_CHILD: "1"}, capture_output=True, check=False
        )
