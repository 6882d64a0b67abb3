"""Verified pairs of images in a folder, so that an audit that was stopped does not align any of them again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pandas import DataFrame, concat

from monai_deepssim.audit.result import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.files import make_folder, remove_files
from monai_deepssim.progress import progress_bar
from monai_deepssim.ranks import current_ranks
from monai_deepssim.report import MATCHES_COLUMNS, package_versions
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION, DEFORMATION_COST, Alignment
from monai_deepssim.stores import IN_MEMORY, read_sealed, write_sealed

__all__ = ["VERIFIED_FOLDER", "VerificationStore", "share_pairs", "verification_store"]

#: Where verified pairs are, inside of the output folder: one folder per side.
VERIFIED_FOLDER = "verified"

_PAIRS = "pairs-"
_STORE_VERSION = 7
# Images that a rank verifies before it takes others, at most; and in how many parts it does its share, at least.
_MOST_IMAGES, _PARTS_OF_RANK = 64, 8


class VerificationStore:
    """A folder of verified pairs, in files that are written whole or not at all.

    What a pair scores depends on its two images, the size they were brought to and the search, and on nothing else: not
    on the detector, the length of the shortlist or the thresholds, with any of which an audit may be continued. A
    fingerprint over the content of both sides' files, the image size, the price of a deformation, the versions of
    this package and of the score, and the columns of ``matches.csv`` says which pairs they are; each file has it, and a
    checksum. Pairs of another one are of no use, and removed, as are files that are damaged.

    Args:
        directory: the folder; made when there is something to write. It holds pairs in ``pairs-00000.json`` and so on.
            Below :data:`~monai_deepssim.stores.IN_MEMORY`, pairs are kept by this object alone.
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
            "columns": list(MATCHES_COLUMNS),
        }
        self._in_memory: list[DataFrame] = []
        self._is_ours = False  # whether files of other images have been removed

    def load(self) -> DataFrame:
        """Read the pairs of these images; parts that are damaged are named on the terminal and removed.

        Returns:
            A table as :func:`~monai_deepssim.metrics.verify_candidates` makes them; empty where the folder holds pairs
            of other images.
        """
        if current_ranks().is_first:
            remove_files(self.directory.glob("*.partial"))
        current_ranks().wait()
        parts = map(self._read, self._files())
        pairs = [pair for part in parts for pair in part or ()]
        return concat([_as_table(pairs), *self._in_memory], ignore_index=True)

    def write(self, pairs: DataFrame) -> None:
        """Add pairs, all of them or none.

        Args:
            pairs: as :func:`~monai_deepssim.metrics.verify_candidates` makes them.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        if IN_MEMORY in self.directory.parents:
            self._in_memory.append(pairs)
            return
        if not self._is_ours:
            make_folder(self.directory)
            if current_ranks().is_first:
                remove_files(path for path in self._files() if self._read(path) is None)
            self._is_ours = True
        number = max((int(path.stem[len(_PAIRS) :]) for path in self._files()), default=-1) + 1
        number += (current_ranks().rank - number) % current_ranks().size  # which no other rank takes
        content = {"fingerprint": self.fingerprint, "pairs": pairs.to_dict("records")}
        write_sealed(self.directory / f"{_PAIRS}{number:05d}.json", content, default=asdict)

    def _read(self, path: Path) -> list[dict[str, Any]] | None:
        """The pairs in a file; ``None`` where they are of other images, or damaged."""
        content = read_sealed(path)
        return None if content is None or content["fingerprint"] != self.fingerprint else content["pairs"]

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob(f"{_PAIRS}*.json"))


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


def share_pairs(candidates: DataFrame, verify: Callable[..., DataFrame], description: str) -> DataFrame:
    """Verify candidates on all ranks, each of which takes the next images when it is free.

    Args:
        candidates: of all images, with the image in ``query``.
        verify: makes pairs of candidates, those of one image in one call; takes ``description`` for its progress bars.
        description: what progress bars call the images.

    Returns:
        The pairs, in the order of the candidates.
    """
    ranks = current_ranks()
    if ranks.size == 1:
        return verify(candidates, description=description)
    queries = candidates["query"].unique()
    per_part = min(_MOST_IMAGES, max(1, len(queries) // (_PARTS_OF_RANK * ranks.size)))
    parts = [queries[start : start + per_part] for start in range(0, len(queries), per_part)]
    with progress_bar(total=len(queries), desc=f"verifying {description} on {ranks.size} ranks", unit=" images") as bar:

        def work(unit: int) -> bytes:
            pairs = verify(candidates[candidates["query"].isin(parts[unit])])
            bar.update(len(parts[unit]))
            return json.dumps(pairs.to_dict("records"), default=asdict).encode()

        tables = [_as_table(json.loads(content)) for content in ranks.share(len(parts), work)]
        bar.update(len(queries) - bar.n)
    return concat(tables, ignore_index=True)


def _as_table(pairs: list[dict[str, Any]]) -> DataFrame:
    return DataFrame([{**pair, "alignment": _read_alignment(pair["alignment"])} for pair in pairs])


def _read_alignment(fields: dict[str, Any]) -> Alignment:
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
    return Alignment(**values)
