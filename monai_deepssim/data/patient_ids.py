"""Whose image a file shows, told from its path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.interruptions import time_limit

__all__ = ["patient_id_rule", "patient_id_text"]

# A sound pattern takes microseconds for a path; one that backtracks without end would take years.
_LONGEST_SECONDS = 2.0
_PUBLISHED_LAYOUT = r"\A(?P<patient_id>[^/]+)/(training|gen-\d+)\.[^/]+\Z"


def patient_id_rule(pattern: str | None) -> Callable[[str], str]:
    """Return the function that tells a patient from a path relative to the source.

    Args:
        pattern: a regular expression that is searched in the path and whose group ``patient_id``, or else first group,
            is the patient; or ``"folder"`` for the first folder of the path. ``None`` knows only the published
            layout, ``<patient>/training.png`` and ``<patient>/gen-<i>.png``.

    Returns:
        A function from the relative POSIX path to the patient, ``""`` where unknown. An unknown patient is empty and
        never one per image: counts of patients would be wrong without anyone noticing.

    Raises:
        UnusableInputError: the pattern is no regular expression, or has no group; the function raises it where the
            pattern takes more than two seconds for a path.

    Example:
        >>> patient_id_rule(r"sub-(\\d+)")("anat/sub-012_T1w.nii.gz")
        '012'
        >>> patient_id_rule("folder")("IXI002/axial/90.png")
        'IXI002'
        >>> patient_id_rule(None)("IXI002/training.png"), patient_id_rule(None)("scans/90.png")
        ('IXI002', '')
    """
    if pattern == "folder":
        return _first_folder
    try:
        expression = re.compile(_PUBLISHED_LAYOUT if pattern is None else pattern)
    except (re.error, TypeError) as error:
        raise UnusableInputError(
            f"patient_id_pattern={pattern!r} is not a regular expression ({error}). "
            "Give one with a group, such as 'sub-([0-9]+)', or 'folder'."
        ) from error
    if not expression.groups:
        raise UnusableInputError(
            f"patient_id_pattern={pattern!r} has no group, so it does not tell which part is the patient. "
            "Put that part into parentheses, such as 'sub-([0-9]+)', or give 'folder'."
        )
    group = "patient_id" if "patient_id" in expression.groupindex else 1

    def from_expression(path: str) -> str:
        try:
            with time_limit(_LONGEST_SECONDS):
                match = expression.search(path)
        except TimeoutError as error:
            raise UnusableInputError(
                f"patient_id_pattern={pattern!r} took more than {_LONGEST_SECONDS:g} seconds for the path {path!r}: it "
                "tries more and more ways to match. Give one without a repetition inside of a repetition, such as "
                "'sub-([0-9]+)'."
            ) from error
        return (match[group] or "") if match else ""

    return from_expression


def _first_folder(path: str) -> str:
    parts = PurePosixPath(path).parts
    if len(parts) > 1 and parts[0] == "/":
        return PurePosixPath(path).parent.name
    return parts[0] if len(parts) > 1 else ""


def patient_id_text(value: Any) -> str:
    """Write the patient that a caller names as a text, ``""`` where it is none: ``None``, or what pandas has for it.

    Example:
        >>> patient_id_text(7), patient_id_text(None), patient_id_text(float("nan"))
        ('7', '', '')
    """
    if isinstance(value, str):
        return value
    text = str(value.item() if hasattr(value, "item") else value)
    return "" if text in ("None", "nan", "<NA>", "NaT") else text
