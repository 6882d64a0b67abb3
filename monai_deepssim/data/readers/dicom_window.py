"""What DICOM says of Hounsfield units and of the window to view them in."""

from __future__ import annotations

from pathlib import Path

import pydicom

__all__ = ["in_hounsfield_units", "viewing_windows"]

_TAGS = ["Modality", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept", "RescaleType"]
_WINDOW_TAGS = ["WindowCenter", "WindowWidth"]
# Of CT images without RescaleType the standard says Hounsfield units; some scanners write "unspecified" for them.
_TYPES = ("", "HU", "US")


def in_hounsfield_units(path: Path) -> bool | None:
    """Whether the pixels of a file are Hounsfield units once they are rescaled.

    Args:
        path: The file.

    Returns:
        Whether they are (PS3.3, C.8.2.1 and C.11.1.1.2); ``None`` for a CT without a rescale at its top.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    if dataset.get("Modality") != "CT" or dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        return False
    if dataset.get("RescaleSlope") is None or dataset.get("RescaleIntercept") is None:
        return None
    return str(dataset.get("RescaleType") or "").strip().upper() in _TYPES


def viewing_windows(path: Path) -> tuple[tuple[float, float], ...]:
    """Center and width of the windows that a file names; several where it has them.

    Args:
        path: The file.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_WINDOW_TAGS)
    centers, widths = (_as_list(dataset.get(tag)) for tag in _WINDOW_TAGS)
    return tuple((center, width) for center, width in zip(centers, widths, strict=False) if width > 0)


def _as_list(value: object) -> list[float]:
    if value is None or value == "":
        return []
    return [float(entry) for entry in value] if isinstance(value, pydicom.multival.MultiValue) else [float(str(value))]
