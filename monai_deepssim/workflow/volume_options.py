"""What comparing whole volumes means for the other options: the size, the detector, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_deepssim.errors import UnusableInputError

__all__ = ["VOLUMES_WAYS", "VOLUME_SIZE", "settle_volumes"]

#: What ``--volumes`` takes: volumes give slices, their slices vote, they are compared as a whole, or the better way.
VOLUMES_WAYS = ("none", "slices", "whole", "true")
#: Sides of the box that volumes are fitted to: 1 MB each as float32, and half of the resolution of a head at 2 mm.
VOLUME_SIZE = (64, 64, 64)

# docs/measured.md compares the two.
_BETTER_WAY = "whole"
_DETECTORS = {"slices": "slice_votes", "whole": "deepssim_3d"}
_DEFAULT_DETECTOR, _DEFAULT_SIZE = "deepssim", (136, 112)
# To align a volume takes 20 times as long as an image, and few volumes are as alike as neighbouring slices.
_TOP_K, _TOP_K_OF_VOLUMES = 10, 3
# What chooses among the slices of a volume, or is made of slices, with its value where it is not given.
_OF_SLICES = {
    "slices": (None, "chooses slices, and a whole volume is compared"),
    "slice_axis": (2, "chooses slices, and a whole volume is compared"),
    "memorization_index": (False, "is made for slices"),
    "autoencoder": (None, "is one of slices, and its controls are none of volumes"),
}


def settle_volumes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settle what ``--volumes`` decides of other options.

    Args:
        values: options by name, checked each by itself: ``volumes``, ``image_size``, ``detector``, ``top_k`` and
            ``training_dir``, and those that only slices have.

    Returns:
        Options that have another value now, by name. Settled options stay as they are.

    Raises:
        UnusableInputError: an option means nothing for volumes, or for slices.

    Example:
        >>> values = {"image_size": (136, 112), "detector": "ncc", "top_k": None, "training_dir": "volumes"}
        >>> settle_volumes({**values, "volumes": "true"})
        {'volumes': 'whole', 'top_k': 3, 'image_size': (64, 64, 64)}
        >>> settle_volumes({**values, "volumes": "none"})
        {'top_k': 10}
    """
    way = _BETTER_WAY if values["volumes"] == "true" else values["volumes"]
    if way == "none":
        _check_of_slices(values)
        return {"top_k": _TOP_K} if values["top_k"] is None else {}
    for name, (default, reason) in _OF_SLICES.items():
        if values.get(name, default) != default:
            raise UnusableInputError(f"--{name}: {reason} with --volumes {way}. Leave one of the two options out.")
    if values["training_dir"] is None:
        raise UnusableInputError(f"--volumes {way}: the demo has no volumes. Name folders of volumes, or leave it out.")
    settled: dict[str, Any] = {"volumes": way}
    if values["top_k"] is None:
        settled["top_k"] = _TOP_K_OF_VOLUMES
    if values["image_size"] == _DEFAULT_SIZE:  # of slices; nobody asks for it of volumes
        settled["image_size"] = VOLUME_SIZE
    elif len(values["image_size"]) != 3:
        raise UnusableInputError(
            f"--image_size: is {values['image_size']}, wanted three sides with --volumes {way}, such as "
            f"'{list(VOLUME_SIZE)}': from left to right, back to front and feet to head."
        )
    if values["detector"] == _DEFAULT_DETECTOR:
        settled["detector"] = _DETECTORS[way]
    detector = settled.get("detector", values["detector"])
    if way == "slices":
        if detector != _DETECTORS[way]:
            raise UnusableInputError(
                f"--volumes slices: lets the slices of a volume vote, which --detector {_DETECTORS[way]} does, not "
                f"{detector}. Leave --detector out, or give --volumes whole."
            )
        settled["verify"] = False
    _check_takes_volumes(detector)
    return settled


def _check_of_slices(values: Mapping[str, Any]) -> None:
    from monai_deepssim.metrics import SUPPORTED_DETECTORS  # not for --help, which should not take seconds

    detector = values["detector"]
    if len(values["image_size"]) != 2:
        raise UnusableInputError(
            f"--image_size: is {values['image_size']}, wanted rows and columns, such as '{list(_DEFAULT_SIZE)}'. Three "
            "sides are those of volumes: give --volumes true, too."
        )
    if 2 not in SUPPORTED_DETECTORS[detector].spatial_dims:
        raise UnusableInputError(f"--detector {detector}: takes volumes alone. Give --volumes true, too.")


def _check_takes_volumes(detector: str) -> None:
    from monai_deepssim.metrics import SUPPORTED_DETECTORS

    if 3 in SUPPORTED_DETECTORS[detector].spatial_dims:
        return
    names = [name for name, kind in SUPPORTED_DETECTORS.items() if 3 in kind.spatial_dims]
    raise UnusableInputError(
        f"--detector {detector}: takes slices, not volumes. Detectors that take volumes are: {', '.join(names)}."
    )
