"""The options of an audit: plain values of a config, checked one by one and turned into what the audit works with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from monai_deepssim.audit.option_checks import device
from monai_deepssim.audit.overrides import text_of_value
from monai_deepssim.audit.verdict import PUBLISHED_THRESHOLDS, VERIFIED_THRESHOLDS, Thresholds
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import SUPPORTED_DETECTORS
from monai_deepssim.metrics.detectors.aligned import NUM_SCREENED
from monai_deepssim.similarity import DEFORMATION_COST

__all__ = ["AuditOptions", "read_options"]


@dataclass(frozen=True)
class AuditOptions:
    """Checked options; :class:`~monai_deepssim.audit.Audit` says what each one means."""

    training_dir: Path | None
    synthetic_dir: Path | None
    holdout_dir: Path | None
    output_dir: Path
    detector: str
    checkpoint: Path | None
    verify: bool
    deformation_cost: float | None
    memorization_index: bool
    fdr: float
    device: torch.device
    image_size: tuple[int, int]
    slices: Any
    slice_axis: int
    patient_id_pattern: str | None
    top_k: int
    thresholds: Thresholds | None
    max_copy_fraction: float | None
    count_parts: bool
    batch_size: int
    num_workers: int
    overwrite: bool
    report_images: bool

    @property
    def demo(self) -> bool:
        """Whether the audit makes its own images, because no folder was given."""
        return self.training_dir is None

    @property
    def num_proposed(self) -> int:
        """How many training images the detector proposes for each image."""
        return max(self.top_k, NUM_SCREENED) if self.verify else self.top_k


def read_options(values: Mapping[str, Any], typed: Mapping[str, str]) -> AuditOptions:
    """Check the values of a config.

    Args:
        values: an option's value as it arrived, by name.
        typed: an option's text as it was typed, by name, where it was typed.

    Returns:
        The options.

    Raises:
        UnusableInputError: naming the option that cannot be used, what arrived and what is wanted.
    """

    def text(name: str) -> str | None:
        found = text_of_value(name, values[name], typed)
        if found is not None and not found.strip():
            raise UnusableInputError(f"--{name}: is empty. Give a value, or leave the option out.")
        return found

    def path(name: str) -> Path | None:
        found = text(name)
        return None if found is None else Path(found).expanduser()

    training_dir, synthetic_dir = path("training_dir"), path("synthetic_dir")
    if (training_dir is None) != (synthetic_dir is None):
        given, wanted = ("training_dir", "synthetic_dir") if training_dir else ("synthetic_dir", "training_dir")
        raise UnusableInputError(
            f"--{wanted}: was not given, but --{given} was. An audit compares two folders: give both, or neither for "
            "the demo."
        )
    holdout_dir = path("holdout_dir")
    if holdout_dir is not None and training_dir is None:
        raise UnusableInputError(
            "--holdout_dir: was given without --training_dir and --synthetic_dir. Held-out images tell what the scores "
            "of an audit mean: give all three, or none for the demo."
        )
    detector = _one_of("detector", text("detector") or "deepssim", list(SUPPORTED_DETECTORS))
    verify = _yes_or_no("verify", values["verify"])
    deformation_cost = _deformation_cost(values["deformation_cost"])
    return AuditOptions(
        training_dir=training_dir,
        synthetic_dir=synthetic_dir,
        holdout_dir=holdout_dir,
        detector=detector,
        verify=verify,
        deformation_cost=deformation_cost,
        memorization_index=_yes_or_no("memorization_index", values["memorization_index"]),
        fdr=_open_fraction("fdr", values["fdr"]),
        output_dir=path("output_dir") or Path("memorization_audit"),
        checkpoint=path("checkpoint"),
        device=device("device", text("device")),
        image_size=_image_size(values["image_size"]),
        slices=values["slices"],  # the readers say what they take, and refuse what means nothing
        slice_axis=_whole("slice_axis", values["slice_axis"], 0, 2),
        patient_id_pattern=text("patient_id_pattern"),
        top_k=_whole("top_k", values["top_k"], 1),
        thresholds=_thresholds(
            values["thresholds"], detector, verify, deformation_cost, has_holdout=holdout_dir is not None
        ),
        max_copy_fraction=_fraction("max_copy_fraction", values["max_copy_fraction"]),
        count_parts=_yes_or_no("count_parts", values["count_parts"]),
        batch_size=_whole("batch_size", values["batch_size"], 1),
        num_workers=_whole("num_workers", values["num_workers"], 0),
        overwrite=_yes_or_no("overwrite", values["overwrite"]),
        report_images=_yes_or_no("report_images", values["report_images"]),
    )


def _wrong(name: str, value: Any, wanted: str) -> UnusableInputError:
    return UnusableInputError(f"--{name}: is {value!r}, wanted {wanted}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    if not _is_whole(value) or value < low or (high is not None and value > high):
        wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
        raise _wrong(name, value, wanted)
    return int(value)


def _fraction(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise _wrong(name, value, "a share from 0 to 1, such as 0.01")
    return float(value)


def _open_fraction(name: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value < 1:
        raise _wrong(name, value, "a share between 0 and 1, such as 0.05")
    return float(value)


def _one_of(name: str, value: str, names: Sequence[str]) -> str:
    if value not in names:
        raise _wrong(name, value, f"one of {', '.join(names)}")
    return value


def _yes_or_no(name: str, value: Any) -> bool:
    # "--overwrite true" arrives as the text "true", "--overwrite True" and "--overwrite" alone as True.
    word = str(value).lower()
    if word not in ("true", "false"):
        raise _wrong(name, value, "true or false")
    return word == "true"


def _image_size(value: Any) -> tuple[int, int]:
    if not _is_list(value) or len(value) != 2 or not all(_is_whole(side) and side >= 64 for side in value):
        raise _wrong("image_size", value, "rows and columns of at least 64 pixels each, such as '[136, 112]'")
    return int(value[0]), int(value[1])


def _deformation_cost(value: Any) -> float | None:
    if value is None or str(value).lower() == "none":
        return None
    if not _is_number(value) or value < 0:
        raise _wrong("deformation_cost", value, "an SSIM of 0 or more, such as 0.1, or none")
    return float(value)


def _thresholds(
    value: Any, detector: str, verify: bool, deformation_cost: float | None, *, has_holdout: bool
) -> Thresholds | None:
    """The thresholds of the score that decides; ``None`` for those that held-out images will give."""
    score = "copy_score" if verify else detector
    if score in ("copy_score", "deepssim"):
        default = VERIFIED_THRESHOLDS if verify else PUBLISHED_THRESHOLDS
        if verify and deformation_cost != DEFORMATION_COST:
            source = f"{default.source}; at a deformation cost of {DEFORMATION_COST}, not this one"
            default = replace(default, source=source)
        if value is None:
            return default
        numbers = _is_list(value) and len(value) == 2 and all(_is_number(number) for number in value)
        if not numbers or not -1 <= value[0] <= value[1] <= 1:
            raise _wrong(
                "thresholds", value, "two scores from -1 to 1, the one of similar first, such as '[0.6, 0.85]'"
            )
        if (value[0], value[1]) == (default.similar, default.duplicate):
            return default
        return Thresholds(float(value[0]), float(value[1]), score, "given by the user for this audit")
    # The other detectors know two classes, and each has a scale of its own.
    if value is not None:
        number = value[0] if _is_list(value) and len(value) == 1 else value
        if not _is_number(number):
            raise _wrong("thresholds", value, f"one score of {detector}, above which an image is a copy, such as 0.9")
        return Thresholds(None, float(number), score, "given by the user for this audit")
    kind = SUPPORTED_DETECTORS[detector]
    if kind.default_threshold is not None:
        return Thresholds(None, kind.default_threshold, score, kind.threshold_source)
    if detector == "copy_detector" and has_holdout:
        return None
    remedy = "held-out images (--holdout_dir), which its rule takes one from, " if detector == "copy_detector" else ""
    raise UnusableInputError(
        f"--thresholds: was not given, and {detector} has no published threshold. Give {remedy}one score above which "
        "an image is a copy, or leave --verify true, which judges by aligned SSIM."
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
