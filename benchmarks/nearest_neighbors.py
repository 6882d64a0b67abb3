"""Times the exact search and the indexes beside FAISS's IndexFlatIP, in one process and on the same cores.

    python benchmarks/nearest_neighbors.py --json nearest_neighbors.json
    python benchmarks/nearest_neighbors.py --full --json nearest_neighbors_full.json

The training embeddings are a float32 file that is memory-mapped. Prints a table for each size: seconds to take the
embeddings and to find the neighbours of all queries, that time in units of IndexFlatIP's, the highest memory beyond
what the process had before (pages of the file that is mapped are not counted), and the recall: the share of the exact
neighbours that were found. Embeddings lie near a space of 32 dimensions, as those of a network do; half of the queries
are training embeddings with noise, as copies are.

FAISS brings an OpenBLAS that may not know a processor and then uses the instructions of 2004. Where the processor has
AVX-512 or AVX2, the script tells it so (OPENBLAS_CORETYPE), which makes FAISS up to 5 times faster.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FULL_SIZES = ((100_000, 2_000, 1_024), (1_000_000, 10_000, 256))
QUICK_SIZES = ((20_000, 1_000, 256),)
LATENT_DIM = 32
_ROWS_AT_ONCE = 50_000


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"sizes {FULL_SIZES} (M, N, D), not {QUICK_SIZES}")
    parser.add_argument("--neighbors", type=int, default=10, help="neighbours per query (default %(default)s)")
    parser.add_argument("--engines", default="exact,IndexFlatIP,hnsw,ivfpq", help="which (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="device of the exact search (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    args = parser.parse_args()
    import torch

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in FULL_SIZES if args.full else QUICK_SIZES:
            training, queries = write_embeddings(Path(folder) / "training.npy", *size)
            print(
                f"\n{size[0]:,} training embeddings x {size[1]:,} queries x {size[2]:,} numbers, {args.neighbors} "
                f"neighbours, {torch.get_num_threads()} threads"
            )
            print("| search | seconds | x IndexFlatIP | MiB | recall |\n| --- | --- | --- | --- | --- |")
            results += compare(training, queries, args.neighbors, args.engines.split(","), args.device)
            del training
    if args.json is not None:
        settings = {"threads": torch.get_num_threads(), "cores": os.cpu_count(), "device": args.device}
        settings["openblas_coretype"] = os.environ.get("OPENBLAS_CORETYPE")
        args.json.write_text(json.dumps({"settings": settings, "results": results}, indent=2))


def compare(
    training: np.ndarray, queries: np.ndarray, neighbors: int, engines: list[str], device: str
) -> list[dict[str, Any]]:
    """Run each search once, print its row, and return all rows."""
    from monai_deepssim.search import FaissNeighbors, NearestNeighbors

    def search(engine: str) -> np.ndarray:
        if engine == "IndexFlatIP":
            return search_flat(training, queries, neighbors)
        index = NearestNeighbors(device=device) if engine == "exact" else FaissNeighbors(engine)
        index.fit(training)
        if isinstance(index, FaissNeighbors):
            index.tune(queries[:: max(1, len(queries) // 200)], neighbors)
        return index.kneighbors(queries, neighbors)[1].numpy()

    rows: list[dict[str, Any]] = []
    found: dict[str, np.ndarray] = {}
    for engine in engines:
        with peak_memory() as peak:
            start = time.perf_counter()
            found[engine] = search(engine)
            seconds = time.perf_counter() - start
        exact = found.get("exact", found[engine])
        recall = float((found[engine][:, :, None] == exact[:, None, :]).any(1).mean())
        rows.append(
            {
                "training": len(training),
                "queries": len(queries),
                "dim": queries.shape[1],
                "search": engine,
                "seconds": seconds,
                "peak_mib": peak() / 2**20,
                "recall": recall,
            }
        )
    flat = next((row["seconds"] for row in rows if row["search"] == "IndexFlatIP"), float("nan"))
    for row in rows:
        row["times_flat"] = row["seconds"] / flat
        print("| {search} | {seconds:.1f} | {times_flat:.2f} | {peak_mib:.0f} | {recall:.4f} |".format(**row))
    return rows


def search_flat(training: np.ndarray, queries: np.ndarray, neighbors: int) -> np.ndarray:
    """Search as FAISS's documentation does: rows of length 1 are added, then all queries are looked up."""
    import faiss
    import torch

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(training.shape[1])
    for start in range(0, len(training), _ROWS_AT_ONCE):
        rows = np.array(training[start : start + _ROWS_AT_ONCE])
        faiss.normalize_L2(rows)
        index.add(rows)
    rows = np.array(queries)
    faiss.normalize_L2(rows)
    return index.search(rows, neighbors)[1]


def write_embeddings(path: Path, num_training: int, num_queries: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Write training embeddings to a file, and return them memory-mapped, with queries in memory."""
    random = np.random.default_rng(0)
    directions = random.standard_normal((LATENT_DIM, dim), dtype=np.float32)

    def draw(number: int) -> np.ndarray:
        near = random.standard_normal((number, LATENT_DIM), dtype=np.float32) @ directions
        return near + random.standard_normal((number, dim), dtype=np.float32)

    training = np.lib.format.open_memmap(path, "w+", np.float32, (num_training, dim))
    for start in range(0, num_training, _ROWS_AT_ONCE):
        training[start : start + _ROWS_AT_ONCE] = draw(min(_ROWS_AT_ONCE, num_training - start))
    training.flush()
    queries = draw(num_queries)
    sources = random.integers(0, num_training, num_queries // 2)
    queries[: len(sources)] = training[sources] + random.standard_normal((len(sources), dim), dtype=np.float32)
    return np.load(path, mmap_mode="r"), queries


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Measure the highest memory beyond that at the start, in bytes, without pages of mapped files."""
    before, highest, ended = anonymous_memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            highest[0] = max(highest[0], anonymous_memory() - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: highest[0]
    finally:
        ended.set()
        thread.join()


def anonymous_memory() -> int:
    """Return how much memory of its own this process has, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0


def tell_openblas() -> None:
    """Start again with the processor's instructions named to FAISS's OpenBLAS, which reads that when it is loaded."""
    cpuinfo = Path("/proc/cpuinfo")
    if "OPENBLAS_CORETYPE" in os.environ or not cpuinfo.exists():
        return
    flags = cpuinfo.read_text(encoding="utf-8")
    core = "SkylakeX" if "avx512bw" in flags else "Haswell" if "avx2" in flags else None
    if core is not None:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OPENBLAS_CORETYPE": core})


if __name__ == "__main__":
    tell_openblas()
    main()
