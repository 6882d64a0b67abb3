"""How long the first run on a machine waits for the compiler.

    python benchmarks/cold_start.py --json cold_start.json
    python benchmarks/cold_start.py --before OTHER_CHECKOUT

Compiles what an audit of images, one of volumes, and pairwise SSIM need, each in a new process with an empty cache, and
then once more with the cache that was made. The seconds are those of the call that compiles, without the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = {
    "images": "from monai_deepssim.similarity import copy_score as f; x = torch.rand(2, 1, 64, 64); a = (x, x.flip(0))",
    "volumes": "from monai_deepssim.similarity import aligned_ssim as f; x = torch.rand(1, 1, 32, 32, 32); a = (x, x)",
    "pairwise SSIM": "from monai_deepssim.similarity import pairwise_ssim as f; a = (torch.rand(2, 1, 64, 64),)",
}
TIMED = "import time, torch; {call}; start = time.perf_counter(); f(*a); print(time.perf_counter() - start)"


def first_call(checkout: Path, call: str, cache: str) -> float:
    """Seconds of a call in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", TIMED.format(call=call)]
    done = subprocess.run(command, env=environment, cwd=cache, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder of another checkout")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args()
    checkouts = {"before": options.before.resolve()} if options.before else {}
    numbers: dict[str, dict[str, list[float]]] = {}
    print("| seconds of the first call | checkout | empty cache | next process |\n| --- | --- | --- | --- |")
    for which, checkout in {**checkouts, "now": Path(__file__).resolve().parents[1]}.items():
        for name, call in CALLS.items():
            with tempfile.TemporaryDirectory() as cache:
                cold, warm = (first_call(checkout, call, cache) for _ in range(2))
            numbers.setdefault(which, {})[name] = [cold, warm]
            print(f"| {name} | {which} | {cold:.1f} | {warm:.2f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
