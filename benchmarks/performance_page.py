"""Brings what the benchmarks printed into docs/performance.md.

    python benchmarks/performance_page.py FOLDER

FOLDER is what `benchmarks/run_all.sh FOLDER` has written. In the page a comment `<!-- output: NAME -->` stands above
the block that holds what the benchmark NAME printed; a block without a file in FOLDER stays as it is, and is named.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
from pathlib import Path

import torch

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- output: (\w+) -->\n```text\n)(.*?)(```\n)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--machine", action="store_true", help="print what this machine is, and do nothing else")
    arguments = parser.parse_args()
    if arguments.machine:
        print(describe_machine())
    elif arguments.folder is None:
        parser.error("give the folder that benchmarks/run_all.sh has written")
    else:
        fill_page(arguments.folder)


def fill_page(folder: Path) -> None:
    """Replace the blocks of the page by the files of the folder."""

    def replace(block: re.Match[str]) -> str:
        printed = folder / f"{block[2]}.txt"
        if not printed.exists():
            print(f"{block[2]}: {printed} is not there, the page keeps what it has")
            return block[0]
        return block[1] + printed.read_text().strip("\n") + "\n" + block[4]

    PAGE.write_text(BLOCK.sub(replace, PAGE.read_text()))


def describe_machine() -> str:
    """The processor, its cores and its vector instructions, memory and versions, in one line."""
    model, flags, memory = platform.processor() or platform.machine(), set(), ""
    if Path("/proc/cpuinfo").exists():
        info = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        values = {name.strip(): value.strip() for name, value in info.items()}
        model, flags = values.get("model name", model), set(values.get("flags", "").split())
        memory = f", {int(Path('/proc/meminfo').read_text().split()[1]) / 2**20:.0f} GiB"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    kinds = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    python = platform.python_version()
    return f"{model}, {cores} cores ({' '.join(kinds)}){memory}, {gpu}; Python {python}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
