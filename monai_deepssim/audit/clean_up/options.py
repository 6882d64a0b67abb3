"""The options that a clean-up has beside those of an audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monai_deepssim.audit.clean_up.kept_folder import FILE_MODES
from monai_deepssim.audit.options import AuditOptions, read_options
from monai_deepssim.errors import UnusableInputError

__all__ = ["DeduplicationOptions", "FilterOptions", "read_deduplication_options", "read_filter_options"]

_COPY, *_OTHERS = _CLASSES = ("duplicate", "part", "similar", "discovery")


@dataclass(frozen=True)
class FilterOptions:
    """Checked options; :class:`~monai_deepssim.audit.CopyFilter` says what each one means."""

    audit: AuditOptions
    leave_out: tuple[str, ...]
    files: str


@dataclass(frozen=True)
class DeduplicationOptions:
    """Checked options; :class:`~monai_deepssim.audit.Deduplication` says what each one means."""

    audit: AuditOptions
    files: str


def read_filter_options(values: Mapping[str, Any], typed: Mapping[str, str]) -> FilterOptions:
    """Check the values of ``filter.json``.

    Args:
        values: an option's value as it arrived, by name.
        typed: an option's text as it was typed, by name, where it was typed.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
    """
    found = values["leave_out"]
    if isinstance(found, str):
        found = found.replace(",", " ").split()
    known = isinstance(found, Sequence) and all(name in _CLASSES for name in found)
    if not known or _COPY not in found:
        raise UnusableInputError(
            f"--leave_out: is {values['leave_out']!r}, wanted {_COPY}, with any of {', '.join(_OTHERS)} behind it, "
            "such as duplicate,part,discovery or duplicate,part,similar."
        )
    leave_out = tuple(name for name in _CLASSES if name in found)
    return FilterOptions(read_options(values, typed), leave_out, _files(values["files"]))


def read_deduplication_options(values: Mapping[str, Any], typed: Mapping[str, str]) -> DeduplicationOptions:
    """Check the values of ``deduplicate.json``: a training set is audited against itself.

    Args:
        values: an option's value as it arrived, by name, ``synthetic_dir`` and the like left at their defaults.
        typed: an option's text as it was typed, by name, where it was typed.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
    """
    by_its_rule = values["detector"] == "copy_detector" and values["thresholds"] is None
    if by_its_rule and str(values["verify"]).lower() == "false":
        raise UnusableInputError(
            "--thresholds: was not given, and copy_detector takes its threshold from held-out images, which there are "
            "none of here. Give one score above which an image is a duplicate, or leave --verify true."
        )
    itself = {**values, "synthetic_dir": values["training_dir"]}
    if "training_dir" in typed:
        typed = {**typed, "synthetic_dir": typed["training_dir"]}
    return DeduplicationOptions(read_options(itself, typed), _files(values["files"]))


def _files(value: Any) -> str:
    if value not in FILE_MODES:
        raise UnusableInputError(f"--files: is {value!r}, wanted one of {', '.join(FILE_MODES)}.")
    return str(value)
