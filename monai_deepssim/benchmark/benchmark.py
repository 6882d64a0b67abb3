"""The class that the bundle's config builds: options in, files and an exit status out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from monai_deepssim.audit.exit_status import errors_in_words, print_line
from monai_deepssim.audit.overrides import (
    check_overrides,
    command_line_texts,
    refuse_none,
    running_config,
    unknown_option,
)
from monai_deepssim.benchmark.options import BenchmarkOptions, read_options
from monai_deepssim.benchmark.outputs import render_table, write_results, write_summary
from monai_deepssim.benchmark.report import write_report
from monai_deepssim.benchmark.steps import BenchmarkResult, perform_benchmark
from monai_deepssim.files import ensure_writable, unwritable, write_text

__all__ = ["DetectorBenchmark"]

_RESULT_FILES = ["summary.json", "report.html", "table.md", "results.csv"]


class DetectorBenchmark:
    """Compare copy detectors on the same images, under the same changes of the copies.

    The images are phantom pairs by default, labelled pairs of one's own (``pairs_csv``), or images of one's own
    (``images``) of which the benchmark makes copies.

    Writes ``results.csv``, ``table.md``, ``report.html``, ``summary.json``, and ``cells/``, from which a run that was
    interrupted is continued. All arguments are plain values, checked by :meth:`run` only.

    Args:
        detectors: detectors by name, each in the config a ``_target_`` with ``"_mode_": "callable"``, so that they are
            made by :meth:`run`. One whose ``embedder`` is ``None`` is left out.
        only: names of the detectors to run; all by default.
        two_class: names of detectors that know no similar images: theirs is one threshold.
        perturbations: names out of :data:`~monai_deepssim.transforms.SUPPORTED_PERTURBATIONS`; all by default.
        pairs_csv: labelled pairs in the published format (:func:`~monai_deepssim.data.labelled_pairs`); by default
            phantom pairs are made.
        images_dir: folder of the images of ``pairs_csv``.
        images: images of one's own, a folder or a CSV with a column ``image``, of which copies and strangers are made.
        group_column: column of the CSV whose images belong together, such as a patient's; ``patient_id`` by default.
        patient_id_pattern: how to read the patient from the path of an image, as an audit does.
        num_copies: of images of one's own, how many are changed and searched for.
        num_strangers: of images of one's own, how many that are no copies are changed and searched for.
        tuning_fraction: of ``pairs_csv``, the share of patients whose pairs are for the thresholds alone.
        num_pairs: of phantoms, for the test and again for the thresholds; a third of each class.
        gallery_size: real images among which a search has to find the source: 1000 for phantoms, those of the pairs and
            others; at most 600 for images of one's own.
        test_seed: of the images of the test, and of what the perturbations draw.
        tuning_seed: of the phantoms for the thresholds, or of the split of patients.
        image_size: rows and columns of all images.
        num_resamples: of the bootstrap.
        batch_size: images a step.
        output_dir: where the files go.
        overwrite: whether to score anew what an earlier run in ``output_dir`` scored already.
        mistyped: options that do not exist arrive here, and :meth:`run` names them.

    Example:
        >>> DetectorBenchmark(detectors={}).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    def __init__(
        self,
        *,
        detectors: Any = None,
        only: Any = None,
        two_class: Any = None,
        perturbations: Any = None,
        pairs_csv: Any = None,
        images_dir: Any = None,
        images: Any = None,
        group_column: Any = None,
        patient_id_pattern: Any = None,
        num_copies: Any = 60,
        num_strangers: Any = 40,
        tuning_fraction: Any = 0.3,
        num_pairs: Any = 300,
        gallery_size: Any = None,
        test_seed: Any = 9402,
        tuning_seed: Any = 9401,
        image_size: Any = (136, 112),
        num_resamples: Any = 1000,
        batch_size: Any = 50,
        output_dir: Any = "./detector_benchmark",
        overwrite: Any = False,
        **mistyped: Any,
    ) -> None:
        self._values = {name: value for name, value in locals().items() if name not in ("self", "mistyped")}
        self._mistyped = mistyped

    @staticmethod
    def option_names() -> list[str]:
        """Name the options, in the order of the documentation.

        Example:
            >>> DetectorBenchmark.option_names()[:3]
            ['detectors', 'only', 'two_class']
        """
        parameters = inspect.signature(DetectorBenchmark).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def run(self) -> BenchmarkResult:
        """Do the benchmark, print the table, and end the process when the input cannot be used.

        Returns:
            What was found, which is also in the files.

        Raises:
            SystemExit: with status 2 for input that cannot be used.
        """
        with errors_in_words("detector_benchmark"):
            options = self._read_options()
            _make_room(options)
            for name, reason in options.left_out.items():
                print_line(f"Left out: {name} ({reason})")
            result = perform_benchmark(options)
            table = render_table(result)
            write_results(options.output_dir / "results.csv", result)
            write_text(options.output_dir / "table.md", table)
            write_report(options.output_dir / "report.html", result)
            # Last: where there is a summary, the benchmark is complete.
            write_summary(options.output_dir / "summary.json", result)
        for line in ["", *table.splitlines(), "", f"Report: {options.output_dir / 'report.html'}"]:
            print_line(line)
        return result

    def _read_options(self) -> BenchmarkOptions:
        names, config = self.option_names(), running_config()
        typed = command_line_texts() if config is not None else {}
        if config is not None:
            # Ids of the config that detectors refer to, such as --checkpoint, are options too.
            referred = [name for name, value in config.items() if not isinstance(value, Mapping) and name != "run"]
            check_overrides(config, list(dict.fromkeys([*names, *_referred_to(config, referred)])))
            refuse_none(typed, names)
        for name in self._mistyped:
            raise unknown_option(name, names)
        return read_options(self._values, typed, config)


def _referred_to(config: Mapping[str, Any], names: list[str]) -> list[str]:
    detectors = str(config.get("detectors"))
    return [name for name in names if f"'@{name}'" in detectors]


def _make_room(options: BenchmarkOptions) -> None:
    """A result must not outlive its benchmark: if this one fails, no table is left that looks like its own."""
    ensure_writable(options.output_dir)
    for name in _RESULT_FILES:
        path = options.output_dir / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
