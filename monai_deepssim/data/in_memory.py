"""Images that are not files: tensors, arrays and datasets as items of a data list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch

from monai_deepssim.data.patient_ids import patient_id_text
from monai_deepssim.errors import UnusableInputError

__all__ = ["list_in_memory"]


def list_in_memory(images: Any, name: str, *, volumes: bool = False) -> list[dict[str, Any]]:
    """List images or volumes that are held in memory, as :func:`~monai_deepssim.data.list_images` lists files.

    Args:
        images: ``(N, 1, H, W)``, a tensor or an array in [0, 1]; or a list or a dataset of such images ``(1, H, W)``,
            or of dictionaries with one under ``image``, and optionally ``path`` and ``patient_id``. Volumes
            ``(N, 1, X, Y, Z)`` have cubic voxels, and axes from the patient's left to the right, from back to front and
            from feet to head.
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
    if isinstance(images, torch.Tensor):
        images = images.detach().cpu()  # in one transfer, wherever they are
    if isinstance(images, (torch.Tensor, np.ndarray)):
        if images.ndim != len(axes) + 2 or images.shape[1] != 1:
            raise UnusableInputError(
                f"{name}: got images of shape {tuple(images.shape)}, want (N, 1, {', '.join(axes)}) with one grey "
                f"channel. {_remedy(images.shape, len(axes))}"
            )
    elif isinstance(images, bytes) or not _is_dataset(images):
        remedy = "Give the dataset that it reads" if hasattr(images, "dataset") else "Give a list of them"
        raise UnusableInputError(
            f"{name}: got {type(images).__name__}, want a folder, a list of paths, images (N, 1, {', '.join(axes)}), "
            f"or a list or a dataset of images or of dictionaries. {remedy}."
        )
    entries = [images[number] for number in range(len(images))]
    if not entries:
        raise UnusableInputError(f"{name}: there are no images in it.")
    items = []
    for number, entry in enumerate(entries):
        path = str(entry.get("path", f"{name}[{number}]")) if isinstance(entry, Mapping) else f"{name}[{number}]"
        image = _as_image(entry, path, axes)
        patient_id = patient_id_text(entry.get("patient_id")) if isinstance(entry, Mapping) else ""
        rest = {"slice": 0, "slice_axis": 2, "volume": volumes, "files": "", "window": "", "spacing": ""}
        items.append({"image": image, "path": path, "patient_id": patient_id, **rest})
    return items


def _is_dataset(images: Any) -> bool:
    """Whether there is an image at each position; dictionaries and tables have names there."""
    return hasattr(images, "__len__") and hasattr(images, "__getitem__") and not hasattr(images, "keys")


def _remedy(shape: Sequence[int], num_axes: int) -> str:
    """What to do with an array of images whose shape is another one."""
    if num_axes == 2 and len(shape) == 5:
        return 'Give volumes="true" for volumes.'
    if num_axes == 3 and len(shape) == 4 and shape[1] == 1:
        return "Leave volumes out for images."
    if len(shape) == num_axes + 1:
        return "Add the channel: images[:, None]."
    if len(shape) == num_axes + 2 and shape[-1] == 1:
        return "Move the channel to the second place."
    if len(shape) == num_axes + 2 and 3 in (shape[1], shape[-1]):
        return "Take the mean of the three colours, and keep its axis."
    return "Bring them to it."


def _as_image(entry: Any, path: str, axes: Sequence[str]) -> torch.Tensor:
    shape = f"(1, {', '.join(axes)})"
    if isinstance(entry, Mapping):
        if "image" not in entry:
            keys = ", ".join(map(repr, entry)) or "nothing"
            raise UnusableInputError(f"{path}: got a dictionary with {keys}, want one with an image under 'image'.")
        image = entry["image"]
    elif isinstance(entry, (torch.Tensor, np.ndarray)):
        image = entry
    else:
        remedy = "Give paths as a list." if isinstance(entry, (str, PathLike)) else "Take out the image."
        raise UnusableInputError(
            f"{path}: got {type(entry).__name__}, want an image {shape}, or a dictionary with one under 'image'. "
            f"{remedy}"
        )
    if isinstance(image, (str, PathLike)):
        raise UnusableInputError(
            f"{path}: got the path {str(image)!r} under 'image', want an image {shape}. Give the dictionaries as a "
            "list, or a dataset that loads the images."
        )
    try:
        if isinstance(image, torch.Tensor):
            image = image.detach().cpu()
            image = image.float() if image.dtype == torch.bfloat16 else image  # which NumPy does not have
        values = torch.as_tensor(np.ascontiguousarray(image))  # a flipped array has strides that tensors have not
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnusableInputError(f"{path}: got {type(image).__name__}, want an image {shape} ({error}).") from error
    if values.is_complex():
        raise UnusableInputError(f"{path}: got complex numbers, want intensities in [0, 1]. Take their magnitude.")
    image = values.float()
    if image.ndim != len(axes) + 1 or image.shape[0] != 1 or image.numel() == 0:
        raise UnusableInputError(f"{path}: got an image of shape {tuple(image.shape)}, want {shape}.")
    finite = image[image.isfinite()]
    if len(finite) and not (finite.min() >= 0 and finite.max() <= 1):
        is_8_bit = not values.is_floating_point() and finite.min() >= 0 and finite.max() <= 255
        remedy = "Divide all images by 255." if is_8_bit else "Scale the images, all by the same numbers."
        raise UnusableInputError(
            f"{path}: got intensities from {float(finite.min()):g} to {float(finite.max()):g}, want [0, 1]. {remedy}"
        )
    return image
