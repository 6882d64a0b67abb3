"""Two processes, forked from one that has imported everything: a new process would take seconds for its imports."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

__all__ = ["run_bundle_on_two_processes", "run_on_two_processes"]

# Imported once per process of tests; a module that is missing costs the time of its import in each process.
_IMPORTED = [
    "ignite.engine",
    "monai.bundle",
    "monai.engines",
    "monai.handlers",
    "monai_deepssim.generators",
    "monai_deepssim.handlers",
    "monai_deepssim.workflow",
    "pytest",
    "tensorboard",
    "torch.utils.tensorboard",
]


def run_on_two_processes(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function of a module that can be imported, with the rank of the process and further arguments."""
    multiprocessing.set_forkserver_preload(_IMPORTED)
    torch.multiprocessing.start_processes(function, args=arguments, nprocs=2, start_method="forkserver")


def run_bundle_on_two_processes(configs: Sequence[Path], bundle: Path, folder: Path, **overrides: Any) -> str:
    """Run a bundle in the environment that torchrun gives to each of two processes; return what rank 0 prints."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    run_on_two_processes(_run_bundle, store.port, [str(path) for path in configs], str(bundle), str(folder), overrides)
    return "".join((folder / f"{rank}.out").read_text() for rank in range(2))


def _run_bundle(rank: int, port: int, configs: list[str], bundle: str, folder: str, overrides: dict[str, Any]) -> None:
    from monai.bundle import run

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    # The store is in the process of the test and not in rank 0, as torchrun has it.
    os.environ |= {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    with open(f"{folder}/{rank}.out", "w") as file, redirect_stdout(file):
        run(config_file=configs, bundle_root=bundle, **overrides)
