"""The options of every search for copies: which images, how they are compared, and where the results go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.image_option_checks import image_sides, patterns, windows
from monai_deepssim.memory import BYTES_PER_PIXEL, check_memory
from monai_deepssim.option_checks import (
    anything,
    named_values,
    number,
    one_of,
    path,
    text,
    torch_device,
    unusable_option,
    whole,
    yes_or_no,
)
from monai_deepssim.options import option
from monai_deepssim.workflow.volume_options import VOLUMES_WAYS, settle_volumes

if TYPE_CHECKING:
    import torch

    from monai_deepssim.calibration import Thresholds

__all__ = ["DECISION", "DETECTION", "IMAGES", "IMAGE_SOURCE", "OUTPUT", "RUNNING", "ImageOptions", "SearchOptions"]

# Headings under which options are listed.
IMAGES, DETECTION, DECISION, OUTPUT, RUNNING = "Images", "Detection", "Decision", "Output", "Running"
IMAGE_SOURCE = path("folder, pattern, CSV or data list")


def _detector_names() -> Iterable[str]:
    from monai_deepssim.metrics import SUPPORTED_DETECTORS

    return SUPPORTED_DETECTORS


def _search_engines() -> Iterable[str]:
    from monai_deepssim.search import SEARCH_ENGINES

    return SEARCH_ENGINES


def _window_names() -> Iterable[str]:
    from monai_deepssim.data import NAMED_WINDOWS

    return NAMED_WINDOWS


@dataclass(frozen=True)
class ImageOptions:
    """Which images a workflow of this room has, and how they are read."""

    training_dir: Path | None = option(
        None,
        IMAGE_SOURCE,
        "Images that trained the generator: a folder (searched with its subfolders), a pattern such as "
        "'images/*/training.png', a CSV (image, patient_id) or a MONAI data list. The bundle audits a demo without.",
        IMAGES,
    )
    patient_id_pattern: str | None = option(
        None,
        text,
        "Regular expression whose group finds the patient in an image's path, or 'folder' for the first folder in it.",
        IMAGES,
    )
    slices: Any = option(
        None,
        anything("index, indices, range or all"),
        "Slices of a volume: 90, 60,70,80, 60:100:2 or all, counted from the patient's left, back or feet; by default "
        "the middle one.",
        IMAGES,
    )
    slice_axis: int = option(2, whole(0, 2), "Axis of the slices of a volume: 0 sagittal, 1 coronal, 2 axial.", IMAGES)
    image_size: tuple[int, ...] = option(
        (136, 112), image_sides(64), "Rows and columns to which images are brought, their aspect kept.", IMAGES
    )
    window: Any = option(
        "auto",
        windows(("training", "synthetic", "holdout"), _window_names),
        "Window of images in Hounsfield units: 40,80 (center, width), brain, soft, lung, bone, coronary, none, by side "
        "training=lung,synthetic=none, or auto: where other images are pictures, the one that fits them.",
        IMAGES,
    )
    ignore: tuple[str, ...] = option(
        (),
        patterns,
        "Patterns of files that are left out on purpose, such as '*.log' or 'thumbnails/*', relative to the folder; "
        "they are recorded.",
        IMAGES,
    )
    follow_links: bool = option(
        False, yes_or_no, "Whether symbolic links that lead out of a folder are followed.", IMAGES
    )
    all_dicom: bool = option(
        False,
        yes_or_no,
        "Whether DICOM files other than acquired images are read too: localizers, secondary captures, and the like.",
        IMAGES,
    )

    @property
    def listing(self) -> dict[str, Any]:
        """How images are listed: arguments of :func:`~monai_deepssim.data.scan_images`."""
        return {
            "patient_id_pattern": self.patient_id_pattern,
            "slices": self.slices,
            "slice_axis": self.slice_axis,
            "ignore": self.ignore,
            "follow_links": self.follow_links,
            "all_files": self.all_dicom,
        }


@dataclass(frozen=True)
class SearchOptions(ImageOptions):
    """How images are searched and compared, and where the results go."""

    volumes: str = option(
        "none",
        one_of(VOLUMES_WAYS),
        "Whether an image is a whole volume: slices lets its slices vote, whole compares it in 3-D, true is the better "
        "of the two (docs/auditing.md); none takes slices out of it.",
        IMAGES,
    )
    image_size: tuple[int, ...] = option(
        (136, 112),
        image_sides(64, 32),
        "Rows and columns to which images are brought, their aspect kept; of volumes three sides, 64,64,64 unless "
        "others are given.",
        IMAGES,
    )
    detector: str = option(
        "deepssim",
        one_of(_detector_names),
        "Detector that proposes candidates (docs/detectors.md); deepssim_aligned is deepssim with verify, the default.",
        DETECTION,
    )
    detector_options: Any = option(
        None, named_values, "Arguments of the detector alone, such as hash_size=16 of phash.", DETECTION
    )
    checkpoint: Path | None = option(
        None, path("file"), "Weights of the detector; by default those that ship, for DeepSSIM.", DETECTION
    )
    allow_torchscript: bool = option(
        False,
        yes_or_no,
        "Whether a checkpoint may be TorchScript, which can run code of its own; only from a source that you trust.",
        DETECTION,
    )
    search: str | None = option(
        None,
        one_of(_search_engines, or_none=True),
        "What searches for candidates: exact, or an index of FAISS (faiss, hnsw, ivfpq), whose recall is measured; by "
        "default exact, and ivfpq where exact is estimated to take more than half an hour.",
        DETECTION,
    )
    verify: bool = option(
        True,
        yes_or_no,
        "Whether candidates are compared on the pixels, which then decides; else the detector's score does.",
        DETECTION,
    )
    deformation_cost: float | None = option(
        0.1,
        number(0, "an SSIM of 0 or more, such as 0.1, or none", or_none=True),
        "SSIM that a pixel of deformation costs in the comparison; none deforms nothing.",
        DETECTION,
    )
    top_k: int = option(
        None,
        whole(1, or_none=True),
        "Candidates of each image that are kept and compared; by default 10, of volumes 3.",
        DETECTION,
    )
    thresholds: Any = option(
        None,
        anything("two scores, or one"),
        "Scores above which an image is similar, and a duplicate; one score for a detector of two classes. By default "
        "those that belong to the score.",
        DECISION,
    )
    count_repeats: bool = option(
        False,
        yes_or_no,
        "Whether synthetic images of the same content count as often as they are there; by default they count once.",
        DECISION,
    )
    output_dir: Path = option(
        Path("memorization_audit"), path("folder"), "Folder of the results; must lie in none of the others.", OUTPUT
    )
    overwrite: bool = option(
        False, yes_or_no, "Whether results of other images in the folder are replaced; else they are refused.", OUTPUT
    )
    report_images: str = option(
        "all",
        one_of(("all", "copies", "none")),
        "Which images the report shows: all, those of copies, or none.",
        OUTPUT,
    )
    embedding_precision: str = option(
        "float32",
        one_of(("float32", "float16")),
        "Numbers of the stored embeddings: float16 halves the files and changes a cosine by less than 0.001.",
        OUTPUT,
    )
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", RUNNING)
    batch_size: int = option(64, whole(1), "Images per step of the networks.", RUNNING)
    num_workers: int = option(0, whole(0), "Processes that read images; 0 reads in this one.", RUNNING)

    def __post_init__(self) -> None:
        if self.output_dir is None:
            object.__setattr__(self, "output_dir", type(self).output_dir)
        for name in ("training_dir", "synthetic_dir", "holdout_dir"):
            source = getattr(self, name, None)
            if source is not None and source.is_dir() and self.output_dir.resolve().is_relative_to(source.resolve()):
                raise UnusableInputError(
                    f"--output_dir: {self.output_dir} lies in --{name} {source}, so that what the audit writes would "
                    "be audited too. Give an output folder outside of it."
                )
        if self.detector == "deepssim_aligned":
            if not self.verify:
                raise UnusableInputError(
                    "--detector deepssim_aligned: compares candidates on the pixels, which --verify false leaves out. "
                    "Give --detector deepssim, or leave --verify out."
                )
            object.__setattr__(self, "detector", "deepssim")
        for name, value in settle_volumes(vars(self)).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "thresholds", self._read_thresholds())
        image = f"--image_size: an image of {' x '.join(map(str, self.image_size))}"
        check_memory(BYTES_PER_PIXEL * math.prod(self.image_size), image, "Give a smaller one.")

    @property
    def listing(self) -> dict[str, Any]:
        """How images are listed: arguments of :func:`~monai_deepssim.data.scan_images`."""
        return {**super().listing, "volumes": self.volumes != "none"}

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
        from monai_deepssim.calibration import Thresholds

        if isinstance(self.thresholds, Thresholds):
            return self.thresholds
        score = "copy_score" if self.verify else self.detector
        if score in ("copy_score", "deepssim"):
            return self._read_thresholds_of_three_classes(score)
        return self._read_threshold_of_two_classes(score)

    def _read_thresholds_of_three_classes(self, score: str) -> Thresholds:
        from monai_deepssim.calibration import PUBLISHED_THRESHOLDS, VERIFIED_THRESHOLDS, Thresholds, volume_thresholds
        from monai_deepssim.similarity import DEFORMATION_COST

        default = VERIFIED_THRESHOLDS if self.volumes == "none" else volume_thresholds(self.image_size)
        default = default if self.verify else PUBLISHED_THRESHOLDS
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
        from monai_deepssim.calibration import Thresholds
        from monai_deepssim.metrics import SUPPORTED_DETECTORS

        if self.thresholds is not None:
            numbers = _numbers(self.thresholds)
            if len(numbers) != 1:
                wanted = f"one score of {score}, above which an image is a copy, such as 0.9"
                raise unusable_option("thresholds", self.thresholds, wanted)
            return Thresholds(None, numbers[0], score, "given by the user for this audit")
        kind = SUPPORTED_DETECTORS[score]
        if kind.default_threshold is not None and (self.checkpoint is None or kind.threshold_is_of_any_weights):
            return Thresholds(None, kind.default_threshold, score, kind.threshold_source)
        if score == "copy_detector" and self.has_holdout:
            return None
        weights = "" if self.checkpoint is None else " with these weights"
        remedy = "held-out images (--holdout_dir), which its rule takes one from, " if score == "copy_detector" else ""
        raise UnusableInputError(
            f"--thresholds: was not given, and {score} has no published threshold{weights}. Give {remedy}one score "
            "above which an image is a copy, or leave --verify true, which judges by aligned SSIM."
        )


def _numbers(value: Any) -> list[float]:
    """One number or a list of them as a list; nothing of anything else."""
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    is_number = [isinstance(entry, Real) and not isinstance(entry, bool) and math.isfinite(entry) for entry in values]
    return [float(entry) for entry in values] if all(is_number) else []
