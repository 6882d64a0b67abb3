"""The other processes of a run on this machine, which the command starts itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

from monai_deepssim.errors import UnusableInputError

__all__ = ["lost_process", "read_num_processes", "started_ranks"]

# What a process that has done its work, or was asked to end, takes for that.
_SECONDS_TO_END = 20
# More than any machine has use for, and few enough to be started without harm.
_MOST = 256
_STARTED: list[subprocess.Popen] = []
# The folders of modules are those of this process: "-m" would look into the current folder first.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from monai_deepssim.__main__ import main; sys.exit(main(sys.argv[1:]))"


def read_num_processes(text: str | None) -> int:
    """Read the option ``--processes``.

    Args:
        text: as typed; ``None`` where it was not.

    Returns:
        How many have to run, with this one; 1 of a process that is one of so many.

    Raises:
        UnusableInputError: when it is no such number, or torchrun has started another number of them.

    Example:
        >>> read_num_processes(None), read_num_processes("4")
        (1, 4)
    """
    if text is None:
        return 1
    if not text.isdecimal() or len(text) > len(str(_MOST)) or not 1 <= int(text) <= _MOST:
        raise UnusableInputError(f"--processes: is {text[:20]!r}, wanted a whole number from 1 to {_MOST}.")
    count, started = int(text), os.environ.get("WORLD_SIZE", "1")
    if started == str(count):  # this is one of them
        return 1
    if started != "1":
        raise UnusableInputError(
            f"--processes: is {count}, and torchrun has started {started} processes (WORLD_SIZE). Leave out one of "
            "both."
        )
    return count


@contextmanager
def started_ranks(count: int, arguments: Sequence[str]) -> Iterator[None]:
    """Start further processes with the same command, and be rank 0 among them within the block.

    They end with the block: on their own where all is well, and else because they are told to. Ctrl-C reaches all of
    them, and rank 0 says so.

    Args:
        count: number of processes with this one; of 1 nothing happens.
        arguments: what was typed after ``monai-deepssim``.
    """
    if count == 1:
        yield
        return
    from torch.distributed import TCPStore

    # In this process, on a port that is free; all ranks are its clients, so that none waits for one that never comes.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    of_all = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    command = [sys.executable, "-c", _PROGRAM.format(path=sys.path), *arguments]
    try:
        for rank in range(1, count):
            environment = {**os.environ, **of_all, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            _STARTED.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        with patch.dict(os.environ, {**of_all, "RANK": "0", "LOCAL_RANK": "0"}):
            yield
    except BaseException:
        for process in _STARTED:
            process.terminate()
        raise
    finally:
        while _STARTED:
            _end(_STARTED.pop())


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lost_process() -> str | None:
    """Say which of the processes that this one has started has ended without having done its work.

    Returns:
        Its rank and how it ended; ``None`` where all are at work, or done.
    """
    for rank, process in enumerate(_STARTED, start=1):
        status = process.poll()
        if status:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"has ended with status {status}"
            return f"rank {rank} {how}"
    return None
