"""The class that ``filter.json`` builds: a synthetic set in, the same set without its copies out."""

from __future__ import annotations

from typing import Any

from monai_deepssim.audit.audit import PROGRAM, Audit
from monai_deepssim.audit.clean_up.filter_outputs import filter_lines, left_out_words, write_filter_summary
from monai_deepssim.audit.clean_up.filter_steps import FILTER_SUMMARY, FilterResult, perform_filter
from monai_deepssim.audit.clean_up.options import read_filter_options
from monai_deepssim.audit.exit_status import end_unless_passed, errors_in_words, print_line
from monai_deepssim.errors import UnusableInputError

__all__ = ["CopyFilter"]


class CopyFilter(Audit):
    """Write a set of synthetic images without its copies, and audit what was written.

    The audit goes into ``output_dir``, where an audit of the same images is continued; the files that are kept into
    ``filtered/``, with their folders; ``manifest.csv`` says of every file whether it was kept, and why; the audit of
    ``filtered/`` goes into ``filtered_audit/``, and both results into ``filter.json``. The images that were given are
    only read.

    Args:
        leave_out: classes that are left out: ``duplicate``, and further ``similar``, ``discovery`` (closer to a
            training image than chance explains) or both.
        files: ``copy``, ``symlink`` (to the absolute path) or ``hardlink``.
        options: those of :class:`Audit`. ``max_copy_fraction`` decides about the set that was kept.

    Example:
        >>> CopyFilter(training_dir="images/training").run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    def __init__(self, *, leave_out: Any = ("duplicate", "part"), files: Any = "copy", **options: Any) -> None:
        super().__init__(**options)
        self._values |= {"leave_out": leave_out, "files": files}

    @staticmethod
    def option_names() -> list[str]:
        """Name the options, in the order of the documentation.

        Example:
            >>> CopyFilter.option_names()[-2:]
            ['leave_out', 'files']
        """
        return [*Audit.option_names(), "leave_out", "files"]

    def run(self) -> FilterResult:  # type: ignore[override]
        """Filter the set, tell the result on the terminal, and end the process unless all is well.

        Returns:
            What was kept, when no gate was asked for or what was kept passes it.

        Raises:
            SystemExit: with status 2 for input that cannot be used, a set of which nothing is left, or a gate that
                cannot be decided; and 3 when more than ``max_copy_fraction`` of what was kept are copies.
        """
        with errors_in_words(PROGRAM):
            options = read_filter_options(self._values, self._typed_options())
            result = perform_filter(options, inferer=self._inferer, handlers=self._handlers)
            # Last: where it is, the filter is complete.
            write_filter_summary(options.audit.output_dir / FILTER_SUMMARY, result)
            if result.after is None:
                raise UnusableInputError(
                    f"--synthetic_dir {result.before.synthetic.side.source}: nothing is left of its "
                    f"{len(result.decisions)} files ({left_out_words(result)}), so no folder was written. "
                    f"{result.manifest} says why for each. Let the generator make other images; one that gives back "
                    "what it was trained on needs more data, augmentation or a smaller network first."
                )
        for line in filter_lines(result):
            print_line(line)
        end_unless_passed(PROGRAM, result.after.gate)
        return result
