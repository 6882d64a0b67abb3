"""The files behind an item of a list of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from monai_deepssim.data.derived_image import DerivedImage

__all__ = ["file_of", "files_of"]

_NO_FILE = (torch.Tensor, DerivedImage)


def file_of(item: Mapping[str, Any]) -> str:
    """The file that holds an item, or the name of an image that is no file: what slices of one volume share."""
    return str(item["path"] if isinstance(item["image"], _NO_FILE) else item["image"])


def files_of(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths of all files that hold an item: several of a DICOM series, none of an image that is no file.

    Args:
        item: as :func:`~monai_deepssim.data.list_images` lists it; in a list of one's own ``files`` may be a sequence.

    Example:
        >>> files_of({"image": "a.png", "files": ""}), files_of({"image": "1.dcm", "files": '["1.dcm", "2.dcm"]'})
        (('a.png',), ('1.dcm', '2.dcm'))
    """
    if isinstance(item["image"], _NO_FILE):
        return ()
    files = item.get("files") or [str(item["image"])]
    return tuple(json.loads(files) if isinstance(files, str) else files)
