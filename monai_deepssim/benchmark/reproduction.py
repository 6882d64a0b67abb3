"""The workflow of the published protocol: options in, files and an exit status out."""

from __future__ import annotations

from monai_deepssim.benchmark.reproduction_options import ReproductionOptions
from monai_deepssim.benchmark.reproduction_outputs import render_protocol_table, write_results
from monai_deepssim.benchmark.reproduction_steps import ReproductionResult, perform_reproduction
from monai_deepssim.files import ensure_writable, remove_files
from monai_deepssim.workflow.workflow import Workflow

__all__ = ["Reproduction"]

_RESULT_FILES = ("summary.json", "report.html", "table.md", "results.csv", "scores.csv", "histograms.csv")


class Reproduction(Workflow[ReproductionOptions, ReproductionResult]):
    """Evaluate detectors by the protocol that was published with DeepSSIM, on its layout and its lists.

    DeepSSIM, SSCD ("Chen"), Dar et al.'s copy detection, SemDeDup and SSIM score labelled pairs, as they are and under
    augmentations of probability 0.8; published thresholds make classes of the scores. A detector without weights is a
    row that says what is missing.

    Writes ``table.md``, ``results.csv``, ``scores.csv`` (every pair), ``histograms.csv``, ``report.html`` and
    ``summary.json``; with ``trainset_csv`` also ``ssim_errors.csv``, with ``write_matrices`` the published score
    matrices and index files.

    Args:
        values: options by name, those of
            :class:`~monai_deepssim.benchmark.reproduction_options.ReproductionOptions`.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> Reproduction(images_dir="images").run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = ReproductionOptions
    #: MONAI's properties of a bundle: a run has one per detector, and none of its own.
    network_def = dataset = evaluator = inferer = None

    def perform(self, options: ReproductionOptions) -> ReproductionResult:
        ensure_writable(options.output_dir)
        # A result must not outlive its run: if this one fails, no table is left that looks like its own.
        remove_files(options.output_dir / name for name in (*_RESULT_FILES, "ssim_errors.csv"))
        result = perform_reproduction(options)
        write_results(options.output_dir, result)
        return result

    def closing_lines(self, result: ReproductionResult) -> list[str]:
        report = result.options.output_dir / "report.html"
        return ["", *render_protocol_table(result).splitlines(), "", f"Report: {report}"]
