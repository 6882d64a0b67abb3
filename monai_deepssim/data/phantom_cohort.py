"""What all cohorts of phantoms are: items that are drawn from a seed and a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose, Transform

__all__ = ["DrawsSubject", "PhantomCohort"]


class DrawsSubject(Transform):
    """Draws the ``image`` of an item from its ``subject``, a seed and a number.

    Args:
        image_size: rows and columns in pixels.
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        self.image_size = tuple(image_size)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        item = dict(data)
        rng = np.random.default_rng(np.random.SeedSequence(tuple(item.pop("subject"))))
        return item | {"image": MetaTensor(torch.from_numpy(self.draw(rng).astype(np.float32)[None]))}

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one subject: ``(rows, columns)`` in [0, 1]."""


class PhantomCohort(CacheDataset):
    """One image a subject, each drawn from the seed sequence ``(seed, number)``.

    A subject is the same in a cohort of any size, and two seeds never share one.

    Args:
        name: what ``patient_id`` and ``path`` begin with.
        generate: makes ``image`` of an item's ``subject``, the pair of seed and number.
        num_subjects: number of subjects.
        seed: seed of the cohort, at least 0.
        transform: applied to each item after it was made; random transforms are applied anew at each access.
        cache_rate: share of the items that is held in memory, 0 to 1.
        num_workers: threads that fill the cache.
        progress: whether to show a progress bar while the cache is filled.

    Raises:
        ValueError: when there is no subject or the seed is negative.
    """

    def __init__(
        self,
        name: str,
        generate: Transform,
        num_subjects: int,
        seed: int,
        *,
        transform: Sequence[Callable] | Callable | None = None,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
    ) -> None:
        if num_subjects < 1 or seed < 0:
            raise ValueError(
                f"got num_subjects={num_subjects}, seed={seed}, want at least 1 subject and a seed of at least 0"
            )
        paths = [f"{name}-{seed}-{number}" for number in range(num_subjects)]
        items = [{"patient_id": path, "path": path, "subject": (seed, number)} for number, path in enumerate(paths)]
        further = [] if transform is None else [transform] if callable(transform) else list(transform)
        steps = Compose([generate, *further])
        super().__init__(items, steps, cache_rate=cache_rate, num_workers=num_workers, progress=progress)
