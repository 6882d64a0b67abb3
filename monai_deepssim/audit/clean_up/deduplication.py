"""The class that ``deduplicate.json`` builds: a training set in, one of each group of its duplicates out."""

from __future__ import annotations

from typing import Any

from monai_deepssim.audit.audit import PROGRAM, Audit
from monai_deepssim.audit.clean_up.deduplication_outputs import (
    deduplication_lines,
    write_deduplication_report,
    write_deduplication_summary,
)
from monai_deepssim.audit.clean_up.deduplication_steps import DeduplicationResult, perform_deduplication
from monai_deepssim.audit.clean_up.options import DeduplicationOptions, read_deduplication_options
from monai_deepssim.audit.exit_status import errors_in_words, print_line
from monai_deepssim.audit.options import AuditOptions

__all__ = ["Deduplication"]

# What an audit needs for a second set of images.
_NOT_TAKEN = ("synthetic_dir", "holdout_dir", "memorization_index", "fdr", "max_copy_fraction", "count_parts")


class Deduplication(Audit):
    """Find the images that a training set holds more than once, and write the set with one of each.

    Every image is compared with those of all other files, as an audit compares a synthetic with the training images.
    ``deduplicated/`` gets the files that are kept, with their folders; ``manifest.csv`` says of every file whether it
    was kept, and why; ``groups.csv``, ``matches.csv``, ``report.html`` and ``summary.json`` tell what was found. The
    images that were given are only read.

    Args:
        training_dir: as for :class:`Audit`. Without it, a demo is made.
        output_dir: where the files go.
        files: ``copy``, ``symlink`` (to the absolute path) or ``hardlink``.
        options: those of :class:`Audit` that do not speak of a second set of images.

    Example:
        >>> Deduplication(training_dir="images/training", top_k=0).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    def __init__(
        self, *, training_dir: Any = None, output_dir: Any = "./deduplication", files: Any = "copy", **options: Any
    ) -> None:
        super().__init__(
            training_dir=training_dir,
            output_dir=output_dir,
            **{name: value for name, value in options.items() if name not in _NOT_TAKEN},
        )
        self._values["files"] = files
        self._mistyped |= {name: value for name, value in options.items() if name in _NOT_TAKEN}

    @staticmethod
    def option_names() -> list[str]:
        """Name the options, in the order of the documentation.

        Example:
            >>> Deduplication.option_names()[:3]
            ['training_dir', 'output_dir', 'detector']
        """
        return [*(name for name in Audit.option_names() if name not in _NOT_TAKEN), "files"]

    def run(self) -> DeduplicationResult:  # type: ignore[override]
        """Deduplicate the set, tell the result on the terminal, and end the process when the input cannot be used.

        Returns:
            What was found and kept.

        Raises:
            SystemExit: with status 2 for input that cannot be used.
        """
        with errors_in_words(PROGRAM):
            options = self._read_deduplication_options()
            result = perform_deduplication(options, inferer=self._inferer, handlers=self._handlers)
            write_deduplication_report(options.audit.output_dir / "report.html", result)
            # Last: where there is a summary, all the rest is complete.
            write_deduplication_summary(options.audit.output_dir / "summary.json", result)
        for line in deduplication_lines(result):
            print_line(line)
        return result

    def _read_options(self) -> AuditOptions:
        return self._read_deduplication_options().audit

    def _read_deduplication_options(self) -> DeduplicationOptions:
        return read_deduplication_options(self._values, self._typed_options())
