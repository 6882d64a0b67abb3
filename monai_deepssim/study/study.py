"""The workflow of the bundle ``memorization_study``: options in, files and an exit status out."""

from __future__ import annotations

from monai_deepssim.csv_cells import safe_table
from monai_deepssim.files import remove_files, write_text
from monai_deepssim.progress import say
from monai_deepssim.study.estimate import estimate_study
from monai_deepssim.study.grid import Training
from monai_deepssim.study.options import StudyOptions
from monai_deepssim.study.outputs import DIGITS, render_study, render_table, write_figures, write_summary
from monai_deepssim.study.steps import StudyResult, perform_study
from monai_deepssim.study.trainings import StudyTrainings
from monai_deepssim.workflow.workflow import Workflow

__all__ = ["MemorizationStudy"]

_RESULT_FILES = ["summary.json", "report.html", "table.md", "cells.csv"]


class MemorizationStudy(Workflow[StudyOptions, "StudyResult | None"]):
    """Train generators along a grid of settings, and measure how much each copies and how real its samples look.

    The factors are the size of the training set, repetitions, augmentation, the width of the U-Net and epochs. Every
    training is that of the bundle ``brain_mri_ldm``; all share one autoencoder, which is trained first. Every cell's
    samples are judged by DeepSSIM verified on the pixels and by contrastive copy detection. Writes
    ``cells.csv``, ``table.md``, ``figures/``, ``report.html``, ``summary.json``, and ``cells/``, from which a study
    that was interrupted goes on.

    Args:
        values: options by name, those of :class:`~monai_deepssim.study.options.StudyOptions`.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> MemorizationStudy(base={"width": 32}).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = StudyOptions
    #: MONAI's properties of a bundle: a study has one per training, and none of its own.
    network_def = dataset = evaluator = inferer = None

    def perform(self, options: StudyOptions) -> StudyResult | None:
        if options.estimate_only:
            trainings = [(one, list(one.cells)) for one in Training.of_cells(options.cells, options.num_seeds)]
            # Of images that are not listed yet, the pool is taken for as many as the phantoms.
            num_pool = int(options.phantom.get("num_subjects", options.largest))
            say(estimate_study(options, StudyTrainings(options), trainings, num_pool))
            return None
        folder = options.output_dir
        # A result must not outlive its study: if this one fails, no table is left that looks like its own.
        remove_files(folder / name for name in _RESULT_FILES)
        result = perform_study(options)
        write_text(
            folder / "cells.csv", safe_table(result.cells.round(DIGITS)).to_csv(index=False, lineterminator="\n")
        )
        write_text(folder / "table.md", render_table(result))
        write_text(folder / "report.html", render_study(result, write_figures(folder / "figures", result)))
        # Last: where there is a summary, the study is complete.
        write_summary(folder / "summary.json", result)
        return result

    def writes(self, options: StudyOptions) -> bool:
        return not options.estimate_only

    def closing_lines(self, result: StudyResult | None) -> list[str]:
        if result is None:
            return []
        return ["", *render_table(result).splitlines(), f"Report: {result.options.output_dir / 'report.html'}"]
