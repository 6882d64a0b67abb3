"""Loading as the first of a list of MONAI transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from monai_deepssim.data.loading import read_image

__all__ = ["LoadSliced"]


class LoadSliced(MapTransform):
    """Replace the file that an item names by its slice or volume: :func:`read_image` as the first of MONAI transforms.

    It takes the place of MONAI's ``LoadImaged``, which gives PNG and DICOM transposed against NIfTI.

    Args:
        keys: where the file stands and the slice goes. ``slice``, ``slice_axis``, ``files``, ``window`` and ``volume``
            are taken from the item itself.
        allow_missing_keys: pass items without the key.

    Example:
        >>> from monai.transforms import Compose, ScaleIntensity
        >>> load = Compose([LoadSliced(), ScaleIntensity()])
        >>> # CacheDataset(data=list_images("slices"), transform=load)
    """

    def __init__(self, keys: KeysCollection = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with ``(1, rows, columns)`` or ``(1, X, Y, Z)`` tensors in [0, 1] in place of files."""
        loaded: dict[Hashable, Any] = dict(data)
        item = {str(name): value for name, value in data.items()}
        for key in self.key_iterator(loaded):
            loaded[key] = read_image({**item, "image": data[key]})
        return loaded
