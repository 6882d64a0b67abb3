"""Ranks as threads of one process, which share a store: they start at once, where processes would take seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.distributed import HashStore

from monai_deepssim.ranks import Ranks, as_rank


def on_ranks(size: int, function: Callable[[Ranks], Any]) -> list[Any]:
    """Call a function on all ranks at once, and return what it returned or raised on each."""
    store = HashStore()

    def run(rank: int) -> Any:
        ranks, ended = Ranks(store, rank, size), threading.Event()
        heart = threading.Thread(target=ranks.beat, args=(ended,), daemon=True)
        heart.start()
        with as_rank(ranks):
            try:
                return function(ranks)
            except BaseException as error:
                try:
                    ranks.report(error)
                except BaseException as last:
                    return last
                return error
            finally:
                ended.set()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))
