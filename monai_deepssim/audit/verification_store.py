"""Verified pairs of images in a folder, so that an audit that was stopped does not align any of them again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_deepssim.audit.options import SearchOptions
from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.summary import package_versions
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, unwritable
from monai_deepssim.similarity import (
    ALIGNED_SSIM_VERSION,
    COPY_SCORE_VERSION,
    DEFORMATION_COST,
    Alignment,
    CopyScore,
)

__all__ = ["VERIFIED_FOLDER", "VerificationStore", "VerifiedPairs", "verification_store"]

#: Where verified pairs are, inside of the output folder: a folder a side.
VERIFIED_FOLDER = "verified"

_FINGERPRINT_FILE = "fingerprint.json"
_STORE_VERSION = 5
# As many as the files of an audit have.
_SCORE_DIGITS = 6
_PAIR = np.dtype(
    [
        ("query", "<i8"),
        ("training", "<i8"),
        ("score", "<f8"),
        ("ssim", "<f8"),
        ("coarse_correlation", "<f8"),
        ("inliers", "<i4"),
        ("copied_area", "<f8"),
        ("flips", "u1"),
        ("rotation_degrees", "<f8"),
        ("shift_pixels", "<f8", (2,)),
        ("zoom", "<f8"),
        ("gamma", "<f8"),
        ("deformation_pixels", "<f8"),
        ("stretch", "<f8"),
        ("stretch_degrees", "<f8"),
        ("inverted", "?"),
    ]
)


class VerifiedPairs:
    """The copy score of pairs of images, what it is made of, and the change that reaches its SSIM.

    Args:
        records: one a pair, as :meth:`pack` makes them; none by default.

    Example:
        >>> change = Alignment((1,), (6.5,), (0.0, 2.0), 1.0, 1.2)
        >>> import torch
        >>> numbers = torch.tensor([0.75])
        >>> scores = CopyScore(numbers, numbers, numbers, torch.tensor([0]), [change])
        >>> verified = VerifiedPairs(VerifiedPairs.pack(np.array([[4, 7]]), scores, np.array([1.0])))
        >>> rows = verified.rows_of(np.array([[4, 7], [7, 4]]))
        >>> rows, verified.score[rows[0]], verified.alignment(rows[0]) == change
        (array([ 0, -1]), np.float64(0.75), True)
    """

    def __init__(self, records: np.ndarray | None = None) -> None:
        records = np.empty(0, _PAIR) if records is None else records
        keys = _keys(records["query"], records["training"])
        order = np.argsort(keys, kind="stable")
        self.records, self._sorted_keys = records[order], keys[order]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.records)

    @property
    def score(self) -> np.ndarray:
        """float64 ``(P,)``, the copy score of each pair."""
        return self.records["score"]

    @staticmethod
    def pack(pairs: np.ndarray, scores: CopyScore, areas: np.ndarray) -> np.ndarray:
        """Write pairs as records.

        Args:
            pairs: int64 ``(P, 2)``, positions in the list of the images that are looked up and in that of the training
                images.
            scores: of these pairs of two-dimensional images.
            areas: ``(P,)``, the share of each image that was copied; NaN where it was not measured.

        Returns:
            ``(P,)``.
        """
        records = np.empty(len(pairs), _PAIR)
        records["query"], records["training"] = pairs[:, 0], pairs[:, 1]
        for name in ("score", "ssim", "coarse_correlation"):
            records[name] = getattr(scores, name).double().cpu().numpy().round(_SCORE_DIGITS)
        records["inliers"], records["copied_area"] = scores.inliers.cpu().numpy(), areas
        for record, change in zip(records, scores.alignments, strict=True):
            record["flips"] = sum(1 << axis for axis in change.flips)
            (record["rotation_degrees"],) = change.rotation_degrees
            record["shift_pixels"] = change.shift_pixels
            record["zoom"], record["gamma"] = change.zoom, change.gamma
            record["deformation_pixels"] = change.deformation_pixels
            record["stretch"], record["stretch_degrees"] = change.stretch, change.stretch_degrees
            record["inverted"] = change.inverted
        return records

    def rows_of(self, pairs: np.ndarray) -> np.ndarray:
        """Find pairs.

        Args:
            pairs: int64 ``(n, 2)``.

        Returns:
            int64 ``(n,)``, the row of each; -1 where a pair is not there.
        """
        keys = _keys(pairs[:, 0], pairs[:, 1])
        if not len(self):
            return np.full(len(keys), -1)
        rows = np.minimum(np.searchsorted(self._sorted_keys, keys), len(self) - 1)
        return np.where(self._sorted_keys[rows] == keys, rows, -1)

    def alignment(self, row: int) -> Alignment:
        """The change of the training image of a row."""
        record = self.records[row]
        return Alignment(
            flips=tuple(axis for axis in range(2) if record["flips"] >> axis & 1),
            rotation_degrees=(float(record["rotation_degrees"]),),
            shift_pixels=tuple(record["shift_pixels"].tolist()),
            zoom=float(record["zoom"]),
            gamma=float(record["gamma"]),
            deformation_pixels=float(record["deformation_pixels"]),
            stretch=float(record["stretch"]),
            stretch_degrees=float(record["stretch_degrees"]),
            inverted=bool(record["inverted"]),
        )


class VerificationStore:
    """A folder of verified pairs, in files that are written whole or not at all.

    What a pair scores depends on its two images, the size they were brought to and the search, and on nothing else: not
    on the detector, the length of the shortlist or the thresholds, with any of which an audit may be continued. A
    fingerprint over the content of both sides' files, the image size, the price of a deformation and the versions of
    this package and of the score says which pairs they are. Pairs of another one are of no use, and removed.

    Args:
        directory: the folder; made when there is something to write. It holds ``fingerprint.json``, and pairs in
            ``pairs-00000.npy`` and so on.
        query_images: fingerprint of the images that are looked up.
        training_images: fingerprint of the training images.
        image_size: rows and columns that images are brought to.
        deformation_cost: SSIM that a pixel of deformation costs.

    Example:
        >>> import tempfile
        >>> store = VerificationStore(tempfile.mkdtemp(), "one digest", "another digest", (136, 112))
        >>> import torch
        >>> numbers, change = torch.tensor([0.75]), Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0)
        >>> scores = CopyScore(numbers, numbers, numbers, torch.tensor([0]), [change])
        >>> store.write(VerifiedPairs.pack(np.array([[4, 7]]), scores, np.array([1.0])))
        >>> store.load().score
        array([0.75])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        query_images: str,
        training_images: str,
        image_size: Sequence[int],
        deformation_cost: float | None = DEFORMATION_COST,
    ) -> None:
        self.directory = Path(directory)
        self.fingerprint: dict[str, Any] = {
            "store_version": _STORE_VERSION,
            "aligned_ssim_version": ALIGNED_SSIM_VERSION,
            "copy_score_version": COPY_SCORE_VERSION,
            "monai-deepssim": package_versions()["monai-deepssim"],
            "query_images": query_images,
            "training_images": training_images,
            "image_size": [int(side) for side in image_size],
            "deformation_cost": deformation_cost,
        }

    def load(self) -> VerifiedPairs:
        """Read the pairs of these images.

        Returns:
            None where the folder holds those of other images.

        Raises:
            UnusableInputError: if a file was damaged after it was written.
        """
        if not self._is_ours():
            return VerifiedPairs()
        parts = [np.empty(0, _PAIR)]
        for path in self._files():
            try:
                part = np.load(path, allow_pickle=False)
                if part.dtype != _PAIR:
                    raise ValueError(f"records of {part.dtype}")
            except (OSError, ValueError, EOFError) as error:
                raise UnusableInputError(
                    f"{path}: this part of the verified pairs is damaged ({error}). Remove {self.directory} and run "
                    "again."
                ) from error
            parts.append(part)
        return VerifiedPairs(np.concatenate(parts))

    def write(self, records: np.ndarray) -> None:
        """Add pairs, all of them or none.

        Args:
            records: as :meth:`VerifiedPairs.pack` makes them.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        try:
            if not self._is_ours():
                self._empty()
            with atomic_file(self.directory / f"pairs-{len(self._files()):05d}.npy") as file:
                np.save(file, records)
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def _is_ours(self) -> bool:
        try:
            stored = json.loads((self.directory / _FINGERPRINT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(stored == self.fingerprint)

    def _empty(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # The fingerprint goes first and comes last: pairs without one are never taken for anybody's.
        (self.directory / _FINGERPRINT_FILE).unlink(missing_ok=True)
        for path in self.directory.glob("pairs-*"):
            path.unlink()
        with atomic_file(self.directory / _FINGERPRINT_FILE) as file:
            file.write(json.dumps(self.fingerprint, indent=2).encode())

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("pairs-*.npy"))


def verification_store(side: EmbeddedSide, training: EmbeddedSide, options: SearchOptions) -> VerificationStore:
    """Where an audit keeps the pairs of a side with the training images."""
    return VerificationStore(
        options.output_dir / VERIFIED_FOLDER / side.side.name,
        side.fingerprint["images"],
        training.fingerprint["images"],
        options.image_size,
        options.deformation_cost,
    )


def _keys(queries: np.ndarray, training: np.ndarray) -> np.ndarray:
    """One number for a pair of positions, neither of which reaches 2 to the power of 32."""
    return (queries.astype(np.int64) << 32) + training
