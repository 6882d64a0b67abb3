"""The images of one side with their embeddings, and which embedder made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.audit.sources import Side
from monai_deepssim.engines import NOTICED, EmbeddedImages, EmbeddingStore
from monai_deepssim.errors import UnusableInputError

__all__ = ["EmbeddedSide", "EmbedderIdentity", "Skipped", "Strangers"]

_STORE_SETTINGS = {
    "image_size": "image_size",
    "embedder_id": "embedder",
    "shard_size": "shard_size",
    "precision": "precision",
}


@dataclass(frozen=True)
class Skipped:
    """A file that was asked for and is not in the audit.

    Attributes:
        side: ``training``, ``synthetic`` or ``holdout``.
        path: relative to its folder.
        reason: what is wrong with it.
    """

    side: str
    path: str
    reason: str


@dataclass(frozen=True)
class EmbedderIdentity:
    """Which embedder the scores come from.

    Attributes:
        name: class and size.
        checkpoint: file it was loaded from; ``None`` where there are no weights.
        sha256: SHA-256 of that file; for a detector other than DeepSSIM, of its name and file.
        embedding_dim: dimension of an embedding.
    """

    name: str
    checkpoint: Path | None
    sha256: str
    embedding_dim: int


@dataclass(frozen=True)
class EmbeddedSide:
    """One side of the audit with its embeddings.

    Attributes:
        side: the files.
        images: the embeddings.
        fingerprint: SHA-256 over the content of all files, and what else the embeddings depend on.
        contents: SHA-256 of the content of each file of the side.
        continued: whether embeddings of an earlier, interrupted or finished run were used.
        file_hashes: SHA-256 of each file, by its path.
    """

    side: Side
    images: EmbeddedImages
    fingerprint: dict[str, Any]
    contents: list[str]
    continued: bool
    file_hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def skipped(self) -> list[Skipped]:
        """Images that have no embedding."""
        return [
            Skipped(self.side.name, self.side.items[index]["path"], reason)
            for index, reason in sorted(self.images.problems.items())
        ]

    @cached_property
    def usable_items(self) -> list[dict[str, Any]]:
        """The images that have an embedding, in its order."""
        return [self.side.items[index] for index in self.images.indices.tolist()]

    @property
    def usable_contents(self) -> list[str]:
        """SHA-256 of the content of each of these images."""
        return [self.contents[index] for index in self.images.indices.tolist()]

    @property
    def patients(self) -> list[str]:
        """Of each of these images; empty where unknown."""
        return [item["patient_id"] for item in self.usable_items]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Sizes as in the files ("256 x 256", rows x columns) with the number of images, the most frequent first."""
        counts = Counter(" x ".join(map(str, size)) for size in self.images.sizes.tolist())
        return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))

    def subset(self, rows: np.ndarray, side: Side) -> EmbeddedSide:
        """Some of the images.

        Args:
            rows: int64 ``(n,)``.
            side: their files, in this order; none that could not be used.

        Raises:
            UnusableInputError: if they hold other images.
        """
        noticed: dict[str, Any] = {
            name: np.flatnonzero(np.isin(self.images.indices[rows], getattr(self.images, name))).tolist()
            for name in ("converted", *NOTICED)
        }
        store = EmbeddingStore("", side.items, **{name: self.fingerprint[key] for name, key in _STORE_SETTINGS.items()})
        if store.contents != [self.usable_contents[row] for row in rows]:
            raise UnusableInputError(f"{side.source}: holds other images than those that were judged. Run again.")
        side = replace(side, items=store.hashed_items)
        images = replace(self.images.subset(rows), indices=np.arange(len(rows)), **noticed)
        return EmbeddedSide(side, images, store.fingerprint, store.contents, False, store.file_hashes)


@dataclass(frozen=True)
class Strangers:
    """Held-out images that are not in the training set.

    Attributes:
        images: their embeddings.
        patients: patient of each; empty where unknown.
    """

    images: EmbeddedImages
    patients: list[str]
