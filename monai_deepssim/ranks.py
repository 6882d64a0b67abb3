"""Several processes that do one run together, on one machine or several: ranks, as torchrun starts them.

All ranks run the same program in the same order. What is heavy is cut into units, and each rank takes the next one when
it is free (:meth:`Ranks.share`); what is light, all of them do. They talk through the key-value store that torchrun
starts for them (:class:`torch.distributed.TCPStore`), so that no rank waits in a collective for one that has died: who
waits also looks whether the others are alive and well.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.interruptions import interruption_in_words
from monai_deepssim.progress import is_quiet, quiet
from monai_deepssim.started_ranks import lost_process

if TYPE_CHECKING:
    import torch

__all__ = [
    "Ranks",
    "as_rank",
    "current_ranks",
    "device_of_rank",
    "is_first_process",
    "joined_ranks",
    "pack_arrays",
    "unpack_arrays",
]

# A rank that has not moved for so long has died, or its machine has. Twice as long as torch compiles anything.
_PATIENCE_SECONDS, _HEARTBEAT_SECONDS = 120.0, 2.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
# The store takes 8 MiB in one value.
_BYTES_AT_ONCE = 4 * 2**20
_JOIN_SECONDS = 300
_UNUSABLE_INPUT = 2
_FAILURE, _FAILURES = "failure", "failures"


class Ranks:
    """The processes of a run, seen by one of them.

    Args:
        store: where they talk: a :class:`torch.distributed.Store`; ``None`` of a process that is alone.
        rank: number of this process, from 0.
        size: how many there are.

    Example:
        >>> alone = Ranks()
        >>> alone.share(3, lambda unit: bytes([unit]))
        [b'\\x00', b'\\x01', b'\\x02']
    """

    def __init__(self, store: Any = None, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._store = store
        self._step = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def share(self, count: int, work: Callable[[int], bytes]) -> list[bytes]:
        """Do units of work, each by whichever rank is free, and give the results of all to each rank.

        All ranks have to call this, with the same number of units.

        Args:
            count: number of units.
            work: does unit 0 to ``count - 1``.

        Returns:
            The results, by unit.

        Raises:
            UnusableInputError: if another rank has failed, or does not answer.
            RuntimeError: if the ranks were given different numbers of units.
        """
        if self.size == 1:
            return [work(unit) for unit in range(count)]
        step = self._next_step()
        done: dict[int, bytes] = {}
        while (unit := self._store.add(f"{step}/next", 1) - 1) < count:
            self._check_others()
            done[unit] = work(unit)
        results: dict[int, bytes] = {}
        contents = self.gather(count.to_bytes(8, "big") + _join_units(done))
        counts = [int.from_bytes(content[:8], "big") for content in contents]
        if len(set(counts)) > 1:
            raise RuntimeError(f"{step}: the ranks were given {counts} units, want the same number.")
        for content in contents:
            results.update(_split_units(content[8:]))
        return [results[unit] for unit in range(count)]

    def gather(self, content: bytes) -> list[bytes]:
        """Exchange something, so that each rank has what each has given, by rank; also a barrier.

        Raises:
            UnusableInputError: if another rank has failed, or does not answer.
        """
        if self.size == 1:
            return [content]
        step = self._next_step()
        num_parts = -(-len(content) // _BYTES_AT_ONCE)
        for part in range(num_parts):
            chunk = content[part * _BYTES_AT_ONCE : (part + 1) * _BYTES_AT_ONCE]
            self._store.set(f"{step}/{self.rank}/{part}", chunk)
        self._store.set(f"{step}/{self.rank}", str(num_parts))
        gathered = [content if rank == self.rank else self._receive(step, rank) for rank in range(self.size)]
        if self._store.add(f"{step}/read", 1) == self.size:  # nobody needs it any more
            for rank, entry in enumerate(gathered):
                for part in range(-(-len(entry) // _BYTES_AT_ONCE)):
                    self._store.delete_key(f"{step}/{rank}/{part}")
        return gathered

    def of_first(self, value: Any) -> Any:
        """What rank 0 gives, of values that JSON can hold; also a barrier.

        Raises:
            UnusableInputError: if another rank has failed, or does not answer.
        """
        return json.loads(self.gather(json.dumps(value).encode() if self.is_first else b"")[0])

    def wait(self) -> None:
        """Wait until all ranks have come to this place."""
        self.gather(b"")

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let rank 0 do a block before the others do it."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def check_agreement(self, seen: str, subject: str) -> None:
        """Refuse to go on where ranks see different things.

        Args:
            seen: what this rank sees, in a few words.
            subject: what it is that they see, for the message.

        Raises:
            UnusableInputError: naming a rank that sees something else than the first.
        """
        reports = [json.loads(entry) for entry in self.gather(json.dumps([seen, socket.gethostname()]).encode())]
        for rank, (other, host) in enumerate(reports):
            if other != reports[0][0]:
                raise UnusableInputError(
                    f"{subject}: rank 0 on {reports[0][1]} sees {reports[0][0]}, rank {rank} on {host} sees {other}. "
                    "Give all processes the same options and folders that all machines share."
                )

    def _receive(self, step: str, rank: int) -> bytes:
        key = f"{step}/{rank}"
        self._wait_for(key, rank)
        num_parts = int(self._store.get(key))
        return b"".join(self._store.get(f"{key}/{part}") for part in range(num_parts))

    def _next_step(self) -> str:
        self._step += 1
        return f"step/{self._step}"

    def _wait_for(self, key: str, rank: int) -> None:
        """Wait for a key that another rank sets, as long as all are well and that one is alive."""
        pause, heard, last = _SHORTEST_PAUSE, b"", time.monotonic()
        while not self._store.check([key]):
            self._check_others()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            beat = self._store.get(f"alive/{rank}") if self._store.check([f"alive/{rank}"]) else b""
            if beat != heard:
                heard, last = beat, time.monotonic()
            if time.monotonic() - last > _PATIENCE_SECONDS:
                raise UnusableInputError(
                    f"rank {rank} of {self.size} has not answered for {_PATIENCE_SECONDS:.0f} seconds: its process or "
                    "its machine has ended, for lack of memory perhaps. The same command continues where this stopped."
                )

    def _check_others(self) -> None:
        lost = lost_process()  # looked at first: what ended it may be in the store
        if self._store.check([_FAILURE]):
            raise _OtherRankError
        if lost is not None:
            raise UnusableInputError(
                f"{lost}, for lack of memory perhaps. The same command continues where this stopped."
            )

    def report(self, error: BaseException) -> None:
        """Let the other ranks know that this one ends, and raise what it should end with.

        One message is enough: the first rank that failed says it, and rank 0 where that one is on another machine.

        Args:
            error: why it ends.

        Raises:
            SystemExit: where another rank says it.
            UnusableInputError: naming the rank that failed.
        """
        message, status = _in_words(error)
        here = socket.gethostname()
        try:
            is_other = isinstance(error, _OtherRankError)
            if not is_other and self._store.add(_FAILURES, 1) == 1:
                self._store.set(_FAILURE, json.dumps([self.rank, here, message, status]))
                is_other = not self.is_first and isinstance(error, KeyboardInterrupt)
                if self.is_first or not isinstance(error, UnusableInputError) or is_other:
                    return
                raise UnusableInputError(f"rank {self.rank} on {here}: {error}") from error
            self._store.wait([_FAILURE], timedelta(seconds=_PATIENCE_SECONDS))
            rank, host, message, status = json.loads(self._store.get(_FAILURE))
        except RuntimeError:  # the store has ended, with the process that held it
            rank, host = 0, here
        if self.is_first and host != here:
            raise UnusableInputError(f"rank {rank} on {host}: {message}") from error
        sys.exit(status)

    def beat(self, ended: threading.Event) -> None:
        """Tell the others every two seconds that this rank is alive, until the event is set."""
        with suppress(RuntimeError):  # the process that holds the store has ended, which is noticed elsewhere
            while not ended.wait(_HEARTBEAT_SECONDS):
                self._store.add(f"alive/{self.rank}", 1)

    def leave(self) -> None:
        """End well: rank 0, which may hold the store, stays until the others have left."""
        self._store.add("left", 1)
        end = time.monotonic() + _PATIENCE_SECONDS
        while self.is_first and self._store.add("left", 0) < self.size and time.monotonic() < end:
            time.sleep(_LONGEST_PAUSE)


class _OtherRankError(UnusableInputError):
    """Another rank has failed, and says why."""


_ALONE = Ranks()
_CURRENT: ContextVar[Ranks] = ContextVar("ranks", default=_ALONE)


def current_ranks() -> Ranks:
    """The ranks that this process has joined; of one that has not, itself alone."""
    return _CURRENT.get()


@contextmanager
def as_rank(ranks: Ranks) -> Iterator[Ranks]:
    """Be one of several ranks within a block; those other than 0 print nothing.

    Example:
        >>> with as_rank(Ranks(store=None, rank=1, size=2)):
        ...     print("not shown") if current_ranks().is_first else None
    """
    token = _CURRENT.set(ranks)
    try:
        with quiet(is_quiet() or not ranks.is_first):
            yield ranks
    finally:
        _CURRENT.reset(token)


def is_first_process() -> bool:
    """Whether this process is the one that prints, by what torchrun tells it."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Join the other processes that torchrun has started, for a block that all of them run; without torchrun, be alone.

    Within the block ranks other than 0 print nothing, and each rank takes its share of the machine's cores. An error
    of one ends all of them: it is said once.

    Yields:
        The ranks.

    Raises:
        UnusableInputError: if the others cannot be reached.
        SystemExit: where another rank has failed, which says why.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or current_ranks().size > 1:
        yield current_ranks()
        return
    ranks, ended = _join(), threading.Event()
    heart = threading.Thread(target=ranks.beat, args=(ended,), daemon=True)
    heart.start()
    try:
        with as_rank(ranks), _own_threads(), warnings.catch_warnings():
            if not ranks.is_first:
                warnings.simplefilter("ignore")
            yield ranks
            ranks.leave()
    except SystemExit:  # a gate that is not passed, say: all work is done
        ranks.leave()
        raise
    except BaseException as error:
        ranks.report(error)
        raise
    finally:
        ended.set()
        heart.join(_HEARTBEAT_SECONDS)


