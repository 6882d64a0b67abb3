"""The class that the bundle's config builds: options in, files and an exit status out."""

from __future__ import annotations

import inspect
from typing import Any

from monai_deepssim.audit.exit_status import errors_in_words, print_line
from monai_deepssim.audit.overrides import (
    check_overrides,
    command_line_texts,
    refuse_none,
    running_config,
    unknown_option,
)
from monai_deepssim.files import unwritable, write_text
from monai_deepssim.study.options import StudyOptions, read_options
from monai_deepssim.study.outputs import render_table, write_cells, write_summary
from monai_deepssim.study.report import write_figures, write_report
from monai_deepssim.study.steps import StudyResult, estimate_only, perform_study

__all__ = ["MemorizationStudy"]

_RESULT_FILES = ["summary.json", "report.html", "table.md", "cells.csv"]


class MemorizationStudy:
    """Train generators along a grid of settings, and measure how much each copies and how real its samples look.

    The factors are the size of the training set, repetitions, augmentation, the width of the U-Net and epochs. Every
    training is that of the bundle ``brain_mri_ldm``; all share one autoencoder, which is trained first. Every cell's
    samples are judged by DeepSSIM with verification by aligned SSIM and by contrastive copy detection. Writes
    ``cells.csv``, ``table.md``, ``figures/``, ``report.html``, ``summary.json``, and ``cells/``, from which a study
    that was interrupted goes on. All arguments are plain values, checked by :meth:`run` only.

    Args:
        factors: values by factor: ``training_images``, ``repetitions`` (``none``, ``low``, ``high``), ``augmentation``,
            ``width`` (channels of the U-Net's first level) and ``epochs``.
        base: the value of each factor where another one is varied.
        design: ``one_factor``, one factor at a time around the base; or ``product``, all combinations.
        equal: what training sets of different sizes have in common: ``steps`` of the optimisation, as many as the base
            cell has in so many epochs; or ``epochs``, passes over their own images.
        num_seeds: trainings a cell, each on images of its own draw.
        num_samples: images drawn of each, 16 or more.
        dataset_dir: images of one's own, as in :func:`~monai_deepssim.data.list_images`; phantoms by default.
        patient_id_pattern: as there.
        slices: as there.
        slice_axis: as there.
        phantom: arguments of :class:`~monai_deepssim.data.PhantomBrainDataset`, for the pool that training sets are
            drawn from.
        num_holdout: phantom subjects, or patients of ``dataset_dir``, that are put aside: half of them for thresholds,
            half to check these.
        image_size: rows and columns of all images.
        generator_settings: files of settings over those of the bundle ``brain_mri_ldm``.
        autoencoder_checkpoint: of an autoencoder that was trained with these settings; one is trained by default.
        checkpoint: of the DeepSSIM embedder.
        deepssim_image_size: rows and columns that it was trained on.
        top_k: training images that are verified for each sample.
        copy_detector_settings: files of settings over those of the bundle ``copy_detector``.
        copy_detector_checkpoint: of a copy detector; one is trained by default.
        seed: of the study.
        device: where networks run; by default a GPU if there is one.
        report_images: whether sheets of samples beside training images are made, and shown in the report.
        estimate_only: whether to say how long it would take, and stop.
        output_dir: where the files go.
        mistyped: options that do not exist arrive here, and :meth:`run` names them.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> MemorizationStudy(base={"width": 32}).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    def __init__(
        self,
        *,
        factors: Any = None,
        base: Any = None,
        design: Any = "one_factor",
        equal: Any = "steps",
        num_seeds: Any = 2,
        num_samples: Any = 64,
        dataset_dir: Any = None,
        patient_id_pattern: Any = None,
        slices: Any = None,
        slice_axis: Any = 2,
        phantom: Any = None,
        num_holdout: Any = 128,
        image_size: Any = (80, 64),
        generator_settings: Any = (),
        autoencoder_checkpoint: Any = None,
        checkpoint: Any = None,
        deepssim_image_size: Any = (136, 112),
        top_k: Any = 10,
        copy_detector_settings: Any = (),
        copy_detector_checkpoint: Any = None,
        seed: Any = 0,
        device: Any = None,
        report_images: Any = True,
        estimate_only: Any = False,
        output_dir: Any = "./memorization_study",
        **mistyped: Any,
    ) -> None:
        self._values = {name: value for name, value in locals().items() if name not in ("self", "mistyped")}
        self._mistyped = mistyped

    @staticmethod
    def option_names() -> list[str]:
        """Name the options, in the order of the documentation.

        Example:
            >>> MemorizationStudy.option_names()[:3]
            ['factors', 'base', 'design']
        """
        parameters = inspect.signature(MemorizationStudy).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def run(self) -> StudyResult | None:
        """Do the study, print its table, and end the process when the input cannot be used.

        Returns:
            What was found, which is also in the files; ``None`` where only an estimate was asked for.

        Raises:
            SystemExit: with status 2 for input that cannot be used.
        """
        with errors_in_words("memorization_study"):
            options = self._read_options()
            if options.estimate_only:
                print_line(estimate_only(options).in_words())
                return None
            _make_room(options)
            result = perform_study(options)
            folder, table = options.output_dir, render_table(result)
            write_cells(folder / "cells.csv", result)
            write_text(folder / "table.md", table)
            write_report(folder / "report.html", result, write_figures(folder / "figures", result))
            # Last: where there is a summary, the study is complete.
            write_summary(folder / "summary.json", result)
        for line in ["", *table.splitlines(), f"Report: {options.output_dir / 'report.html'}"]:
            print_line(line)
        return result

    def _read_options(self) -> StudyOptions:
        names, config = self.option_names(), running_config()
        typed = command_line_texts() if config is not None else {}
        if config is not None:
            check_overrides(config, names)
            refuse_none(typed, names)
        for name in self._mistyped:
            raise unknown_option(name, names)
        return read_options(self._values, typed)


def _make_room(options: StudyOptions) -> None:
    """A result must not outlive its study: if this one fails, no table is left that looks like its own."""
    for name in _RESULT_FILES:
        path = options.output_dir / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
