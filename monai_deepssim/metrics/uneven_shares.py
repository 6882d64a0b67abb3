"""The distributed sync of MONAI's cumulative metrics, for ranks whose shares are uneven or empty."""

from __future__ import annotations

from typing import Any

import torch
from monai.metrics.metric import Cumulative
from monai.utils import convert_to_tensor, evenly_divisible_all_gather

__all__ = ["SyncsUnevenShares"]


class SyncsUnevenShares(Cumulative):
    """Lets a rank that never updated the metric take part in its sync, and computes lists of items in one batch.

    In MONAI 1.6.1 such a rank returns early from the sync and the others wait for it until the process group times
    out. Here all ranks first exchange the shapes of their items. Lists, as MONAI's evaluators make them, MONAI computes
    item by item; here those of one shape become one batch. To be named before MONAI's metric class among the base
    classes of a metric whose buffers are float32.

    Raises:
        ValueError: in the sync, on every rank, when ranks hold items of different shapes; and when two lists are not
            equally long, or empty.

    Example:
        >>> from monai.metrics import MSEMetric
        >>> class DistributedMSE(SyncsUnevenShares, MSEMetric): ...
        >>> metric = DistributedMSE()
        >>> _ = metric(torch.zeros(2, 1), torch.ones(2, 1))
        >>> metric.aggregate()
        tensor([1.])
    """

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: Any) -> Any:
        given = [side for side in (y_pred, y) if side is not None]
        sides = [[convert_to_tensor(item, track_meta=False) for item in side] for side in given]
        if not sides[0] or len({len(side) for side in sides}) > 1:
            raise ValueError(f"got lists of {[len(side) for side in sides]} items, want equally many, at least one")
        if any(len({item.shape for item in side}) > 1 for side in sides):
            return super()._compute_list(*sides, **kwargs)  # type: ignore[misc]
        batches = [torch.stack(side) for side in sides]
        return self._compute_tensor(*batches, *[None] * (2 - len(batches)), **kwargs)  # type: ignore[attr-defined]

    def _sync(self) -> None:
        if self._synced:
            return
        share = [torch.stack(items) for items in self._buffers or [] if items]
        # Every rank sends at least one number, as some backends do not gather empty tensors.
        description = [len(share)]
        for tensor in share:
            description += [tensor.ndim - 1, *tensor.shape[1:]]
        device = share[0].device if share else torch.device("cpu")
        gathered = evenly_divisible_all_gather(torch.tensor(description, device=device), concat=False)
        if isinstance(gathered, list):  # a tensor in a single process
            shapes = _agreed_shapes(gathered)  # on every rank, so that all of them raise or none
            share = share or [torch.zeros(0, *shape) for shape in shapes]
        if share:
            self._synced_tensors = [evenly_divisible_all_gather(tensor, concat=True) for tensor in share]
            self._synced = True


def _agreed_shapes(descriptions: list[torch.Tensor]) -> list[tuple[int, ...]]:
    distinct = {tuple(numbers) for numbers in (d.tolist() for d in descriptions) if numbers[0] > 0}
    per_rank = [_decode(numbers) for numbers in sorted(distinct)]
    if len(per_rank) > 1:
        raise ValueError(
            f"The ranks hold items of different shapes: {per_rank}. Bring all images to one size and embed them with "
            "one model."
        )
    return per_rank[0] if per_rank else []


def _decode(numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
    shapes, position = [], 1
    for _ in range(numbers[0]):
        ndim = numbers[position]
        shapes.append(tuple(numbers[position + 1 : position + 1 + ndim]))
        position += 1 + ndim
    return shapes
