"""What a release gate decides by: the limits that were asked for, and what an audit measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_deepssim.calibration.vectors import Groups, Vector, as_flags

__all__ = ["GateEvidence", "GateRules", "MemorizedPatients", "SecondOpinion"]

_GATE_ON = ("generator", "files")


@dataclass(frozen=True)
class GateRules:
    """What is accepted, and of what.

    Attributes:
        max_copy_fraction: share of suspicious images that is accepted, 0 to 1; ``None`` for no limit.
        max_patient_fraction: share of the training patients with a memorized image that is accepted, likewise.
        gate_on: ``"generator"``, whose share is judged by its upper 95 % limit, or ``"files"``, exactly these, whose
            count is judged.
        min_recall: share of the controls that has to be found, 0 to 1; 0 asks for none.
        count_parts: whether copies of a part of a training image are suspicious.
    """

    max_copy_fraction: float | None = None
    max_patient_fraction: float | None = None
    gate_on: str = "generator"
    min_recall: float = 0.9
    count_parts: bool = True

    def __post_init__(self) -> None:
        if self.gate_on not in _GATE_ON:
            raise ValueError(f"got gate_on={self.gate_on!r}, want one of {', '.join(_GATE_ON)}")
        for name in ("max_copy_fraction", "max_patient_fraction", "min_recall"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"got {name}={value}, want a share from 0 to 1")

    @property
    def is_asked(self) -> bool:
        """Whether there is any limit."""
        return self.max_copy_fraction is not None or self.max_patient_fraction is not None


@dataclass(frozen=True)
class SecondOpinion:
    """The verdict of a detector that did not choose the set.

    Attributes:
        name: name of the detector.
        is_suspicious: ``(N,)``, whether it calls each synthetic image a copy.
    """

    name: str
    is_suspicious: Vector


@dataclass(frozen=True)
class MemorizedPatients:
    """How many patients of the training set are memorized.

    Attributes:
        memorized: known patients with a training image that has a copy.
        total: known patients.
        unknown: training images whose patient is unknown.
    """

    memorized: int
    total: int
    unknown: int = 0


@dataclass(frozen=True)
class GateEvidence:
    """What was measured, on N synthetic images; at least 1.

    Attributes:
        is_copy: ``(N,)``, copies of a whole training image.
        is_part: ``(N,)``, copies of a part of one.
        is_discovery: ``(N,)``, images closer to a training image than chance explains.
        is_unexplained: ``(N,)``, images that score above all that are not copies, and apart from the rest.
        is_twin: ``(N,)``, images that are copies of a synthetic copy, and not called copies themselves; ``None`` for
            none.
        files: ``(N,)``, the file of each image: slices of one volume are no independent images; ``None`` where each
            image has a file of its own.
        skipped_synthetic: synthetic images that could not be used.
        skipped_training: training images that could not be used.
        skipped_holdout: held-out images that could not be used.
        ignored_files: files in the folders that were not taken for images.
        sides_differ: differences of the sides that could hide copies, in a sentence; empty where there is none.
        null_can_call: whether the scores of images that are not copies could have called a discovery at all; ``None``
            where there are no such scores.
        null_remedy: what they could not have called and what would do, in a few sentences.
        recall: share of the controls of the reference change that was found, 0 to 1; ``None`` without controls.
        reference: the reference change in words that follow "copies", such as ``blurred by 2 px``.
        missed: other changes after which fewer controls were found than is asked for, beyond chance, each in words such
            as ``1 of 20 shifted by 10 % of the side``.
        is_verified: whether candidates were compared on the pixels.
        search_engine: what searched for candidates.
        search_recall: share of what the exact search finds that it found, 0 to 1.
        patients: patients that are memorized; ``None`` where no patient is known.
        chosen_by: name of the detector by whose scores the set was chosen, as a filter does; empty where it is the
            whole set.
        second_opinion: verdict of another detector on a chosen set.
    """

    is_copy: Vector
    is_part: Vector
    is_discovery: Vector
    is_unexplained: Vector
    is_twin: Vector | None = None
    files: Groups | None = None
    skipped_synthetic: int = 0
    skipped_training: int = 0
    skipped_holdout: int = 0
    ignored_files: int = 0
    sides_differ: str = ""
    null_can_call: bool | None = None
    null_remedy: str = ""
    recall: float | None = None
    reference: str = "of the reference change"
    missed: tuple[str, ...] = ()
    is_verified: bool = True
    search_engine: str = "exact"
    search_recall: float = 1.0
    patients: MemorizedPatients | None = None
    chosen_by: str = ""
    second_opinion: SecondOpinion | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(flags) for name, flags in self._classes().items()}
        if len(set(lengths.values())) > 1 or not lengths["copies"]:
            raise ValueError(f"got flags of {lengths} images, want equally many, at least one")
        for name, share in (("recall", self.recall), ("search_recall", self.search_recall)):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"got {name}={share}, want a share from 0 to 1")

    @property
    def is_judged_by_its_chooser(self) -> bool:
        """Whether nothing but the detector that chose the set has judged it."""
        return bool(self.chosen_by) and (self.second_opinion is None or self.second_opinion.name == self.chosen_by)

    def suspicious(self, count_parts: bool) -> tuple[np.ndarray, dict[str, int]]:
        """Gather the suspicious images; each counts in the first class that it is of.

        Args:
            count_parts: whether copies of a part are suspicious; otherwise they count in no other class either.

        Returns:
            ``(N,)`` bool, and the counts by class: ``copies``, ``parts``, ``twins``, ``discoveries``, ``unexplained``,
            and where there is a second opinion ``second_opinion``.

        Example:
            >>> evidence = GateEvidence([1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1])
            >>> evidence.suspicious(count_parts=True)[1]
            {'copies': 1, 'parts': 1, 'twins': 0, 'discoveries': 1, 'unexplained': 1}
            >>> evidence.suspicious(count_parts=False)[0].tolist()
            [True, False, True, True]
        """
        classes = self._classes()
        is_counted = np.zeros(len(classes["copies"]), dtype=bool)
        is_left_out = classes["parts"] & ~classes["copies"] & (not count_parts)
        counts = {}
        for name, flags in classes.items():
            is_new = flags & ~is_counted & ~is_left_out
            counts[name] = int(is_new.sum())
            is_counted |= is_new
        return is_counted, counts

    def parts_left_out(self, count_parts: bool) -> int:
        """Count copies of a part of a training image that are not to count, and are no copies of a whole one."""
        classes = self._classes()
        return 0 if count_parts else int((classes["parts"] & ~classes["copies"]).sum())

    def _classes(self) -> dict[str, np.ndarray]:
        is_twin = np.zeros(len(self.is_copy), bool) if self.is_twin is None else self.is_twin
        classes = {
            "copies": as_flags(self.is_copy, "is_copy"),
            "parts": as_flags(self.is_part, "is_part"),
            "twins": as_flags(is_twin, "is_twin"),
            "discoveries": as_flags(self.is_discovery, "is_discovery"),
            "unexplained": as_flags(self.is_unexplained, "is_unexplained"),
        }
        if self.second_opinion is not None:
            classes["second_opinion"] = as_flags(self.second_opinion.is_suspicious, "second_opinion")
        return classes
