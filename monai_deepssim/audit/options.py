"""The options of an audit, of a filter and of a deduplication."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_deepssim.audit.search_options import DECISION, DETECTION, IMAGE_SOURCE, IMAGES, OUTPUT, SearchOptions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import anything, one_of, path, share, unusable_option, whole, yes_or_no
from monai_deepssim.options import option

__all__ = ["LEAVE_OUT_CLASSES", "AuditOptions", "DeduplicationOptions", "FilterOptions"]

#: Classes of synthetic images that a filter may leave out; the first always is.
LEAVE_OUT_CLASSES = ("duplicate", "part", "similar", "twin", "discovery", "unexplained")


@dataclass(frozen=True)
class AuditOptions(SearchOptions):
    """The options of an audit."""

    synthetic_dir: Path | None = option(
        None, IMAGE_SOURCE, "Images that the generator made, given in the same way.", IMAGES
    )
    holdout_dir: Path | None = option(
        None,
        IMAGE_SOURCE,
        "Real images of other patients, which the generator never saw: they tell how high an image scores that is not "
        "a copy. Without them the training images are compared with each other.",
        IMAGES,
    )
    memorization_index: bool = option(False, yes_or_no, "Whether MI and ONI are computed beside the score.", DETECTION)
    fdr: float = option(
        0.05,
        share(0.05),
        "False-discovery rate at which images are called closer to the training images than chance explains.",
        DECISION,
    )
    group_rule: str = option(
        "mean",
        one_of(("mean", "max")),
        "How the scores of one patient's images vote in a p-value: mean where a synthetic image is like one image of a "
        "patient taken at random, max where it is like the one that scores highest.",
        DECISION,
    )
    max_copy_fraction: float | None = option(
        None,
        share(0.01, ends=True, or_none=True),
        "Share of suspicious images that is accepted; above it the exit status is 3. By default there is no gate.",
        DECISION,
    )
    max_patient_fraction: float | None = option(
        None,
        share(0.01, ends=True, or_none=True),
        "Share of the training patients with a memorized image that is accepted, likewise.",
        DECISION,
    )
    gate_on: str = option(
        "generator",
        one_of(("generator", "files")),
        "What the gate is about: the generator that made the set, whose share of copies is judged by its upper 95 % "
        "limit, or exactly these files, of which the count is judged.",
        DECISION,
    )
    controls: int | None = option(
        20,
        whole(1, or_none=True),
        "Copies of training images that are planted for each change and level, to see how many would be found; none "
        "plants none, and the gate cannot pass.",
        DECISION,
    )
    autoencoder: Path | None = option(
        None,
        path("file"),
        "Checkpoint of the generator's own autoencoder: controls pass through it, too, and the gate goes by these.",
        DECISION,
    )
    min_recall: float = option(
        0.9,
        share(0.9, ends=True),
        "Share of the controls that has to be found after the reference change, and not missed beyond chance after "
        "any other mild one; else the gate is undecided. 0 asks for none, and is no clean result.",
        DECISION,
    )
    count_parts: bool = option(
        True, yes_or_no, "Whether copies of a part of a training image count as copies for the gate.", DECISION
    )
    shareable_report: bool = option(
        False, yes_or_no, "Whether a second report is written, without names, identifiers and pixels.", OUTPUT
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
    OUTPUT,
)


@dataclass(frozen=True)
class FilterOptions(AuditOptions):
    """The options of a filter: those of an audit, and what is left out."""

    leave_out: Any = option(
        ("duplicate", "part"),
        anything("classes"),
        f"Classes that are left out: {LEAVE_OUT_CLASSES[0]}, and any of {', '.join(LEAVE_OUT_CLASSES[1:])}.",
        OUTPUT,
    )
    gate_on: str = option(
        "files",
        one_of(("generator", "files")),
        "What the gate is about: exactly the files that are kept, of which the count is judged, or the generator, for "
        "which a set that was chosen does not stand.",
        DECISION,
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
        Path("deduplication"), path("folder"), "Folder of the results; must lie in none of the others.", OUTPUT
    )
    files: str = _FILES

    def __post_init__(self) -> None:
        if self.detector == "copy_detector" and self.thresholds is None and not self.verify:
            raise UnusableInputError(
                "--thresholds: was not given, and copy_detector takes its threshold from held-out images, which a "
                "deduplication has not. Give one score above which an image is a duplicate, or leave --verify true."
            )
        super().__post_init__()
