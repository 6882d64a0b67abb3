"""Versions of the packages that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_versions"]

_PACKAGES = ["monai-deepssim", "monai", "torch", "torchvision", "numpy", "scikit-image", "scikit-learn", "pillow"]


def package_versions() -> dict[str, str | None]:
    """Return the versions of what the scores depend on; ``None`` for a package that is not installed.

    Example:
        >>> list(package_versions())[:2]
        ['python', 'monai-deepssim']
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
