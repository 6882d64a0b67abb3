"""Runs commands in forks of one process that has imported everything, and disturbs them at a call of the file system.

Started as a script by :class:`ForkServer`, which is what tests use. A fork costs milliseconds, a new process seconds.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

# Events of sys.addaudithook that change files, with the positions of the paths in their arguments.
_CHANGES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.chmod": (0,),
    "shutil.copyfile": (1,),
}
_SIGNALS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}


@dataclass(frozen=True)
class Outcome:
    """How a fork ended.

    Attributes:
        status: Its exit status; minus the number of the signal that killed it.
        calls: Calls of the file system that changed something below its working directory.
        out: What it wrote to the standard output.
        err: What it wrote to the standard error.
    """

    status: int
    calls: int
    out: str
    err: str


class ForkServer:
    """A process that waits for commands; close it with :meth:`close`."""

    def __init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
        )

    def run(
        self, command: list[str], folder: Path, *, how: str = "", at: int = 0, environment: dict[str, str] | None = None
    ) -> Outcome:
        """Run a command in a folder.

        Args:
            command: what would be typed after ``monai-deepssim``, or ``train`` with its arguments.
            folder: its working directory; only changes below it are counted.
            how: ``kill``, ``interrupt``, ``terminate``, ``full`` (no space is left from there on) or nothing.
            at: number of the call, from 1, at which that happens.
            environment: of a rank: variables that torchrun sets.
        """
        log = f"{folder}{(environment or {}).get('RANK', '')}"
        request = {"command": command, "folder": str(folder), "how": how, "at": at, "log": log}
        request["environment"] = environment or {}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def _disturb(folder: str, how: str, at: int, calls: list[int]) -> None:
    """Count the changes of files below a folder, and end or fail at one of them."""

    def is_below(path: object) -> bool:
        return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(folder)

    def count() -> None:
        calls[0] += 1
        if how == "full" and at and calls[0] >= at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if calls[0] == at:
            os.kill(os.getpid(), _SIGNALS[how])

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and is_below(path):
                count()
        elif how == "full" and event in ("os.remove", "os.rmdir"):
            pass  # a full disk can be cleaned up
        elif event in _CHANGES and any(is_below(arguments[position]) for position in _CHANGES[event]):
            count()

    synced = os.fsync

    def fsync(descriptor: int) -> None:
        count()
        synced(descriptor)

    os.fsync = fsync
    sys.addaudithook(hook)


def _run(request: dict, report: int) -> None:
    """In the fork: run the command and leave, whatever happens."""
    from monai_deepssim import ranks
    from monai_deepssim.__main__ import main

    os.environ.update(request["environment"])
    ranks._PATIENCE_SECONDS, ranks._HEARTBEAT_SECONDS = 8.0, 0.2
    folder, calls, status = request["folder"], [0], 70
    # A shell starts what runs in its background with this signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for descriptor, name in ((1, "out"), (2, "err")):
        target = os.open(f"{request['log']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, descriptor)
    try:
        _disturb(folder + os.sep, request["how"], request["at"], calls)
        if request["command"][0] == "train":
            from resumed_training import train

            status = train(*request["command"][1:])
        else:
            status = main(request["command"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(report, str(calls[0]).encode())
        os._exit(status)


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    import resumed_training  # noqa: F401

    import monai_deepssim.audit
    import monai_deepssim.audit.audit
    import monai_deepssim.audit.clean_up.copy_filter
    import monai_deepssim.audit.clean_up.deduplication
    import monai_deepssim.benchmark.benchmark
    import monai_deepssim.command
    import monai_deepssim.study.study  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            _run(request, writer)
        os.close(writer)
        _, ended = os.waitpid(child, 0)
        calls = os.read(reader, 100)
        os.close(reader)
        texts = [Path(f"{request['log']}.{name}").read_text(errors="replace") for name in ("out", "err")]
        outcome = Outcome(os.waitstatus_to_exitcode(ended), int(calls or 0), *texts)
        print(json.dumps(vars(outcome)), flush=True)


if __name__ == "__main__":
    _serve()