def _join() -> Ranks:
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=_JOIN_SECONDS)))
    except (ValueError, RuntimeError) as error:
        raise UnusableInputError(
            f"this is one of {os.environ['WORLD_SIZE']} processes (WORLD_SIZE), but the others cannot be reached "
            f"({str(error).splitlines()[0]}). Start it with torchrun, or with WORLD_SIZE unset."
        ) from error
    return Ranks(store, rank, size)


@contextmanager
def _own_threads() -> Iterator[None]:
    """Use this rank's share of the machine's cores: torchrun would give it one thread, or all of them without."""
    import torch

    before = torch.get_num_threads()
    asked = os.environ.get("OMP_NUM_THREADS", "1")
    if asked == "1":  # which torchrun sets where nobody has asked for a number
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        threads = max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_words(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return interruption_in_words(error)
    if isinstance(error, UnusableInputError):
        return str(error), _UNUSABLE_INPUT
    return f"{type(error).__name__}: {error}", 1


def device_of_rank(device: torch.device) -> torch.device:
    """The device of this rank: of several GPUs of a machine, each of its ranks takes another.

    Args:
        device: as asked for. One with a number is taken as it is.

    Example:
        >>> import torch
        >>> device_of_rank(torch.device("cpu"))
        device(type='cpu')
    """
    import torch

    if device.type != "cuda" or device.index is not None or current_ranks().size == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _join_units(results: Mapping[int, bytes]) -> bytes:
    header = json.dumps([[unit, len(content)] for unit, content in results.items()]).encode()
    return len(header).to_bytes(8, "big") + header + b"".join(results.values())


def _split_units(content: bytes) -> dict[int, bytes]:
    start = 8 + int.from_bytes(content[:8], "big")
    results = {}
    for unit, length in json.loads(content[8:start]):
        results[unit] = content[start : start + length]
        start += length
    return results


def pack_arrays(arrays: Sequence[np.ndarray]) -> bytes:
    """Turn arrays into bytes that hold nothing else: no pickle, which could run code of whoever reaches the store.

    Example:
        >>> [array.tolist() for array in unpack_arrays(pack_arrays([np.arange(3), np.ones((1, 2))]))]
        [[0, 1, 2], [[1.0, 1.0]]]
    """
    stream = io.BytesIO()
    np.savez(stream, *arrays)
    return stream.getvalue()


def unpack_arrays(content: bytes) -> list[np.ndarray]:
    """The arrays that :func:`pack_arrays` has packed."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return [archive[f"arr_{number}"] for number in range(len(archive.files))]
