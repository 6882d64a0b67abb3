"""Verified pairs of images in a folder, so that an audit that was stopped does not align any of them again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pandas import DataFrame

from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.audit.tables import MATCHES_COLUMNS
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, unwritable
from monai_deepssim.report import package_versions
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION, DEFORMATION_COST, Alignment

__all__ = ["VERIFIED_FOLDER", "VerificationStore", "verification_store"]

#: Where verified pairs are, inside of the output folder: one folder per side.
VERIFIED_FOLDER = "verified"

_FINGERPRINT_FILE = "fingerprint.json"
_STORE_VERSION = 6


class VerificationStore:
    """A folder of verified pairs, in files that are written whole or not at all.

    What a pair scores depends on its two images, the size they were brought to and the search, and on nothing else: not
    on the detector, the length of the shortlist or the thresholds, with any of which an audit may be continued. A
    fingerprint over the content of both sides' files, the image size, the price of a deformation, the versions of
    this package and of the score, and the columns of ``matches.csv`` says which pairs they are. Pairs of another one
    are of no use, and removed.

    Args:
        directory: the folder; made when there is something to write. It holds ``fingerprint.json``, and pairs in
            ``pairs-00000.json`` and so on.
        query_images: fingerprint of the images that are looked up.
        training_images: fingerprint of the training images.
        image_size: rows and columns that images are brought to.
        deformation_cost: SSIM that a pixel of deformation costs.

    Example:
        >>> import tempfile
        >>> store = VerificationStore(tempfile.mkdtemp(), "one digest", "another digest", (136, 112))
        >>> change = Alignment((1,), (6.5,), (0.0, 2.0), 1.0, 1.2)
        >>> store.write(DataFrame({"query": [4], "training": [7], "score": [0.75], "alignment": [change]}))
        >>> pairs = store.load()
        >>> pairs["score"][0], pairs["alignment"][0] == change
        (np.float64(0.75), True)
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
            "columns": MATCHES_COLUMNS,
        }

    def load(self) -> DataFrame:
        """Read the pairs of these images.

        Returns:
            A table as :func:`~monai_deepssim.metrics.verify_candidates` makes them; empty where the folder holds pairs
            of other images.

        Raises:
            UnusableInputError: if a file was damaged after it was written.
        """
        if not self._is_ours():
            return DataFrame()
        pairs: list[dict[str, Any]] = []
        for path in self._files():
            try:
                part = json.loads(path.read_text(encoding="utf-8"))
                pairs += [{**pair, "alignment": _read_alignment(pair["alignment"])} for pair in part]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise UnusableInputError(
                    f"{path}: this part of the verified pairs is damaged ({error}). Remove {self.directory} and run "
                    "again."
                ) from error
        return DataFrame(pairs)

    def write(self, pairs: DataFrame) -> None:
        """Add pairs, all of them or none.

        Args:
            pairs: as :func:`~monai_deepssim.metrics.verify_candidates` makes them.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        try:
            if not self._is_ours():
                self._empty()
            with atomic_file(self.directory / f"pairs-{len(self._files()):05d}.json") as file:
                file.write(json.dumps(pairs.to_dict("records"), default=asdict).encode())
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
        return sorted(self.directory.glob("pairs-*.json"))


def verification_store(side: EmbeddedSide, training: EmbeddedSide, options: SearchOptions) -> VerificationStore:
    """Where an audit keeps the pairs of a side with the training images."""
    return VerificationStore(
        options.output_dir / VERIFIED_FOLDER / side.side.name,
        _identify(side),
        _identify(training),
        options.image_size,
        options.deformation_cost,
    )


def _identify(side: EmbeddedSide) -> str:
    """What the rows of pairs refer to: the content of the files, and which of them are usable."""
    usable = hashlib.sha256(side.images.indices.tobytes()).hexdigest()
    return f"{side.fingerprint['images']} {usable}"


def _read_alignment(fields: dict[str, Any]) -> Alignment:
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
    return Alignment(**values)
