"""Why a release gate is not passed, in codes for programs and in sentences that say what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from monai_deepssim.calibration.gate_evidence import GateEvidence, GateRules
from monai_deepssim.calibration.gate_shares import JudgedShare
from monai_deepssim.calibration.gate_words import counted, parts_beside, percent

__all__ = ["LEAST_SEARCH_RECALL", "GateReason", "gate_reasons", "why_passed"]

_FILTER = "'monai-deepssim filter --leave_out duplicate,part,twin,discovery,unexplained'"


#: Share of what the exact search finds that a search has to find for a gate to be passed.
LEAST_SEARCH_RECALL = 0.95


@dataclass(frozen=True)
class GateReason:
    """Why a gate is not passed.

    Attributes:
        code: name of the reason, which stays the same from version to version.
        result: ``exceeded`` or ``undecided``.
        text: what is wrong and what to do, in a sentence or two.
    """

    code: str
    result: str
    text: str


def gate_reasons(
    rules: GateRules, evidence: GateEvidence, images: JudgedShare, patients: JudgedShare | None
) -> list[GateReason]:
    """Gather every reason for which a gate is not passed.

    Args:
        rules: what is accepted; without any limit, what would leave every limit undecided is gathered.
        evidence: what was measured.
        images: share of suspicious images.
        patients: share of memorized patients; ``None`` where no patient is known.

    Returns:
        What exceeds a limit, then what is undecided: what could not be read, what could not be judged, what could not
        be seen, and what there was too little of.

    Example:
        >>> import numpy as np
        >>> from monai_deepssim.calibration.gate_shares import measure_images
        >>> none = np.zeros(100, dtype=bool)
        >>> evidence, rules = GateEvidence(none, none, none, none, skipped_training=2), GateRules(gate_on="files")
        >>> [reason.code for reason in gate_reasons(rules, evidence, measure_images(rules, evidence, none), None)]
        ['skipped_training', 'no_null', 'recall_unknown']
    """
    exceeded = [*_copies_exceeded(rules, evidence, images), *_patients_exceeded(evidence, patients)]
    undecided = [
        *_not_read(rules, evidence, images, patients),
        *_not_judged(rules, evidence),
        *_not_seen(rules, evidence),
        *_too_few(rules, evidence, images, patients),
    ]
    return [GateReason(code, "exceeded", text) for code, text in exceeded] + [
        GateReason(code, "undecided", text) for code, text in undecided
    ]


def why_passed(rules: GateRules, evidence: GateEvidence, images: JudgedShare, patients: JudgedShare | None) -> str:
    """Say in a sentence or two why a gate is passed.

    Args:
        rules: what is accepted.
        evidence: what was measured.
        images: share of suspicious images.
        patients: share of memorized patients.
    """
    sentences = []
    if rules.max_copy_fraction is not None:
        suspicious = f"suspicious{parts_beside(rules, evidence)}"
        sentences.append(_sentence_of_share(images, "synthetic images", suspicious, evidence))
    if patients is not None and rules.max_patient_fraction is not None:
        sentences.append(_sentence_of_share(patients, "training patients", "memorized", evidence))
    return " ".join(sentences)


def _sentence_of_share(share: JudgedShare, noun: str, adjective: str, evidence: GateEvidence) -> str:
    seen = f"{share.count:,} of {share.total:,} {noun} {'is' if share.count == 1 else 'are'} {adjective}"
    if share.limit_over_recall is None:
        return f"{seen}, and {percent(share.max_fraction or 0.0)} is accepted."
    return f"{seen}; {_limit_above(share, evidence)}."


def _copies_exceeded(rules: GateRules, evidence: GateEvidence, images: JudgedShare) -> Iterator[tuple[str, str]]:
    if not images.is_exceeded:
        return
    verb = f"image{'' if images.total == 1 else 's'} {'is' if images.count == 1 else 'are'}"
    remedy = f"Leave them out with {_FILTER}."
    if rules.gate_on == "generator":
        remedy = (
            f"Train a generator that memorizes less, or leave them out with {_FILTER}, which judges the files that are "
            "kept."
        )
    yield (
        "copies_exceeded",
        f"{images.count:,} of {images.total:,} synthetic {verb} suspicious ({_share_above(images)})"
        f"{parts_beside(rules, evidence)}. {remedy}",
    )


def _patients_exceeded(evidence: GateEvidence, patients: JudgedShare | None) -> Iterator[tuple[str, str]]:
    if patients is None or not patients.is_exceeded:
        return
    verb = f"patient{'' if patients.total == 1 else 's'} {'is' if patients.count == 1 else 'are'}"
    at_most = "at most " if evidence.patients and evidence.patients.unknown else ""
    yield (
        "patients_exceeded",
        f"{patients.count:,} of {at_most}{patients.total:,} training {verb} memorized ({_share_above(patients)}). "
        f"Leave out what resembles their images with {_FILTER}.",
    )


def _not_read(
    rules: GateRules, evidence: GateEvidence, images: JudgedShare, patients: JudgedShare | None
) -> Iterator[tuple[str, str]]:
    if evidence.skipped_training:
        noun = counted(evidence.skipped_training, "training image")
        yield "skipped_training", f"{noun} could not be read, and a copy of one cannot be found. Repair these files."
    shares = [images] if patients is None else [images, patients]
    if evidence.skipped_synthetic and (not rules.is_asked or any(share.is_exceeded_at_worst for share in shares)):
        noun = counted(evidence.skipped_synthetic, "synthetic image")
        yield (
            "skipped_synthetic",
            f"{noun} could not be read and may be copies. Repair these files, or take them out of the release.",
        )
    if evidence.skipped_holdout:
        noun = counted(evidence.skipped_holdout, "held-out image")
        yield (
            "skipped_holdout",
            f"{noun} could not be read, and those that were may score lower than all would. Repair these files, or "
            "take them out.",
        )
    if evidence.ignored_files:
        noun = counted(evidence.ignored_files, "file")
        yield (
            "ignored_files",
            f"{noun} in the folders could hold images and were not compared: the audit lists them. Convert them, take "
            "them out of the folders, or leave them out with --ignore.",
        )


def _not_judged(rules: GateRules, evidence: GateEvidence) -> Iterator[tuple[str, str]]:
    if evidence.sides_differ:
        yield (
            "sides_differ",
            f"The sides do not fit, which can hide copies: {evidence.sides_differ.rstrip('.')}. Make both alike.",
        )
    if evidence.is_judged_by_its_chooser:
        remedy = "Leave --verify true: the detector, which then only proposes, judges the set, too."
        if evidence.is_verified:
            remedy = "Give held-out images with --holdout_dir, by which a second detector can judge it."
        yield (
            "judged_by_its_chooser",
            f"Only {evidence.chosen_by}, which chose this set, has judged it, and it cannot see what it missed. "
            f"{remedy}",
        )
    if evidence.chosen_by and rules.is_asked and rules.gate_on == "generator":
        yield (
            "chosen_set",
            "This set was chosen by its scores, so it does not stand for its generator. Give --gate_on files.",
        )


def _not_seen(rules: GateRules, evidence: GateEvidence) -> Iterator[tuple[str, str]]:
    if evidence.null_can_call is None:
        yield (
            "no_null",
            "There are no images to tell how high an image scores that is not a copy. Give held-out images with "
            "--holdout_dir, or name the patients with --patient_id_pattern.",
        )
    elif not evidence.null_can_call:
        yield (
            "null_cannot_call",
            evidence.null_remedy
            or "There are too few patients to compare with to tell a copy from chance. Give held-out images of more "
            "patients with --holdout_dir.",
        )
    if evidence.recall is None:
        yield (
            "recall_unknown",
            "Fewer than 5 controls were planted per change, or none, so it is unknown how many copies would be found. "
            "Give --controls 20, and at least 5 training images.",
        )
    if evidence.search_recall < LEAST_SEARCH_RECALL:
        yield (
            "search_incomplete",
            f"--search {evidence.search_engine} found {percent(evidence.search_recall, LEAST_SEARCH_RECALL)} of the "
            f"training images that the exact search finds, and {percent(LEAST_SEARCH_RECALL)} is required. Give "
            "--search exact.",
        )
    missed = [*_missed_reference(rules, evidence), *evidence.missed]
    if missed:
        remedy = "Give a larger --image_size or lower --thresholds" if evidence.is_verified else "Leave --verify true"
        yield (
            "controls_missed",
            f"Too few planted copies were found, and {percent(rules.min_recall)} is required: {'; '.join(missed)}. "
            f"{remedy}.",
        )


def _missed_reference(rules: GateRules, evidence: GateEvidence) -> Iterator[str]:
    if evidence.recall is not None and evidence.recall < rules.min_recall:
        yield f"{percent(evidence.recall, rules.min_recall)} of those {evidence.reference}"


def _too_few(
    rules: GateRules, evidence: GateEvidence, images: JudgedShare, patients: JudgedShare | None
) -> Iterator[tuple[str, str]]:
    if rules.max_patient_fraction is not None and (
        patients is None or (evidence.patients and evidence.patients.unknown)
    ):
        unknown = "the" if patients is None or evidence.patients is None else f"{evidence.patients.unknown:,}"
        yield (
            "patients_unknown",
            f"The patients of {unknown} training images are unknown. Name them with --patient_id_pattern or in a "
            "CSV, or leave out --max_patient_fraction.",
        )
    if images.is_uncertain:
        yield (
            "too_few_images",
            f"{images.total:,} synthetic images are too few: {_limit_above(images, evidence)}. "
            f"{_images_that_would_do(images, evidence)}",
        )
    if patients is not None and patients.is_uncertain:
        yield (
            "too_few_patients",
            f"{patients.total:,} training patients are too few: {_limit_above(patients, evidence)}. "
            f"{_more_patients(patients)}--gate_on files would do.",
        )


def _more_patients(patients: JudgedShare) -> str:
    limit = patients.limit_over_recall or 0.0
    return f"--max_patient_fraction {math.ceil(1e4 * limit) / 1e4:g} or " if limit < 1 else ""


def _images_that_would_do(images: JudgedShare, evidence: GateEvidence) -> str:
    if evidence.recall == 0:
        return "No number of images would do as long as no control is found."
    if images.needed is None or images.needed_without is None:
        return "No number of images would do: give a limit above 0, or --gate_on files."
    if not images.count:
        return f"{images.needed:,} without a suspicious one would do."
    return f"{images.needed:,} with {images.count} suspicious would do, or {images.needed_without:,} with none."


def _limit_above(share: JudgedShare, evidence: GateEvidence) -> str:
    divided = "" if evidence.recall is None else f", divided by the recall of {percent(evidence.recall)},"
    limit, accepted = share.limit_over_recall or 0.0, share.max_fraction or 0.0
    numbers = f"{percent(limit, accepted)}, and {percent(accepted)} is accepted"
    return f"the upper 95 % limit of the share{divided} is {numbers}"


def _share_above(share: JudgedShare) -> str:
    accepted = share.max_fraction or 0.0
    return f"{percent(share.value, accepted)}; {percent(accepted)} is accepted"
