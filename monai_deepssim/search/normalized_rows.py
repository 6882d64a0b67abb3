"""Embeddings in memory, on disk or in shards, read block by block as rows of unit length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

import numpy as np
import torch

from monai_deepssim.errors import UnusableInputError

__all__ = ["Embeddings", "NormalizedRows", "RowBlock"]

Shard: TypeAlias = torch.Tensor | np.ndarray
Embeddings: TypeAlias = Shard | Sequence[Shard]

# What float32 holds exactly; anything else is brought to length 1 in float64 when it is read.
_NARROW = (torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.int8, torch.int16, torch.bool)
# Few enough for the cache of a core, in which they are widened.
_ROWS_PER_LENGTH = 256


class RowBlock(NamedTuple):
    """Consecutive rows as they are stored, with their lengths.

    Attributes:
        values: ``(n, D)``, float32; of numbers that float32 cannot hold rows of length 1, float64.
        lengths: ``(n,)`` float64 (float32 on ``mps``), above 0.
    """

    values: torch.Tensor
    lengths: torch.Tensor

    def take(self, rows: torch.Tensor) -> RowBlock:
        """Some of the rows.

        Args:
            rows: int64 ``(m,)``.
        """
        return RowBlock(self.values[rows], self.lengths[rows])

    def in_single_precision(self, out: torch.Tensor | None = None) -> torch.Tensor:
        """The rows at length 1, float32: each number is off by two units in the last place at most.

        Args:
            out: float32 ``(n, D)`` to write them into; a new tensor by default.
        """
        out = torch.empty_like(self.values, dtype=torch.float32) if out is None else out
        if self.values.dtype == torch.float64:
            return out.copy_(self.values)
        return torch.mul(self.values, (1 / self.lengths).float()[:, None], out=out)

    def in_double_precision(self) -> torch.Tensor:
        """The rows at length 1, float64 (float32 on ``mps``)."""
        return self.values.to(self.lengths.dtype) / self.lengths[:, None]


class NormalizedRows:
    """Reads embeddings as the rows of one matrix, each scaled to unit length in double precision.

    Only the rows that are asked for are copied, so a ``numpy.memmap`` larger than memory can be read in blocks. Every
    row that is read is checked: a cosine with a zero or non-finite row means nothing.

    Args:
        embeddings: ``(N, D)`` tensor, numpy array or memmap of real numbers, or a sequence of such shards with the
            same ``D``, whose rows follow each other.
        name: what messages call these embeddings.

    Raises:
        TypeError: when a shard is neither a tensor nor an array.
        ValueError: when a shard is not ``(N, D)``, when shards differ in ``D``, or when there is no shard.

    Example:
        >>> rows = NormalizedRows([torch.tensor([[3.0, 4.0]]), np.array([[0.0, 2.0]], dtype=np.float32)])
        >>> len(rows), rows.dim
        (2, 2)
        >>> rows.read(0, 2)
        tensor([[0.6000, 0.8000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """

    def __init__(self, embeddings: Embeddings, name: str = "embeddings") -> None:
        self.name = name
        self._shards: Sequence[Shard] = (
            [embeddings] if isinstance(embeddings, (torch.Tensor, np.ndarray)) else embeddings
        )
        if not isinstance(self._shards, Sequence):
            raise TypeError(f"{name}: got {type(embeddings)}, wanted a tensor, a numpy array or a sequence of them.")
        if len(self._shards) == 0:
            raise ValueError(f"{name}: got an empty sequence, wanted at least one (N, D) shard.")
        for number, shard in enumerate(self._shards):
            if not isinstance(shard, (torch.Tensor, np.ndarray)):
                raise TypeError(f"{name}: shard {number} is {type(shard)}, wanted a tensor or a numpy array.")
            if shard.ndim != 2 or shard.shape[1] == 0:
                raise ValueError(
                    f"{name}: shard {number} has shape {tuple(shard.shape)}, wanted (N, D) with one embedding per row. "
                    "Stack single embeddings with torch.stack."
                )
        widths = sorted({shard.shape[1] for shard in self._shards})
        if len(widths) > 1:
            raise ValueError(f"{name}: shards differ in embedding size {widths}. Embed all of them with one model.")
        self.dim: int = widths[0]
        # Of mixed shards all are widened, so that lengths mean the same for every row.
        self._is_wide = any(_type_of(shard) not in _NARROW for shard in self._shards)
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def device(self) -> torch.device:
        """Where the first shard is; numpy arrays are on the CPU."""
        first = self._shards[0]
        return first.device if isinstance(first, torch.Tensor) else torch.device("cpu")

    def measure(self, block_size: int) -> torch.Tensor:
        """Read every row once, ``block_size`` at a time, so that an unusable row is named before a long search.

        Returns:
            Length of each row, float64 ``(N,)`` on the CPU.

        Raises:
            UnusableInputError: when a row is all zeros or holds a NaN or an infinity.
        """
        lengths = torch.ones(len(self), dtype=torch.float64)
        for start in range(0, len(self), min(block_size, _ROWS_PER_LENGTH)):
            block = self._gather(start, start + min(block_size, _ROWS_PER_LENGTH), None)
            if self._is_wide:
                self._normalize(block, start)
                continue
            wide = block.float() if block.device.type == "mps" else block.double()
            part = torch.linalg.vector_norm(wide, dim=1)
            if not bool((part.isfinite() & (part > 0)).all()):
                self._normalize(block, start)
            lengths[start : start + len(part)] = part.cpu().double()
        return lengths

    def check_width(self, training: NormalizedRows) -> None:
        """Refuse embeddings that are not as wide as the training embeddings.

        Raises:
            ValueError: naming both widths.
        """
        if self.dim != training.dim:
            raise ValueError(
                f"{self.name} have {self.dim} values per row, the {training.name} {training.dim}. Embed both with the "
                "same model."
            )

    def read(self, start: int, stop: int, device: torch.device | str | None = None) -> torch.Tensor:
        """Read consecutive rows.

        Args:
            start: first row.
            stop: one after the last row; past the end it is cut.
            device: where the rows are wanted; where they are by default.

        Returns:
            ``(stop - start, D)`` rows of length 1, float64 (float32 on ``mps``, which has no float64).

        Raises:
            UnusableInputError: when a row is all zeros or holds a NaN or an infinity.
        """
        return self._normalize(self._gather(start, stop, device), start)

    def read_block(self, start: int, stop: int, lengths: torch.Tensor, device: torch.device | str) -> RowBlock:
        """Read consecutive rows as they are.

        Args:
            start: first row.
            stop: one after the last row; past the end it is cut.
            lengths: of all rows, from :meth:`measure`.
            device: where the rows are wanted.
        """
        rows = self._gather(start, stop, device)
        wide = torch.float32 if rows.device.type == "mps" else torch.float64
        values = self._normalize(rows, start) if self._is_wide else rows.float()
        return RowBlock(values, lengths[start:stop].to(values.device, wide))

    def take(self, rows: torch.Tensor, lengths: torch.Tensor) -> RowBlock:
        """Read single rows as they are, on the CPU.

        Args:
            rows: int64 ``(n,)`` on the CPU, in any order.
            lengths: of all rows, from :meth:`measure`.
        """
        order = rows.argsort(stable=True)
        ordered = rows[order].numpy()
        values = torch.empty(len(rows), self.dim, dtype=torch.float64 if self._is_wide else torch.float32)
        shards = np.searchsorted(self._starts, ordered, side="right") - 1
        for number in np.unique(shards).tolist():
            first, last = np.searchsorted(shards, [number, number + 1]).tolist()
            chosen = self._shards[number][ordered[first:last] - self._starts[number]]
            values[order[first:last]] = _to_tensor(chosen, "cpu").to(values.dtype)
        return RowBlock(self._normalize(values, 0) if self._is_wide else values, lengths[rows])

    def _gather(self, start: int, stop: int, device: torch.device | str | None) -> torch.Tensor:
        pieces = list(self._pieces(start, min(stop, len(self)), device))
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat(pieces) if pieces else torch.zeros(0, self.dim, device=device or self.device)

    def _pieces(self, start: int, stop: int, device: torch.device | str | None) -> Iterator[torch.Tensor]:
        number = max(bisect_right(self._starts, start) - 1, 0)
        while number < len(self._shards) and self._starts[number] < stop:
            first, shard = self._starts[number], self._shards[number]
            if start < first + len(shard):
                yield _to_tensor(shard[max(start - first, 0) : stop - first], device)
            number += 1

    def _normalize(self, rows: torch.Tensor, first: int) -> torch.Tensor:
        rows = rows.float() if rows.device.type == "mps" else rows.double()
        largest = rows.abs().amax(dim=1, keepdim=True)
        # A NaN makes the maximum NaN, an infinity makes it infinite: one test per row is enough.
        unusable = (~torch.isfinite(largest) | (largest == 0)).squeeze(1)
        if unusable.any():
            position = int(unusable.nonzero()[0])
            problem = "all zeros" if float(largest[position]) == 0 else "not finite (NaN or infinity)"
            raise UnusableInputError(
                f"{self.name}: row {first + position} of {len(self)} is {problem}, so it has no cosine with "
                "anything. Look at the image of that row and at the model that embedded it, or leave the image out."
            )
        # Dividing by the largest value first keeps the squares of very large and very small embeddings in range.
        rows = rows / largest
        return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _type_of(shard: Shard) -> torch.dtype:
    return shard.dtype if isinstance(shard, torch.Tensor) else torch.from_numpy(np.empty(0, shard.dtype)).dtype


def _to_tensor(shard: Shard, device: torch.device | str | None) -> torch.Tensor:
    # np.array copies just these rows out of a memmap, and a read-only array into one that torch may own.
    tensor = shard.detach() if isinstance(shard, torch.Tensor) else torch.from_numpy(np.array(shard))
    if device is not None and torch.device(device).type == "mps" and tensor.dtype == torch.float64:
        tensor = tensor.float()
    return tensor if device is None else tensor.to(device)
