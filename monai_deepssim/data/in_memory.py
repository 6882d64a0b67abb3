"""Images that are not files: tensors, arrays and datasets as items of a data list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from monai_deepssim.errors import UnusableInputError

__all__ = ["list_in_memory"]


def list_in_memory(images: Any, name: str, *, volumes: bool = False) -> list[dict[str, Any]]:
    """List images or volumes that are held in memory, as :func:`~monai_deepssim.data.list_images` lists files.

    Args:
        images: ``(N, 1, H, W)``, a tensor or an array in [0, 1]; or a dataset of dictionaries with such an image
            ``(1, H, W)`` under ``image``, and optionally ``path`` and ``patient_id``. Volumes ``(N, 1, X, Y, Z)`` have
            cubic voxels, and axes from the patient's left to the right, from back to front and from feet to head.
        name: what the images are called; image 3 is ``name[3]``.
        volumes: whether they are volumes.

    Returns:
        Items whose ``image`` is a float32 tensor ``(1, H, W)`` or ``(1, X, Y, Z)``.

    Raises:
        UnusableInputError: when the shape or the range is another one, or there are no images.

    Example:
        >>> list_in_memory(torch.rand(2, 1, 64, 64), "training")[1]["path"]
        'training[1]'
    """
    axes = ("x", "y", "z") if volumes else ("rows", "columns")
    hint = f" Option volumes {'compares whole volumes; leave it away for images' if volumes else 'takes volumes'}."
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu()  # in one transfer, wherever they are
    if isinstance(images, (torch.Tensor, np.ndarray)):
        if images.ndim != len(axes) + 2 or images.shape[1] != 1:
            raise UnusableInputError(
                f"{name}: got images of shape {tuple(images.shape)}, want (N, 1, {', '.join(axes)}) with one grey "
                f"channel.{hint}"
            )
        entries: list[Mapping[str, Any]] = [{"image": image} for image in images]
    elif isinstance(images, Mapping) or not (hasattr(images, "__len__") and hasattr(images, "__getitem__")):
        raise UnusableInputError(
            f"{name}: got {type(images).__name__}, want a folder, a list, images (N, 1, H, W) or a dataset."
        )
    else:
        entries = [images[number] for number in range(len(images))]
    if not entries:
        raise UnusableInputError(f"{name}: there are no images in it.")
    items = []
    for number, entry in enumerate(entries):
        path = str(entry.get("path", f"{name}[{number}]")) if isinstance(entry, Mapping) else f"{name}[{number}]"
        image = _as_image(entry, path, axes)
        patient_id = str(entry.get("patient_id", ""))
        rest = {"slice": 0, "slice_axis": 2, "volume": volumes, "files": "", "window": "", "spacing": ""}
        items.append({"image": image, "path": path, "patient_id": patient_id, **rest})
    return items


def _as_image(entry: Any, path: str, axes: Sequence[str]) -> torch.Tensor:
    if not isinstance(entry, Mapping) or "image" not in entry:
        raise UnusableInputError(f"{path}: got {type(entry).__name__}, want a dictionary with an image under 'image'.")
    image = entry["image"]
    try:
        values = torch.as_tensor(np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnusableInputError(f"{path}: got {type(image).__name__} that is no array ({error}).") from error
    if values.is_complex():
        raise UnusableInputError(f"{path}: got complex numbers, want intensities in [0, 1]. Take their magnitude.")
    image = values.float()
    if image.ndim != len(axes) + 1 or image.shape[0] != 1 or image.numel() == 0:
        raise UnusableInputError(f"{path}: got an image of shape {tuple(image.shape)}, want (1, {', '.join(axes)}).")
    finite = image[image.isfinite()]
    if len(finite) and not (finite.min() >= 0 and finite.max() <= 1):
        raise UnusableInputError(
            f"{path}: got intensities from {float(finite.min()):g} to {float(finite.max()):g}, want [0, 1]. Scale the "
            "images, all by the same numbers."
        )
    return image
