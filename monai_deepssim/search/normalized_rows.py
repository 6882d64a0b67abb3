"""Embeddings in memory, on disk or in shards, read block by block as rows of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import torch

from monai_deepssim.errors import UnusableInputError

__all__ = ["Embeddings", "NormalizedRows"]

Shard: TypeAlias = torch.Tensor | np.ndarray
Embeddings: TypeAlias = Shard | Sequence[Shard]


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
        self._starts = [0, *accumulate(len(shard) for shard in self._shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def device(self) -> torch.device:
        """Where the first shard is; numpy arrays are on the CPU."""
        first = self._shards[0]
        return first.device if isinstance(first, torch.Tensor) else torch.device("cpu")

    def check(self, block_size: int) -> None:
        """Read every row once, ``block_size`` at a time, so that an unusable row is named before a long search."""
        for start in range(0, len(self), block_size):
            self.read(start, start + block_size)

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
        pieces = [
            _to_tensor(shard[max(start - first, 0) : stop - first], device)
            for first, shard in zip(self._starts, self._shards, strict=False)
            if first < stop and start < first + len(shard)
        ]
        rows = torch.cat(pieces) if pieces else torch.zeros(0, self.dim, device=device or self.device)
        return self._normalize(rows, start)

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


def _to_tensor(shard: Shard, device: torch.device | str | None) -> torch.Tensor:
    # np.array copies just these rows out of a memmap, and a read-only array into one that torch may own.
    tensor = shard.detach() if isinstance(shard, torch.Tensor) else torch.from_numpy(np.array(shard))
    if device is not None and torch.device(device).type == "mps" and tensor.dtype == torch.float64:
        tensor = tensor.float()
    return tensor if device is None else tensor.to(device)
