"""Times the search of a set in itself and the grouping of its duplicates, for n images and for 2n.

    python benchmarks/deduplication.py --json deduplication.json

Embeddings are drawn, so that nothing is read or registered. Half of the images are in the set once; of the others
there are pairs, and groups of 400 that crowd each other's lists of neighbours, so that what is kept has to be searched
again. Prints seconds, those of the exact search (of n x n cosines: all else grows as n does), how many searches there
were, and the groups: as many as were put in.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from monai_deepssim.audit.clean_up.duplicate_groups import group_duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit
from monai_deepssim.audit.clean_up.self_search import SelfSearch
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import Thresholds
from monai_deepssim.engines import EmbeddedImages
from monai_deepssim.search import NearestNeighbors

CROWD, DIM = 400, 64


class CosineDetector:
    """Searches as the audit's detector does."""

    searches_among = True

    def __init__(self, embeddings: np.ndarray) -> None:
        self.neighbors = NearestNeighbors().fit(embeddings)
        self.seconds = 0.0

    def search(
        self, images: EmbeddedImages, num_neighbors: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest images."""
        start = time.perf_counter()
        confined = {} if among is None else {"among": torch.from_numpy(among)}
        scores, rows = self.neighbors.kneighbors(np.concatenate(images.embeddings), num_neighbors, **confined)
        self.seconds += time.perf_counter() - start
        return scores.double().numpy(), rows.numpy()


def draw(number: int) -> tuple[np.ndarray, int]:
    """Embeddings of a set, and how many groups of duplicates there are in it."""
    random = np.random.default_rng(0)
    crowds, pairs = max(1, number // 4 // CROWD), number // 8
    owners = np.concatenate([np.repeat(np.arange(crowds), CROWD), np.repeat(np.arange(pairs), 2) + crowds])
    owners = np.concatenate([owners, np.arange(number - len(owners)) + crowds + pairs])
    centers = random.standard_normal((owners.max() + 1, DIM)).astype(np.float32)
    embeddings = centers[owners] + 0.01 * random.standard_normal((number, DIM)).astype(np.float32)
    return embeddings[random.permutation(number)], crowds + pairs


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="n (default %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    args = parser.parse_args()
    results = []
    print("| images | seconds | of these, search | searches | groups found | groups put in |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in (args.images, 2 * args.images):
        embeddings, num_groups = draw(number)
        items = [{"image": f"/{n}.png", "path": f"{n}.png", "patient_id": ""} for n in range(number)]
        images = EmbeddedImages([embeddings], np.arange(number), {}, [], np.zeros((number, 2), np.int64))
        side = EmbeddedSide(Side("training", Path("set"), items, []), images, {"images": "a set"}, [], continued=False)
        options = SimpleNamespace(
            top_k=10, num_proposed=10, verify=False, image_size=(136, 112), output_dir=Path("out"), device="cpu"
        )
        thresholds = Thresholds(None, 0.99, "deepssim", "this benchmark")
        units = [FileUnit((item["image"],), (n,)) for n, item in enumerate(items)]
        start = time.perf_counter()
        detector = CosineDetector(embeddings)
        search = SelfSearch(side, range(number), detector, thresholds, options)
        found = group_duplicates(search, units, [""] * number)
        seconds = time.perf_counter() - start
        results.append(
            {
                "images": number,
                "seconds": seconds,
                "search_seconds": detector.seconds,
                "searches": found.rounds,
                "groups": len(found.groups),
                "groups_put_in": num_groups,
            }
        )
        row = "| {images:,} | {seconds:.1f} | {search_seconds:.1f} | {searches} | {groups:,} | {groups_put_in:,} |"
        print(row.format(**results[-1]))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
