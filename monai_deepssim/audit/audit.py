"""The class that the bundle's config builds: options in, files and an exit status out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any

from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from torch import nn

from monai_deepssim.audit.closing import closing_lines
from monai_deepssim.audit.detector import load_detector
from monai_deepssim.audit.exit_status import end_unless_passed, errors_in_words, print_line
from monai_deepssim.audit.options import AuditOptions, read_options
from monai_deepssim.audit.overrides import (
    check_overrides,
    command_line_texts,
    refuse_none,
    running_config,
    unknown_option,
)
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.audit.steps import perform_audit
from monai_deepssim.data import ImageDataset, list_images
from monai_deepssim.engines.embedding import create_embedding_evaluator
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.similarity import DEFORMATION_COST

__all__ = ["PROGRAM", "Audit"]

#: What the messages of this bundle's workflows begin with.
PROGRAM = "memorization_audit"


class Audit:
    """Audit a set of synthetic images for copies of the images that trained their generator.

    Embeds both sets, finds the nearest training images of each synthetic image, verifies them by their SSIM after
    alignment, classifies the synthetic image by that, says how often such a score comes by chance, and writes
    ``summary.json``, ``matches.csv``, ``memorized.csv``, ``report.html`` and ``embeddings/``.

    All arguments are plain values, checked by :meth:`run` only: MONAI turns an error in the construction of a config's
    object into a traceback.

    Args:
        training_dir: folder (searched with its subfolders), pattern such as ``images/*/training.png``, CSV or MONAI
            data list of the images that trained the generator. With neither this nor ``synthetic_dir``, a demo is made
            and audited.
        synthetic_dir: the same for the images that the generator made.
        holdout_dir: the same for real images of other patients, which the generator never saw. They tell how high an
            image scores that is no copy; without them the training images are compared with each other.
        output_dir: where the files go. An audit that is there is continued if it is of the same images, slices and
            embedder, and refused otherwise.
        detector: what makes the shortlist, a name out of :data:`monai_deepssim.metrics.SUPPORTED_DETECTORS`.
        checkpoint: weights of the detector; of DeepSSIM, as :func:`monai_deepssim.networks.load_deepssim` takes them,
            by default those of the bundle ``deepssim_brain_mri``.
        verify: whether the shortlist is verified by aligned SSIM, which then decides; else the detector's own score.
        deformation_cost: SSIM that a pixel of deformation costs where the shortlist is verified, 0 or more; ``none``
            deforms nothing. See :func:`~monai_deepssim.similarity.aligned_ssim`.
        memorization_index: whether MI and ONI are reported beside DeepSSIM.
        fdr: false-discovery rate at which images are called closer to the training images than chance explains.
        device: such as ``cuda:0``; by default a GPU if there is one.
        image_size: rows and columns that all images are brought to, with their aspect kept.
        slices: of a volume: an index, indices, a range such as ``"60:100:2"``, or ``"all"``; the middle one by default.
        slice_axis: axis of the slices of a volume: 0 sagittal, 1 coronal, 2 axial.
        patient_id_pattern: regular expression whose group finds the patient in an image's path, or ``"folder"`` for the
            first folder in it.
        top_k: how many of the nearest training images are kept, and verified, for each synthetic image.
        thresholds: scores above which an image is similar, and a duplicate, where the verdict rests on aligned SSIM or
            DeepSSIM; one score, above which it is a copy, of another detector. Those that belong to the score by
            default.
        max_copy_fraction: share of copies, 0 to 1, above which the exit status is 3; no gate by default.
        count_parts: whether copies of a part of a training image count as copies for the gate.
        batch_size: images a step.
        num_workers: processes that read images; 0 reads in this one.
        overwrite: whether to replace an audit of other images in ``output_dir``.
        report_images: whether the report may show images. Without, no pixel of a patient is in it.
        inferer: MONAI inferer that calls the embedder; ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators that embed.
        mistyped: options that do not exist arrive here, and :meth:`run` names them.

    Example:
        >>> Audit(training_dir="images/training").run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    def __init__(
        self,
        *,
        training_dir: Any = None,
        synthetic_dir: Any = None,
        holdout_dir: Any = None,
        output_dir: Any = "./memorization_audit",
        detector: Any = "deepssim",
        checkpoint: Any = None,
        verify: Any = True,
        deformation_cost: Any = DEFORMATION_COST,
        memorization_index: Any = False,
        fdr: Any = 0.05,
        device: Any = None,
        image_size: Any = (136, 112),
        slices: Any = None,
        slice_axis: Any = 2,
        patient_id_pattern: Any = None,
        top_k: Any = 10,
        thresholds: Any = None,
        max_copy_fraction: Any = None,
        count_parts: Any = True,
        batch_size: Any = 64,
        num_workers: Any = 0,
        overwrite: Any = False,
        report_images: Any = True,
        inferer: Inferer | None = None,
        handlers: Sequence[Any] = (),
        **mistyped: Any,
    ) -> None:
        self._values = {
            name: value for name, value in locals().items() if name not in ("self", "inferer", "handlers", "mistyped")
        }
        self._inferer = inferer
        self._handlers = handlers
        self._mistyped = mistyped

    @staticmethod
    def option_names() -> list[str]:
        """Name the options, in the order of the documentation.

        Example:
            >>> Audit.option_names()[:3]
            ['training_dir', 'synthetic_dir', 'holdout_dir']
        """
        parameters = inspect.signature(Audit).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    def run(self) -> AuditResult:
        """Do the audit, tell its result on the terminal, and end the process unless all is well.

        Returns:
            What was found, when no gate was asked for or the gate is passed.

        Raises:
            SystemExit: with status 2 for input that cannot be used or a gate that cannot be decided, and 3 when more
                than ``max_copy_fraction`` are copies. What was found is written in both cases of a gate.
        """
        with errors_in_words(PROGRAM):
            options = self._read_options()
            result = perform_audit(options, inferer=self._inferer, handlers=self._handlers)
        for line in closing_lines(result, options.output_dir / "report.html"):
            print_line(line)
        end_unless_passed(PROGRAM, result.gate)
        return result

    @property
    def network_def(self) -> nn.Module:
        """The network, in eval mode (MONAI's bundle property of that name)."""
        return load_detector(self._read_options()).network

    @property
    def dataset(self) -> ImageDataset | None:
        """The training images (MONAI's bundle property of that name); ``None`` for the demo, which is made by a run."""
        options = self._read_options()
        if options.training_dir is None:
            return None
        items = list_images(
            options.training_dir,
            patient_id_pattern=options.patient_id_pattern,
            slices=options.slices,
            slice_axis=options.slice_axis,
        )
        return ImageDataset(items, image_size=options.image_size)

    @property
    def evaluator(self) -> SupervisedEvaluator | None:
        """The engine that embeds the training images (MONAI's bundle property of that name); ``None`` for the demo."""
        options, dataset = self._read_options(), self.dataset
        if dataset is None:
            return None
        loader = DataLoader(dataset, batch_size=options.batch_size, num_workers=options.num_workers)
        detector = load_detector(options)
        return create_embedding_evaluator(
            detector.network,
            loader,
            device=options.device,
            inferer=self._inferer,
            handlers=self._handlers,
            prepare_batch=detector.prepare_batch,
        )

    def _read_options(self) -> AuditOptions:
        return read_options(self._values, self._typed_options())

    def _typed_options(self) -> dict[str, str]:
        """Options as they were typed on the command line, once it is sure that each of them means something."""
        names = self.option_names()
        config = running_config()
        typed = command_line_texts() if config is not None else {}
        if config is not None:
            check_overrides(config, names)
            refuse_none(typed, names)
        for name in self._mistyped:
            raise unknown_option(name, names)
        if self._inferer is not None and not callable(self._inferer):
            raise UnusableInputError(f"--inferer: is {self._inferer!r}, wanted a MONAI inferer. Leave the option out.")
        if isinstance(self._handlers, str) or not isinstance(self._handlers, Sequence):
            raise UnusableInputError(
                f"--handlers: is {self._handlers!r}, wanted a list of Ignite handlers. Leave the option out."
            )
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UnusableInputError(
                "The audit runs in one process, but this is one of several (WORLD_SIZE is "
                f"{os.environ['WORLD_SIZE']}). Start it with python, not with torchrun."
            )
        return typed
