"""Where this package's bundles lie: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from monai_deepssim.errors import UnusableInputError

__all__ = ["find_bundle", "list_bundles"]

_PACKAGE = Path(__file__).resolve().parents[1]


def find_bundle(name: str) -> Path:
    """Find the folder of one of this package's bundles.

    Args:
        name: as :func:`list_bundles` gives it.

    Returns:
        The bundle's folder, for ``--bundle_root``; its configs are in ``configs/``.

    Raises:
        UnusableInputError: if there is no bundle of that name.

    Example:
        >>> find_bundle("memorization_audit").name
        'memorization_audit'
    """
    bundles = _bundles()
    if name not in bundles:
        known = ", ".join(bundles) or "none is installed"
        raise UnusableInputError(f"There is no bundle named {name!r}. Give one of: {known}.")
    return bundles[name]


def list_bundles() -> list[str]:
    """Name this package's bundles, in alphabetical order.

    Example:
        >>> "memorization_audit" in list_bundles()
        True
    """
    return list(_bundles())


def _bundles() -> dict[str, Path]:
    # An editable install has no monai_deepssim/bundles; its checkout has bundles/ beside the package. Of a wheel the
    # folder beside the package is site-packages, where a folder named bundles would be somebody else's.
    inside = _PACKAGE / "bundles"
    root = inside if inside.is_dir() else _PACKAGE.parent / "bundles"
    if not root.is_dir():
        return {}
    return {path.name: path for path in sorted(root.iterdir()) if (path / "configs" / "metadata.json").is_file()}
