"""Compiled functions whose code is kept on disk where that is possible."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.registry import cpu_target

__all__ = ["cached_njit", "compile_in_children", "inner_njit", "is_cached"]

_IN_CHILD = "MONAI_DEEPSSIM_COMPILING"


def _digest() -> str:
    """What compiled code depends on: all files of this folder and their times, numba and the processor."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    files = [f"{path.stat().st_mtime_ns} {path.read_text(encoding='utf-8')}" for path in paths]
    processor = cpu_target.target_context.codegen().magic_tuple()
    return hashlib.sha256("".join([*files, numba.__version__, *map(str, processor)]).encode()).hexdigest()[:16]


_DIGEST = _digest()

#: Numba's ``njit`` for what compiled functions alone call: without the wrappers by which Python and C would, which take
#: a sixth of the time of the compiler.
inner_njit = partial(njit, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


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


def compile_in_children(kernels: Sequence[Any]) -> None:
    """See to it that functions of :func:`cached_njit` are in numba's cache, for this process to read them from there.

    A process that compiles a function calls, for each function inside, the code that was compiled for that one alone. A
    process that reads the cache calls the copy that was optimised together with its caller. The two round sums
    differently, which a search amplifies: to 0.002 in SSIM. So that all processes score alike, children compile, and
    nobody else, as many as there are processors; each takes the next kernel when it is free. They import numba and the
    kernels alone. Where no cache can be written, or a child fails, this process compiles at its first call.

    Args:
        kernels: of :func:`cached_njit`, what takes longest first, each with a call in
            :mod:`~monai_deepssim.similarity.kernels.first_calls`.
    """
    missing = [kernel for kernel in kernels if not is_cached(kernel)]
    if _IN_CHILD in os.environ or not missing or not sys.executable:
        return
    if not all(kernel.stats.cache_path for kernel in kernels):
        return
    names = [kernel.py_func.__name__ for kernel in missing]
    num_children = min(len(names), os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as claims, ThreadPoolExecutor(num_children) as pool:
        list(pool.map(lambda _: _compile_in_child(names, claims), range(num_children)))


def _compile_in_child(names: Sequence[str], claims: str) -> None:
    """Let a child compile those of the kernels that no other child has begun, which has made a folder of that name."""
    folder = str(Path(__file__).parents[1])
    # The room's own __init__ imports torch and MONAI, which takes longer than to compile most kernels. And a compiler
    # makes objects by the million: to look for garbage among them takes a fourteenth of its time.
    code = (
        f"import gc, sys, types; gc.disable(); sys.path[:] = {sys.path!r}; "
        "room = types.ModuleType('monai_deepssim.similarity'); "
        f"room.__path__ = [{folder!r}]; sys.modules[room.__name__] = room; "
        "from monai_deepssim.similarity.kernels.first_calls import call_unclaimed; "
        f"call_unclaimed({names!r}, {claims!r})"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, _IN_CHILD: "1"}, capture_output=True, check=False)
