"""The options of a verification, and of a report that is made from a finished audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import path, yes_or_no
from monai_deepssim.options import option

__all__ = ["ReportOptions", "VerifyOptions"]

_FOLDERS, _OUTPUT = "Folders", "Output"
_AUDIT = "Output folder of an audit, or of a filter, whose audit of the kept files counts then."


@dataclass(frozen=True)
class VerifyOptions:
    """Which audit a release rests on, and what is to be released."""

    audit_dir: Path = option(None, path("folder"), _AUDIT, _FOLDERS)
    released_dir: Path = option(None, path("folder"), "Folder that is to be released.", _FOLDERS)


@dataclass(frozen=True)
class ReportOptions:
    """Which report is made, of which audit."""

    audit_dir: Path = option(None, path("folder"), "Output folder of an audit, such as OUT/filtered_audit.", _FOLDERS)
    shareable: bool = option(
        False, yes_or_no, "Makes the report without names, identifiers and pixels, which is safe to send.", _OUTPUT
    )
    output_file: Path | None = option(
        None, path("file"), "The HTML file; by default report_shareable.html in the folder of the audit.", _OUTPUT
    )

    def __post_init__(self) -> None:
        if not self.shareable:
            raise UnusableInputError(
                "--shareable: was not given. The full report is report.html in the folder of the audit; --shareable "
                "makes the one without names, identifiers and pixels."
            )
