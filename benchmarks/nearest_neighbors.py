"""Times the exact search against scikit-learn's brute force in one run on the same cores.

    python benchmarks/nearest_neighbors.py --json nearest_neighbors.json

Prints a table: seconds to find the neighbours of all queries (the best of the repeats), and how many times faster than
scikit-learn that is. Checks that all methods find the same neighbours, but for rows where single precision swaps them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.neighbors import NearestNeighbors as ReferenceNeighbors

from monai_deepssim.search import FaissNeighbors, NearestNeighbors


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=int, default=20000, help="training embeddings (default %(default)s)")
    parser.add_argument("--queries", type=int, default=5000, help="query embeddings (default %(default)s)")
    parser.add_argument("--dim", type=int, default=256, help="values per embedding (default %(default)s)")
    parser.add_argument("--neighbors", type=int, default=10, help="neighbours per query (default %(default)s)")
    parser.add_argument("--block-size", type=int, default=4096, help="rows of a block (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each method (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="device of the exact search (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    args = parser.parse_args()

    generator = np.random.default_rng(0)
    training = generator.standard_normal((args.training, args.dim), dtype=np.float32)
    queries = generator.standard_normal((args.queries, args.dim), dtype=np.float32)

    def search_with_reference() -> np.ndarray:
        reference = ReferenceNeighbors(n_neighbors=args.neighbors, metric="cosine", algorithm="brute")
        return reference.fit(training).kneighbors(queries, return_distance=False)

    def search_exactly() -> np.ndarray:
        exact = NearestNeighbors(block_size=args.block_size, device=args.device)
        return exact.fit(training).kneighbors(queries, args.neighbors)[1].numpy()

    def search_with_faiss() -> np.ndarray:
        return FaissNeighbors(block_size=args.block_size).fit(training).kneighbors(queries, args.neighbors)[1].numpy()

    methods: dict[str, Callable[[], np.ndarray]] = {
        "scikit-learn brute": search_with_reference,
        "search.NearestNeighbors": search_exactly,
    }
    if importlib.util.find_spec("faiss") is not None:
        methods["search.FaissNeighbors"] = search_with_faiss

    print(
        f"{args.queries} queries x {args.training} training embeddings of {args.dim} values, {args.neighbors} "
        f"neighbours, {torch.get_num_threads()} threads, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    )
    print(f"{'method':<26}{'seconds':>10}{'queries/s':>12}{'x sklearn':>12}{'same neighbours':>18}")
    expected = search_with_reference()
    results = []
    for name, search in methods.items():
        seconds, found = min((_time(search) for _ in range(args.repeats)), key=lambda run: run[0])
        results.append(
            {
                "method": name,
                "seconds": seconds,
                "queries_per_second": args.queries / seconds,
                "times_scikit_learn": results[0]["seconds"] / seconds if results else 1.0,
                "same_neighbors": float((found == expected).mean()),
            }
        )
        print("{method:<26}{seconds:>10.2f}{queries_per_second:>12.0f}{times_scikit_learn:>12.2f}"
              "{same_neighbors:>18.4%}".format(**results[-1]))  # fmt: skip
    if args.json is not None:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        settings |= {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
        versions = {"torch": torch.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__}
        args.json.write_text(json.dumps({"settings": settings, "versions": versions, "results": results}, indent=2))
        print(f"written: {args.json}")


def _time(search: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    found = search()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
