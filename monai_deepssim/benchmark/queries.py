"""What a benchmark searches for: changed copies of gallery images, and images that are not copies of any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.transforms import PARTNER_PERTURBATIONS, Perturbation

__all__ = ["QuerySet", "perturb", "perturb_each", "stack_images"]

# What mixes two images so that either is a source.
_MIXING = "average_of_two"


@dataclass(frozen=True)
class QuerySet:
    """Synthetic images, and the real images among which a search has to find the sources of those that are copies.

    Attributes:
        gallery: Real images ``(M, 1, H, W)`` in [0, 1], each once.
        synthetic: Synthetic images ``(S, 1, H, W)`` in [0, 1], each once, not yet changed.
        partners: ``(S, 1, H, W)``; for each synthetic image one of another patient, who is not in the gallery.
        sources: For each synthetic image the rows in ``gallery`` that it is a copy of; none for images that are no
            copies.
        groups: For each synthetic image the patient or other group whose images are resampled together.
        second_sources: For each synthetic image the rows in ``gallery`` of another source, which is its partner where
            two images are averaged; none for images that are not copies. By default no image has one.
    """

    gallery: Tensor
    synthetic: Tensor
    partners: Tensor
    sources: Sequence[np.ndarray]
    groups: Sequence[str]
    second_sources: Sequence[np.ndarray] = field(default=(), kw_only=True)

    def under(self, perturbation: str) -> QuerySet:
        """The queries of a perturbation: where two images are averaged, the second sources are the partners."""
        if perturbation != _MIXING:
            return replace(self, second_sources=())
        partners = self.partners.clone()
        for row, second in enumerate(self.second_sources):
            if len(second):
                partners[row] = self.gallery[second[0]]
        return replace(self, partners=partners)

    @cached_property
    def is_copy(self) -> np.ndarray:
        """``(S,)``, whether each synthetic image has a source."""
        return np.array([len(rows) > 0 for rows in self.sources])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that a score depends on, but for what is done to the synthetic images."""
        digest = hashlib.sha256(self.gallery.numpy().tobytes())
        for rows in [*self.sources, *self.second_sources]:
            digest.update(np.array([len(rows), *rows], dtype=np.int64).tobytes())
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Synthetic images by kind."""
        return {"copies": int(self.is_copy.sum()), "strangers": int((~self.is_copy).sum())}


def perturb(queries: QuerySet, name: str, seed: int) -> Tensor:
    """Change every synthetic image by one perturbation.

    Args:
        queries: The synthetic images and their partners.
        name: Name of the perturbation.
        seed: Seed of what it draws; image i draws the same whatever the other images and perturbations are.

    Returns:
        ``(S, 1, H, W)``.
    """
    return perturb_each(queries, [name] * len(queries.synthetic), seed)


def perturb_each(queries: QuerySet, names: Sequence[str], seed: int) -> Tensor:
    """Change every synthetic image by the perturbation that is named for it, as :func:`perturb` does."""
    transforms = {name: Perturbation(name) for name in set(names)}
    changed = []
    for row, (image, partner, name) in enumerate(zip(queries.synthetic, queries.partners, names, strict=True)):
        # The name's digest, not its position in a table: a new perturbation must not change the draws of the others.
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        transform = transforms[name]
        transform.set_random_state(int(np.random.SeedSequence([seed, number, row]).generate_state(1)[0]))
        changed.append(transform(image, partner if name in PARTNER_PERTURBATIONS else None))
    return stack_images(changed)


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images to a batch without metadata."""
    return torch.stack([convert_to_tensor(image, track_meta=False) for image in images])
