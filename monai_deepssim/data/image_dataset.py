"""A list of images as a torch dataset that reports a bad image in place of failing on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from monai_deepssim.data.contents import kind_of_problem
from monai_deepssim.data.loading import LoadedImage, read_item
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.transforms import FitImageSize

__all__ = ["ImageDataset"]


class ImageDataset(Dataset):
    """The slices or the volumes that a list of items names, all brought to one size.

    An image that cannot be used does not end a run of hours: it comes as zeros, with the reason in ``problem``, for
    the caller to leave out and report. It works in the workers of a ``DataLoader`` with the default collation.

    Args:
        items: items as :func:`~monai_deepssim.data.list_images` returns them.
        image_size: rows and columns that every image is brought to by :class:`~monai_deepssim.transforms.FitImageSize`,
            with its aspect kept; of volumes the three sides.

    Raises:
        ValueError: ``image_size`` is not two positive whole numbers for slices, or three for volumes.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from monai_deepssim.data import list_images
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.linear_gradient("L").save(f"{folder}/slice.png")
        ...     sample = ImageDataset(list_images(folder), image_size=(136, 112))[0]
        >>> sample["image"].shape, sample["original_size"], sample["problem"]
        (torch.Size([1, 136, 112]), (256, 256), '')
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], image_size: Sequence[int]) -> None:
        self.items = items
        self.fit = FitImageSize(image_size)
        is_volume = len(self.fit.image_size) == 3
        unlike = next((item for item in items if bool(item.get("volume")) != is_volume), None)
        if unlike is not None:
            raise ValueError(
                f"got image_size={tuple(image_size)} and {'a slice' if is_volume else 'a volume'}, {unlike['path']}, "
                f"want {'three sides for volumes' if not is_volume else 'two sides for slices'}"
            )

    def __len__(self) -> int:
        """Return the number of items, usable or not."""
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one image.

        Args:
            index: index of the item.

        Returns:
            ``image``: ``(1, *image_size)``, float32 in [0, 1], zeros where there is a problem. ``index``.
            ``problem``: why the image cannot be used, ``""`` where it can; ``problem_kind``: ``damaged``,
            ``unreadable`` (this time) or ``changed`` (since it was hashed). ``converted``: whether real colour was
            converted to grey. ``resampled``: whether its pixels were not square, or its voxels no cubes, and were made
            so. ``padded``: whether padding was replaced. ``clipped``: whether stray pixels were. ``hounsfield``:
            whether its file is in Hounsfield units. ``lost_in_grey``: whether it is in colours that its luma does not
            tell apart. ``is_sheet``: whether it shows several images. ``original_size``: rows and columns of the slice
            in its file, or the three sides of the volume, zeros where there is a problem.
        """
        try:
            loaded, problem, kind = read_item(self.items[index]), "", ""
        except UnusableInputError as error:
            size = self.fit.image_size
            loaded = LoadedImage(torch.zeros(1, *size), original_size=(0,) * len(size))
            problem, kind = str(error), kind_of_problem(error)
        return {
            "image": self.fit(loaded.image),
            "index": index,
            "problem": problem,
            "problem_kind": kind,
            "converted": loaded.converted,
            "resampled": loaded.resampled,
            "padded": loaded.padded,
            "clipped": loaded.clipped,
            "hounsfield": loaded.hounsfield,
            "lost_in_grey": loaded.lost_in_grey,
            "is_sheet": loaded.is_sheet,
            "original_size": loaded.original_size,
        }
