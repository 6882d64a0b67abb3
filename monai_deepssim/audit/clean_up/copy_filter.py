"""The workflow of ``filter.json``: a synthetic set in, the same set without its copies out."""

from __future__ import annotations

from monai_deepssim.audit.audit import SearchWorkflow
from monai_deepssim.audit.clean_up.filter_outputs import filter_lines, left_out_words, write_filter_summary
from monai_deepssim.audit.clean_up.filter_steps import FILTER_SUMMARY, FilterResult, perform_filter
from monai_deepssim.audit.options import FilterOptions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.ranks import current_ranks
from monai_deepssim.workflow.exit_status import end_unless_passed

__all__ = ["CopyFilter"]


class CopyFilter(SearchWorkflow[FilterOptions, FilterResult]):
    """Write a set of synthetic images without its copies, and judge what was written.

    The audit goes into ``output_dir``, where an audit of the same images is continued; the files that are kept into
    ``filtered/``, with their folders; ``manifest.csv`` says of every file whether it was kept, and why. The audit of
    ``filtered/``, by what was measured of its images before, goes into ``filtered_audit/``, and both results into
    ``filter.json``. The images that were given are only read. ``max_copy_fraction`` decides about what was kept.

    Args:
        inferer: MONAI inferer that calls the embedder; ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators that embed.
        values: options by name, those of :class:`~monai_deepssim.audit.options.FilterOptions`.

    Example:
        >>> CopyFilter(training_dir="images/training").run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = FilterOptions

    def perform(self, options: FilterOptions) -> FilterResult:
        write = current_ranks().is_first
        result = perform_filter(options, write=write, inferer=self.inferer, handlers=self.handlers)
        if write:
            # Last: where it is, the filter is complete.
            write_filter_summary(options.output_dir / FILTER_SUMMARY, result)
        if result.after is None:
            raise UnusableInputError(
                f"--synthetic_dir {result.before.synthetic.side.source}: nothing is left of its "
                f"{len(result.files)} files ({left_out_words(result)}), so no folder was written. "
                f"{result.manifest} says why for each. Let the generator make other images; one that gives back "
                "what it was trained on needs more data, augmentation or a smaller network first."
            )
        return result

    def closing_lines(self, result: FilterResult) -> list[str]:
        return filter_lines(result)

    def end(self, result: FilterResult) -> None:
        if result.after is not None:
            end_unless_passed(result.after.gate.result, result.after.gate.reason)
