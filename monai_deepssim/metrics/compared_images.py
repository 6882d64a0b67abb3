"""The images of a side by their rows, as a comparison on the pixels takes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

from monai_deepssim.similarity import LocalFeatures, coarse_structure, pose, shrink_volumes

__all__ = ["ComparedImages"]

# 4,096 images of 136 x 112 pixels, or 256 volumes of 64 x 64 x 64 voxels. Training images come up again and again.
_BYTES_KEPT = 2**28


class ComparedImages:
    """The images of a side by their rows: as they are, posed, and their coarse structure; the latest stay in memory.

    256 MB of each of the three are kept at most.

    Args:
        load: returns the image of a row, ``(1, H, W)`` or ``(1, H, W, D)`` in [0, 1], all of one size.
        features: returns the local features of a row, placed in the pixels of that image; needed to match them.
        device: where images are kept and compared, to which each is brought once. Volumes stay on the CPU, where they
            are aligned.

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> torch.equal(ComparedImages(images.__getitem__).image(1), images[1])
        True
    """

    def __init__(
        self,
        load: Callable[[int], Tensor],
        features: Callable[[int], LocalFeatures] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = device
        self.image = _Latest(lambda row: self._bring(load(row)))
        self.posed = _Latest(lambda row: pose(self.image(row)[None])[0])
        self.coarse = _Latest(lambda row: _keep_coarse(self.image(row)[None])[0])
        self.features = features

    def keep(self, row: int, image: Tensor) -> None:
        """Keep an image that was read for something else, so that it is not read again while it stays in memory.

        Args:
            row: its row.
            image: what ``load`` returns for it.
        """
        self.image.keep(row, self._bring(image))

    def _bring(self, image: Tensor) -> Tensor:
        return image.to(self.device) if image.ndim == 3 else image


def _keep_coarse(images: Tensor) -> Tensor:
    return coarse_structure(images) if images.ndim == 4 else shrink_volumes(images)


class _Latest:
    """Loads tensors of one size by their rows, and keeps the latest; for several threads."""

    def __init__(self, load: Callable[[int], Tensor]) -> None:
        self._load = load
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = Lock()

    def __call__(self, row: int) -> Tensor:
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        tensor = self._load(row)
        self.keep(row, tensor)
        return tensor

    def keep(self, row: int, tensor: Tensor) -> None:
        """Keep the tensor of a row, and drop the one that was not used for longest where there is no room."""
        most = max(2, _BYTES_KEPT // max(1, tensor.nbytes))
        with self._lock:
            self._kept[row] = tensor
            self._kept.move_to_end(row)
            while len(self._kept) > most:
                self._kept.popitem(last=False)
