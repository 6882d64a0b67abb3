"""Copy detectors by name. To add one: a file here with a subclass of CopyDetectionMetric, and a line below."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric

__all__ = ["SUPPORTED_DETECTORS", "detector_arguments", "make_detector"]

# By name the file and its class, in the order of tables.
_CLASSES = {
    "deepssim": "deepssim.DeepSSIMDetector",
    "deepssim_aligned": "aligned.AlignedDetector",
    "slice_votes": "slice_votes.SliceVotesDetector",
    "deepssim_3d": "deepssim_3d.DeepSSIM3DDetector",
    "local_features": "local_features.LocalFeaturesDetector",
    "memorization_index": "memorization_index.MemorizationIndexMetric",
    "mri_core": "mri_core.MRICoreMemorizationIndexMetric",
    "copy_detector": "copy_detector.ContrastiveCopyDetector",
    "torchscript": "torchscript.TorchScriptDetector",
    "open_clip": "open_clip.OpenCLIPDetector",
    "ssim": "ssim.SSIMDetector",
    "ncc": "ncc.NCCDetector",
    "mse": "mse.MSEDetector",
    "phash": "phash.PHashDetector",
}


def _find_class(path: str) -> type[CopyDetectionMetric]:
    file, _, name = path.partition(".")
    return getattr(import_module(f"{__name__}.{file}"), name)


#: Detectors by the name that ``--detector`` takes.
SUPPORTED_DETECTORS: dict[str, type[CopyDetectionMetric]] = {name: _find_class(path) for name, path in _CLASSES.items()}

# What every detector takes, and an option of its own gives.
_COMMON_ARGUMENTS = ("embedder", "threshold", "device", "detector", "allow_torchscript")


def detector_arguments(name: str) -> list[str]:
    """Name the arguments that a detector alone takes, beside its weights, its threshold and its device.

    Args:
        name: one of :data:`SUPPORTED_DETECTORS`.

    Example:
        >>> detector_arguments("phash")
        ['hash_size']
    """
    names: list[str] = []
    for kind in SUPPORTED_DETECTORS[name].__mro__:
        parameters = inspect.signature(kind).parameters.values()
        names += [entry.name for entry in parameters if entry.kind is not entry.VAR_KEYWORD]
        if all(entry.kind is not entry.VAR_KEYWORD for entry in parameters):
            break  # only **kwargs go on to the class that it is derived from
    return [entry for entry in dict.fromkeys(names) if entry not in _COMMON_ARGUMENTS]


def make_detector(name: str, embedder: Any = None, *, device: Any = None, **arguments: Any) -> CopyDetectionMetric:
    """Make a detector by its name.

    Args:
        name: one of :data:`SUPPORTED_DETECTORS`.
        embedder: path of its weights, for a detector that has some.
        device: where images are represented.
        arguments: others that the detector takes (:func:`detector_arguments`).

    Returns:
        The detector, not fitted yet.

    Raises:
        UnusableInputError: when it takes no argument of such a name, or not this value: the message names the nearest.

    Example:
        >>> make_detector("phash", hash_size=16).hash_size
        16
        >>> make_detector("phash", hashsize=16)
        Traceback (most recent call last):
        ...
        monai_deepssim.errors.UnusableInputError: phash has no argument hashsize. Did you mean hash_size?
    """
    known = detector_arguments(name)
    for argument in arguments:
        if argument not in known:
            nearest = get_close_matches(argument, known, n=1)
            all_of_them = f"Its arguments are: {', '.join(known)}." if known else "It has no arguments of its own."
            remedy = f"Did you mean {nearest[0]}?" if nearest else all_of_them
            raise UnusableInputError(f"{name} has no argument {argument}. {remedy}")
    weights = {} if embedder is None else {"embedder": embedder}
    try:
        return SUPPORTED_DETECTORS[name](**weights, device=device, **arguments)
    except (TypeError, ValueError) as error:
        raise UnusableInputError(f"{name} cannot be made of these arguments: {error}") from error
