"""Detectors as a config gives them: made late, so that an error becomes a message, and known by what made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import CopyDetectionMetric

__all__ = ["DetectorSource"]


@dataclass(frozen=True)
class DetectorSource:
    """A detector of the config, ``"_mode_": "callable"``: MONAI then gives what makes it, not the detector itself.

    Attributes:
        name: name in the config.
        factory: what makes it.

    Example:
        >>> from monai_deepssim.metrics import SSIMDetector
        >>> source = DetectorSource("ssim", partial(SSIMDetector, threshold=0.8))
        >>> source.make().threshold, source.description
        (0.8, {'class': 'monai_deepssim.metrics.detectors.ssim.SSIMDetector', 'threshold': 0.8})
    """

    name: str
    factory: Any

    def missing_file(self) -> str | None:
        """Name the argument that is the path of weights and was not given; ``None`` when nothing is missing."""
        return _missing(self.factory, "")

    def make(self) -> CopyDetectionMetric:
        """Make the detector.

        Raises:
            UnusableInputError: if it cannot be made of these arguments or files.
        """
        option = f"--detectors#{self.name}"
        if isinstance(self.factory, CopyDetectionMetric):
            return self.factory
        if not callable(self.factory):
            raise UnusableInputError(
                f"{option}: is {self.factory!r}, wanted a detector: a _target_ such as monai_deepssim.metrics."
                "SSIMDetector, with its arguments beside it."
            )
        try:
            detector = _make(self.factory)
        except UnusableInputError as error:
            raise UnusableInputError(f"{option}: {error}") from error
        except (TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError) as error:
            # An assertion may say nothing at all.
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnusableInputError(f"{option}: cannot be made ({reason}). Check its arguments.") from error
        if not isinstance(detector, CopyDetectionMetric):
            raise UnusableInputError(
                f"{option}: its _target_ makes a {type(detector).__name__}, wanted a detector, a "
                "monai_deepssim.metrics.CopyDetectionMetric."
            )
        return detector

    @property
    def description(self) -> dict[str, Any] | None:
        """What makes it, with a SHA-256 for each file; ``None`` for a detector that was made elsewhere."""
        if isinstance(self.factory, CopyDetectionMetric):
            return None
        described = _describe(self.factory)
        return described if isinstance(described, dict) else {"class": described}

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 of the description, or ``None``."""
        if self.description is None:
            return None
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()


def _make(factory: Any) -> Any:
    if not isinstance(factory, partial):
        return factory()
    arguments = {
        name: _make(value) if isinstance(value, partial) else value for name, value in factory.keywords.items()
    }
    return factory.func(**arguments)


def _missing(factory: Any, prefix: str) -> str | None:
    if not isinstance(factory, partial):
        return None
    for name, value in factory.keywords.items():
        if name == "embedder" and value is None:
            return prefix + name
        inner = _missing(value, f"{prefix}{name}#")
        if inner is not None:
            return inner
    return None


def _describe(value: Any) -> Any:
    if isinstance(value, partial):
        arguments = {name: _describe(argument) for name, argument in value.keywords.items()}
        return {"class": _describe(value.func), **arguments}
    if isinstance(value, Mapping):
        return {str(name): _describe(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(entry) for entry in value]
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return {"file": str(value), "sha256": hashlib.sha256(Path(value).read_bytes()).hexdigest()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)
