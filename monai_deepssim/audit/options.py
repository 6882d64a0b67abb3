"""The options of an audit, of a filter, of a deduplication and of a training of the embedder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import (
    anything,
    image_sides,
    named_values,
    number,
    one_of,
    path,
    share,
    text,
    torch_device,
    unusable_option,
    whole,
    yes_or_no,
)
from monai_deepssim.options import option

if TYPE_CHECKING:
    import torch

    from monai_deepssim.audit.verdict import Thresholds

__all__ = [
    "LEAVE_OUT_CLASSES",
    "AuditOptions",
    "DeduplicationOptions",
    "EmbedderTrainingOptions",
    "FilterOptions",
    "SearchOptions",
]

#: Classes of synthetic images that a filter may leave out; the first always is.
LEAVE_OUT_CLASSES = ("duplicate", "part", "similar", "discovery", "unexplained")

_IMAGES, _DETECTION, _DECISION, _OUTPUT, _RUNNING = "Images", "Detection", "Decision", "Output", "Running"
_TRAINING = "Training"
_IMAGE_SOURCE = path("folder, pattern, CSV or data list")


def _detector_names() -> Iterable[str]:
    from monai_deepssim.metrics import SUPPORTED_DETECTORS

    return SUPPORTED_DETECTORS


@dataclass(frozen=True)
class ImageOptions:
    """Which images a workflow of this room has, and how they are read."""

    training_dir: Path | None = option(
        None,
        _IMAGE_SOURCE,
        "Images that trained the generator: a folder (searched with its subfolders), a pattern such as "
        "'images/*/training.png', a CSV (image, patient_id) or a MONAI data list. The bundle audits a demo without.",
        _IMAGES,
    )
    patient_id_pattern: str | None = option(
        None,
        text,
        "Regular expression whose group finds the patient in an image's path, or 'folder' for the first folder in it.",
        _IMAGES,
    )
    slices: Any = option(
        None,
        anything("index, indices, range or all"),
        "Slices of a volume: 90, 60,70,80, 60:100:2 or all, counted from the patient's left, back or feet; by default "
        "the middle one.",
        _IMAGES,
    )
    slice_axis: int = option(2, whole(0, 2), "Axis of the slices of a volume: 0 sagittal, 1 coronal, 2 axial.", _IMAGES)
    image_size: tuple[int, int] = option(
        (136, 112), image_sides(64), "Rows and columns to which images are brought, their aspect kept.", _IMAGES
    )


@dataclass(frozen=True)
class SearchOptions(ImageOptions):
    """How images are searched and compared, and where the results go."""

    detector: str = option(
        "deepssim",
        one_of(_detector_names),
        "Detector that proposes candidates (docs/detectors.md); deepssim_aligned is deepssim with verify, the default.",
        _DETECTION,
    )
    detector_options: Any = option(
        None, named_values, "Arguments of the detector alone, such as hash_size=16 of phash.", _DETECTION
    )
    checkpoint: Path | None = option(
        None, path("file"), "Weights of the detector; by default those that ship, for DeepSSIM.", _DETECTION
    )
    verify: bool = option(
        True,
        yes_or_no,
        "Whether candidates are compared on the pixels, which then decides; else the detector's score does.",
        _DETECTION,
    )
    deformation_cost: float | None = option(
        0.1,
        number(0, "an SSIM of 0 or more, such as 0.1, or none", or_none=True),
        "SSIM that a pixel of deformation costs in the comparison; none deforms nothing.",
        _DETECTION,
    )
    top_k: int = option(10, whole(1), "Candidates of each image that are kept and compared.", _DETECTION)
    thresholds: Any = option(
        None,
        anything("two scores, or one"),
        "Scores above which an image is similar, and a duplicate; one score for a detector of two classes. By default "
        "those that belong to the score.",
        _DECISION,
    )
    output_dir: Path = option(
        Path("memorization_audit"), path("folder"), "Folder of the results; must lie in none of the others.", _OUTPUT
    )
    overwrite: bool = option(
        False, yes_or_no, "Whether results of other images in the folder are replaced; else they are refused.", _OUTPUT
    )
    report_images: str = option(
        "all",
        one_of(("all", "copies", "none")),
        "Which images the report shows: all, those of copies, or none.",
        _OUTPUT,
    )
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", _RUNNING)
    batch_size: int = option(64, whole(1), "Images per step of the networks.", _RUNNING)
    num_workers: int = option(0, whole(0), "Processes that read images; 0 reads in this one.", _RUNNING)

    def __post_init__(self) -> None:
        if self.output_dir is None:
            object.__setattr__(self, "output_dir", type(self).output_dir)
        if self.detector == "deepssim_aligned":
            if not self.verify:
                raise UnusableInputError(
                    "--detector deepssim_aligned: compares candidates on the pixels, which --verify false leaves out. "
                    "Give --detector deepssim, or leave --verify out."
                )
            object.__setattr__(self, "detector", "deepssim")
        object.__setattr__(self, "thresholds", self._read_thresholds())

    @property
    def demo(self) -> bool:
        """Whether the workflow makes its own images, because none were given."""
        return self.training_dir is None

    @property
    def has_holdout(self) -> bool:
        """Whether there are held-out images."""
        return False

    @property
    def num_proposed(self) -> int:
        """How many training images the detector proposes for each image."""
        from monai_deepssim.metrics import NUM_SCREENED

        return max(self.top_k, NUM_SCREENED) if self.verify else self.top_k

    def _read_thresholds(self) -> Thresholds | None:
        """The thresholds of the score that decides; ``None`` for those that held-out images will give."""
        from monai_deepssim.audit.verdict import Thresholds

        if isinstance(self.thresholds, Thresholds):
            return self.thresholds
        score = "copy_score" if self.verify else self.detector
        if score in ("copy_score", "deepssim"):
            return self._read_thresholds_of_three_classes(score)
        return self._read_threshold_of_two_classes(score)

    def _read_thresholds_of_three_classes(self, score: str) -> Thresholds:
        from monai_deepssim.audit.verdict import PUBLISHED_THRESHOLDS, VERIFIED_THRESHOLDS, Thresholds
        from monai_deepssim.similarity import DEFORMATION_COST

        default = VERIFIED_THRESHOLDS if self.verify else PUBLISHED_THRESHOLDS
        if self.verify and self.deformation_cost != DEFORMATION_COST:
            source = f"{default.source}; at a deformation cost of {DEFORMATION_COST}, not this one"
            default = replace(default, source=source)
        if self.thresholds is None:
            return default
        numbers = _numbers(self.thresholds)
        if len(numbers) != 2 or not -1 <= numbers[0] <= numbers[1] <= 1:
            wanted = "two scores from -1 to 1, the one of similar first, such as '[0.6, 0.85]'"
            raise unusable_option("thresholds", self.thresholds, wanted)
        if (numbers[0], numbers[1]) == (default.similar, default.duplicate):
            return default
        return Thresholds(numbers[0], numbers[1], score, "given by the user for this audit")

    def _read_threshold_of_two_classes(self, score: str) -> Thresholds | None:
        """The other detectors know two classes, and each has a scale of its own."""
        from monai_deepssim.audit.verdict import Thresholds
        from monai_deepssim.metrics import SUPPORTED_DETECTORS

        if self.thresholds is not None:
            numbers = _numbers(self.thresholds)
            if len(numbers) != 1:
                wanted = f"one score of {score}, above which an image is a copy, such as 0.9"
                raise unusable_option("thresholds", self.thresholds, wanted)
            return Thresholds(None, numbers[0], score, "given by the user for this audit")
        kind = SUPPORTED_DETECTORS[score]
        if kind.default_threshold is not None:
            return Thresholds(None, kind.default_threshold, score, kind.threshold_source)
        if score == "copy_detector" and self.has_holdout:
            return None
        remedy = "held-out images (--holdout_dir), which its rule takes one from, " if score == "copy_detector" else ""
        raise UnusableInputError(
            f"--thresholds: was not given, and {score} has no published threshold. Give {remedy}one score above which "
            "an image is a copy, or leave --verify true, which judges by aligned SSIM."
        )


@dataclass(frozen=True)
class AuditOptions(SearchOptions):
    """The options of an audit."""

    synthetic_dir: Path | None = option(
        None, _IMAGE_SOURCE, "Images that the generator made, given in the same way.", _IMAGES
    )
    holdout_dir: Path | None = option(
        None,
        _IMAGE_SOURCE,
        "Real images of other patients, which the generator never saw: they tell how high an image scores that is not "
        "a copy. Without them the training images are compared with each other.",
        _IMAGES,
    )
    memorization_index: bool = option(False, yes_or_no, "Whether MI and ONI are computed beside the score.", _DETECTION)
    fdr: float = option(
        0.05,
        share(0.05),
        "False-discovery rate at which images are called closer to the training images than chance explains.",
        _DECISION,
    )
    group_rule: str = option(
        "mean",
        one_of(("mean", "max")),
        "How the scores of one patient's images vote in a p-value: mean where a synthetic image is like one image of a "
        "patient taken at random, max where it is like the one that scores highest.",
        _DECISION,
    )
    max_copy_fraction: float | None = option(
        None,
        share(0.01, ends=True, or_none=True),
        "Share of suspicious images that is accepted; above it the exit status is 3. By default there is no gate.",
        _DECISION,
    )
    max_patient_fraction: float | None = option(
        None,
        share(0.01, ends=True, or_none=True),
        "Share of the training patients with a memorized image that is accepted, likewise.",
        _DECISION,
    )
    gate_on: str = option(
        "generator",
        one_of(("generator", "files")),
        "What the gate is about: the generator that made the set, whose share of copies is judged by its upper 95 % "
        "limit, or exactly these files, of which the count is judged.",
        _DECISION,
    )
    controls: int | None = option(
        20,
        whole(1, or_none=True),
        "Copies of training images that are planted for each change and level, to see how many would be found; none "
        "plants none, and the gate cannot pass.",
        _DECISION,
    )
    autoencoder: Path | None = option(
        None,
        path("file"),
        "Checkpoint of the generator's own autoencoder: controls pass through it, too, and the gate goes by these.",
        _DECISION,
    )
    min_recall: float = option(
        0.9,
        share(0.9, ends=True),
        "Share of the controls of the reference change that has to be found; below it the gate is undecided.",
        _DECISION,
    )
    count_parts: bool = option(
        True, yes_or_no, "Whether copies of a part of a training image count as copies for the gate.", _DECISION
    )
    shareable_report: bool = option(
        False, yes_or_no, "Whether a second report is written, without names, identifiers and pixels.", _OUTPUT
    )

    def __post_init__(self) -> None:
        if (self.training_dir is None) != (self.synthetic_dir is None):
            names = ("training_dir", "synthetic_dir")
            given, missing = names if self.training_dir else names[::-1]
            raise UnusableInputError(
                f"--{missing}: was not given, but --{given} was. An audit compares two folders: give both, or neither "
                "for the demo."
            )
        if self.holdout_dir is not None and self.training_dir is None:
            raise UnusableInputError(
                "--holdout_dir: was given without --training_dir and --synthetic_dir. Held-out images tell what the "
                "scores of an audit mean: give all three, or none for the demo."
            )
        if self.autoencoder is not None and self.controls is None:
            raise UnusableInputError(
                "--autoencoder: was given, but --controls none plants no copies that could pass through it. Leave one "
                "of the two out."
            )
        super().__post_init__()

    @property
    def has_holdout(self) -> bool:
        """Whether there are held-out images."""
        return self.holdout_dir is not None


_FILES = option(
    "copy",
    one_of(("copy", "symlink", "hardlink")),
    "How files come into the new folder: copied, or linked to where they are.",
    _OUTPUT,
)


@dataclass(frozen=True)
class FilterOptions(AuditOptions):
    """The options of a filter: those of an audit, and what is left out."""

    leave_out: Any = option(
        ("duplicate", "part"),
        anything("classes"),
        f"Classes that are left out: {LEAVE_OUT_CLASSES[0]}, and any of {', '.join(LEAVE_OUT_CLASSES[1:])}.",
        _OUTPUT,
    )
    gate_on: str = option(
        "files",
        one_of(("generator", "files")),
        "What the gate is about: exactly the files that are kept, of which the count is judged, or the generator, for "
        "which a set that was chosen does not stand.",
        _DECISION,
    )
    files: str = _FILES

    def __post_init__(self) -> None:
        given = self.leave_out
        names = given.replace(",", " ").split() if isinstance(given, str) else given
        always, *others = LEAVE_OUT_CLASSES
        is_known = isinstance(names, Sequence) and all(name in LEAVE_OUT_CLASSES for name in names)
        if not is_known or always not in names:
            wanted = f"{always}, with any of {', '.join(others)} behind it, such as duplicate,part,discovery or "
            raise unusable_option("leave_out", given, f"{wanted}duplicate,part,similar")
        object.__setattr__(self, "leave_out", tuple(name for name in LEAVE_OUT_CLASSES if name in names))
        super().__post_init__()


@dataclass(frozen=True)
class DeduplicationOptions(SearchOptions):
    """The options of a deduplication: a training set is searched in itself."""

    output_dir: Path = option(
        Path("deduplication"), path("folder"), "Folder of the results; must lie in none of the others.", _OUTPUT
    )
    files: str = _FILES

    def __post_init__(self) -> None:
        if self.detector == "copy_detector" and self.thresholds is None and not self.verify:
            raise UnusableInputError(
                "--thresholds: was not given, and copy_detector takes its threshold from held-out images, which a "
                "deduplication has not. Give one score above which an image is a duplicate, or leave --verify true."
            )
        super().__post_init__()


@dataclass(frozen=True)
class EmbedderTrainingOptions(ImageOptions):
    """The options of a training of the embedder, most of them ids of the bundle that trains it."""

    training_dir: Path | None = option(
        None, _IMAGE_SOURCE, "Images to train on: a folder, a pattern, a CSV or a data list, as in an audit.", _IMAGES
    )
    validation_fraction: float = option(
        0.1, share(0.1), "Share of the patients whose images are put aside to validate on.", _IMAGES
    )
    start: str = option(
        "shipped",
        one_of(("shipped", "random", "published")),
        "What is trained: the shipped network from its weights, or from random ones, or the published network from "
        "torchvision's ImageNet weights, which are downloaded.",
        _TRAINING,
    )
    checkpoint: Path | None = option(
        None, path("file", missing="the weights of an embedder"), "Weights to start from, for the shipped.", _TRAINING
    )
    max_epochs: int = option(40, whole(1), "Times that all images are seen.", _TRAINING)
    learning_rate: float | None = option(
        None,
        number(0, "a rate above 0, such as 0.0004, or none", or_none=True),
        "Largest learning rate; by default 0.0004 for weights that ship and 0.001 for others.",
        _TRAINING,
    )
    items_per_batch: int = option(11, whole(2), "Images of a step, of each of which variants are made.", _TRAINING)
    seed: int = option(0, whole(0), "Seed of the split, of the initial weights and of the order.", _TRAINING)
    output_dir: Path = option(
        Path("deepssim_training"), path("folder"), "Folder of the results; a training there goes on.", _OUTPUT
    )
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", _RUNNING)
    num_workers: int = option(0, whole(0), "Processes that read images; 0 reads in this one.", _RUNNING)

    def __post_init__(self) -> None:
        if self.training_dir is None:
            raise UnusableInputError("--training_dir: was not given. Name the folder or list of your images.")
        if self.checkpoint is not None and self.start != "shipped":
            raise UnusableInputError(
                f"--checkpoint: was given with --start {self.start}, which starts from other weights. Leave one out."
            )


def _numbers(value: Any) -> list[float]:
    """One number or a list of them as a list; nothing of anything else."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    is_number = [isinstance(entry, Real) and not isinstance(entry, bool) and math.isfinite(entry) for entry in values]
    return [float(entry) for entry in values] if all(is_number) else []
