"""Times the index of local descriptors as the number of images grows, and measures its memory.

    python benchmarks/descriptor_index.py --json descriptor_index.json

Descriptors are drawn, as many per image as a slice of 256 x 256 pixels has. Queries are the descriptors of some of the
images with noise. Prints seconds to build the index, milliseconds per query image, bytes per image of the index with
the descriptors, and the share of the queries whose image has most votes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from nearest_neighbors import peak_memory

from monai_deepssim.search import DescriptorIndex

DESCRIPTORS_OF_IMAGE, NUM_QUERIES = 300, 50


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[500, 2000], help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    args = parser.parse_args()
    results = []
    print("| images | build, s | query, ms | kB per image | found |\n| --- | --- | --- | --- | --- |")
    for number in args.images:
        random = np.random.default_rng(0)
        # Few large values and many small ones, as SIFT's histograms of gradients are.
        images = [
            np.minimum(random.exponential(28, (DESCRIPTORS_OF_IMAGE, 128)), 255).astype(np.uint8) for _ in range(number)
        ]
        with peak_memory() as peak:
            start = time.perf_counter()
            index = DescriptorIndex().fit(images)
            build_seconds = time.perf_counter() - start
        chosen = random.integers(0, number, NUM_QUERIES)
        queries = [
            np.clip(images[one] + random.normal(0, 10, images[one].shape), 0, 255).astype(np.uint8) for one in chosen
        ]
        start = time.perf_counter()
        found = [int(index.vote(query).argmax()) for query in queries]
        results.append(
            {
                "images": number,
                "build_seconds": build_seconds,
                "query_milliseconds": 1000 * (time.perf_counter() - start) / NUM_QUERIES,
                "kilobytes_per_image": peak() / number / 1000,
                "found": float((found == chosen).mean()),
            }
        )
        print(
            "| {images:,} | {build_seconds:.1f} | {query_milliseconds:.0f} | {kilobytes_per_image:.0f} | {found:.2f} |"
            "".format(**results[-1])
        )
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
