"""One image or pair per thread, for work that is compiled and holds no lock: kernels, OpenCV, FAISS, small tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
import torch
from threadpoolctl import threadpool_limits

__all__ = ["map_in_threads"]

Result = TypeVar("Result")


def map_in_threads(function: Callable[[int], Result], count: int) -> list[Result]:
    """Call a function with 0 to ``count - 1`` on as many threads as torch uses, and return what it returned, in order.

    Example:
        >>> map_in_threads(lambda number: number**2, 4)
        [0, 1, 4, 9]
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return [function(number) for number in range(count)]
    with _one_thread_each(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, range(count)))


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """No threads of NumPy's matrix products and of OpenCV, which would wait for those of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)
