"""Which search for how many embeddings: exact, as long as that takes no longer than half an hour."""

from __future__ import annotations

import importlib.util
import time

import torch

from monai_deepssim.search.faiss_neighbors import FaissNeighbors
from monai_deepssim.search.nearest_neighbors import NearestNeighbors

__all__ = ["LONGEST_EXACT_SECONDS", "SEARCH_ENGINES", "choose_engine", "exact_search_seconds", "make_neighbors"]

#: Engines of a search for the nearest embeddings; all but the first need FAISS.
SEARCH_ENGINES = ("exact", "faiss", "hnsw", "ivfpq")
#: Where the exact search is estimated to take longer, another engine is the default.
LONGEST_EXACT_SECONDS = 1800.0
# Fewer products take less than that on any machine, at one billion a second.
_FEW_PRODUCTS = 9e11
# Rows of the blocks whose product is timed.
_PROBE_ROWS = 1024


def make_neighbors(engine: str, device: torch.device | str | None = None) -> NearestNeighbors:
    """Make a search for the nearest embeddings.

    Args:
        engine: one of :data:`SEARCH_ENGINES`.
        device: where the exact search computes; indexes are on the CPU.

    Raises:
        UnusableInputError: when the engine needs FAISS, and it is not installed.
        ValueError: when there is no such engine.

    Example:
        >>> type(make_neighbors("exact")).__name__
        'NearestNeighbors'
    """
    return NearestNeighbors(device=device) if engine == SEARCH_ENGINES[0] else FaissNeighbors(engine)


def exact_search_seconds(
    num_queries: int, num_training: int, dim: int, device: torch.device | str | None = None
) -> float:
    """Estimate how long the exact search takes here: N x M x D products, at the rate of a small one that is timed.

    Args:
        num_queries: N.
        num_training: M.
        dim: D.
        device: where the search computes; the CPU by default.

    Example:
        >>> exact_search_seconds(10, 10, 4) < 60
        True
    """
    rows = torch.ones(_PROBE_ROWS, dim, device=device)
    float((rows @ rows.T)[0, 0])  # the first product sets up threads and memory
    start = time.perf_counter()
    float((rows @ rows.T)[0, 0])
    return (time.perf_counter() - start) * (num_queries / _PROBE_ROWS) * (num_training / _PROBE_ROWS)


def choose_engine(
    num_queries: int, num_training: int, dim: int, device: torch.device | str | None = None
) -> tuple[str, str]:
    """Choose the engine where none is asked for: exact, until that would take more than half an hour.

    Beyond, it is ``ivfpq`` where FAISS is installed: of the indexes it is the one that is built in a time that is much
    shorter than the search.

    Args:
        num_queries: N.
        num_training: M.
        dim: D.
        device: where the search computes.

    Returns:
        The engine, and a sentence for the user where the exact search takes long; else an empty one.

    Example:
        >>> choose_engine(100, 2000, 256)
        ('exact', '')
    """
    if num_queries * num_training * dim <= _FEW_PRODUCTS:
        return "exact", ""
    seconds = exact_search_seconds(num_queries, num_training, dim, device)
    if seconds <= LONGEST_EXACT_SECONDS:
        return "exact", ""
    words = f"The exact search of {num_queries:,} images in {num_training:,} takes about {seconds / 3600:.1f} hours"
    if importlib.util.find_spec("faiss") is None:
        return "exact", f"{words}. pip install 'monai-deepssim[faiss]' and --search ivfpq are faster."
    return "ivfpq", f"{words}, so ivfpq searches, and its recall is measured. --search exact finds all."
