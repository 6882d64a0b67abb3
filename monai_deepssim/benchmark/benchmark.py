"""The workflow of the bundle ``detector_benchmark``: options in, files and an exit status out."""

from __future__ import annotations

from typing import Any

from monai_deepssim.benchmark.options import BenchmarkCommandOptions, BenchmarkOptions
from monai_deepssim.benchmark.outputs import DIGITS, render_table, write_summary
from monai_deepssim.benchmark.report import render_benchmark
from monai_deepssim.benchmark.steps import BenchmarkResult, perform_benchmark
from monai_deepssim.csv_cells import safe_table
from monai_deepssim.files import ensure_writable, remove_files, write_text
from monai_deepssim.options import option_names
from monai_deepssim.progress import say
from monai_deepssim.workflow.overrides import check_overrides
from monai_deepssim.workflow.workflow import Workflow

__all__ = ["DetectorBenchmark"]

_RESULT_FILES = ["summary.json", "report.html", "table.md", "results.csv"]


class DetectorBenchmark(Workflow[BenchmarkOptions, BenchmarkResult]):
    """Compare copy detectors on the same images, under the same changes of the copies.

    The images are phantom pairs by default, labelled pairs of one's own (``pairs_csv``), or images of one's own
    (``images``) of which the benchmark makes copies.

    Writes ``results.csv``, ``table.md``, ``report.html``, ``summary.json``, and ``cells/``, from which a run that was
    interrupted is continued.

    Args:
        values: options by name, those of :class:`~monai_deepssim.benchmark.options.BenchmarkOptions`.

    Example:
        >>> DetectorBenchmark(detectors={}).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = BenchmarkOptions
    #: MONAI's properties of a bundle: a benchmark has one per detector, and none of its own.
    network_def = dataset = evaluator = inferer = None

    def perform(self, options: BenchmarkOptions) -> BenchmarkResult:
        ensure_writable(options.output_dir)
        # A result must not outlive its benchmark: if this one fails, no table is left that looks like its own.
        remove_files(options.output_dir / name for name in _RESULT_FILES)
        for name, reason in options.left_out.items():
            say(f"Left out: {name} ({reason})")
        result = perform_benchmark(options)
        results = safe_table(result.table.round(DIGITS)).to_csv(lineterminator="\n")
        write_text(options.output_dir / "results.csv", results)
        write_text(options.output_dir / "table.md", render_table(result))
        write_text(options.output_dir / "report.html", render_benchmark(result))
        # Last: where there is a summary, the benchmark is complete.
        write_summary(options.output_dir / "summary.json", result)
        return result

    def closing_lines(self, result: BenchmarkResult) -> list[str]:
        return ["", *render_table(result).splitlines(), "", f"Report: {result.options.output_dir / 'report.html'}"]

    def check_config(self, config: dict[str, Any]) -> None:
        # Ids of the config that detectors refer to, such as --checkpoint, are options too.
        if set(self.option_names()) <= set(config):
            check_overrides(config, option_names(BenchmarkCommandOptions))
