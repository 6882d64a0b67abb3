"""The workflow of ``deduplicate.json``: a training set in, one of each group of its duplicates out."""

from __future__ import annotations

from monai_deepssim.audit.audit import SearchWorkflow
from monai_deepssim.audit.clean_up.deduplication_outputs import deduplication_lines, write_deduplication_files
from monai_deepssim.audit.clean_up.deduplication_steps import DeduplicationResult, perform_deduplication
from monai_deepssim.audit.options import DeduplicationOptions
from monai_deepssim.ranks import current_ranks

__all__ = ["Deduplication"]


class Deduplication(SearchWorkflow[DeduplicationOptions, DeduplicationResult]):
    """Find the images that a training set holds more than once, and write the set with one of each.

    Every image is compared with those of all other files, as an audit compares a synthetic with the training images.
    ``deduplicated/`` gets the files that are kept, with their folders; ``manifest.csv`` says of every file whether it
    was kept, and why; ``groups.csv``, ``matches.csv``, ``report.html`` and ``summary.json`` tell what was found. The
    images that were given are only read.

    Args:
        inferer: MONAI inferer that calls the embedder; ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators that embed.
        values: options by name, those of :class:`~monai_deepssim.audit.options.DeduplicationOptions`.

    Example:
        >>> Deduplication(training_dir="images/training", top_k=0).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = DeduplicationOptions

    def perform(self, options: DeduplicationOptions) -> DeduplicationResult:
        write = current_ranks().is_first
        result = perform_deduplication(options, write=write, inferer=self.inferer, handlers=self.handlers)
        if write:
            write_deduplication_files(result)
        return result

    def closing_lines(self, result: DeduplicationResult) -> list[str]:
        return deduplication_lines(result)
