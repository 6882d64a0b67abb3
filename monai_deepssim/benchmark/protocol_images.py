"""The images of the published layout, prepared, augmented and represented for a detector of the protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, RandAdjustContrast, RandFlip, RandRotate
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.benchmark.protocol import ProtocolDetector
from monai_deepssim.benchmark.reproduction_options import ReproductionOptions
from monai_deepssim.data import load_slice, reader_of
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.progress import progress_bar

__all__ = ["ProtocolImages", "published_augmentation"]

_REAL = "training"
_AXIAL = 2


def published_augmentation(prob: float = 0.8, rotation_radians: float = 0.1745) -> Compose:
    """Make the augmentations of the published robustness test, each with the same probability.

    Args:
        prob: probability of each of a flip of either axis, a rotation, and a change of contrast with a gamma of 0.5 to
            1.5.
        rotation_radians: largest angle. What a rotation brings in from outside repeats the border.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> published_augmentation()(torch.rand(1, 32, 32)).shape
        torch.Size([1, 32, 32])
    """
    return Compose(
        [
            RandFlip(prob, spatial_axis=0),
            RandFlip(prob, spatial_axis=1),
            RandRotate(range_x=rotation_radians, prob=prob),
            RandAdjustContrast(prob, gamma=(0.5, 1.5)),
        ]
    )


class ProtocolImages:
    """The images of a folder in the published layout.

    Args:
        folder: the folder, with a folder per uid.
        items: by key, those that lists of pairs name.
        options: ``seed`` and ``batch_size`` are used.
    """

    def __init__(self, folder: Path, items: Mapping[str, dict[str, Any]], options: ReproductionOptions) -> None:
        self._folder = folder
        self._items = dict(items)
        self._options = options
        self._augment = published_augmentation()
        self._size: torch.Size | None = None

    def all_keys(self) -> tuple[list[str], list[str]]:
        """Find the keys of all real and of all synthetic images of the folder, in alphabetical order."""
        keys: tuple[list[str], list[str]] = ([], [])
        for path in sorted(self._folder.glob("*/*")):
            if path.name.startswith(".") or not path.is_file() or reader_of(path) is None:
                continue
            key = f"{path.parent.name}___{path.stem}"
            keys[path.stem != _REAL].append(key)
            found = {"image": str(path), "path": path.relative_to(self._folder).as_posix(), "key": key}
            self._items.setdefault(key, {**found, "patient_id": path.parent.name, "slice_axis": _AXIAL})
        return keys

    @torch.no_grad()
    def represent(self, detector: ProtocolDetector, keys: Sequence[str], augmented: bool, what: str) -> Tensor:
        """Represent images for a detector.

        Args:
            detector: the detector.
            keys: keys of N images.
            augmented: whether each is augmented, by draws that follow from the seed and its key alone.
            what: what the progress bar says.

        Returns:
            ``(N, ...)``.

        Raises:
            UnusableInputError: when an image cannot be read, or has another size than the others.
        """
        batches, size = [], self._options.batch_size
        for start in progress_bar(range(0, len(keys), size), desc=what, unit=" batches"):
            images = [self._load(key, detector, augmented) for key in keys[start : start + size]]
            batches.append(detector.represent(torch.cat(images)))
        return torch.cat(batches)

    def _load(self, key: str, detector: ProtocolDetector, augmented: bool) -> Tensor:
        image = convert_to_tensor(load_slice(self._items[key]), dtype=torch.float32, track_meta=False)[None]
        if self._size is None:
            self._size = image.shape
        if image.shape != self._size:
            first, other = (" x ".join(map(str, shape[2:])) for shape in (self._size, image.shape))
            raise UnusableInputError(
                f"{self._items[key]['image']}: has {other} pixels, others have {first}. The protocol compares images "
                "of one size: bring them to one."
            )
        prepared = detector.prepare(image)
        if not augmented:
            return prepared
        digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
        state = int(np.random.SeedSequence([self._options.seed, digest]).generate_state(1)[0])
        changed = self._augment.set_random_state(state)(prepared[0])
        return convert_to_tensor(changed, dtype=torch.float32, track_meta=False)[None]
