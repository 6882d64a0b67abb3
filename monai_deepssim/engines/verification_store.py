"""Verified pairs of images in a folder, so that an audit that was stopped does not align any of them again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pandas import DataFrame, concat

from monai_deepssim.files import make_folder, remove_files
from monai_deepssim.progress import progress_bar, say
from monai_deepssim.ranks import current_ranks
from monai_deepssim.similarity import ALIGNED_SSIM_VERSION, COPY_SCORE_VERSION, DEFORMATION_COST, Alignment, LocalMatch
from monai_deepssim.stores import IN_MEMORY, read_sealed, write_sealed

__all__ = ["VerificationStore", "share_pairs"]

_PAIRS = "pairs-"
_Matches = Mapping[int, Mapping[int, LocalMatch]]
# What tells a pair from others: what its two images hold, and their local match.
_Key = tuple[str, str, str]
# 8: pairs are found by what their images hold, and not by their place in a list.
_STORE_VERSION = 8
# Images that a rank verifies before it takes others, at most; and in how many parts it does its share, at least.
_MOST_IMAGES, _PARTS_OF_RANK = 64, 8


class VerificationStore:
    """A folder of verified pairs, in files that are written whole or not at all; several ranks may write at once.

    A pair is found by what its two images hold, wherever they are in their lists, and by the local match that it was
    scored with, which depends on the other training images, too. What it scores depends on these, the size that images
    are brought to and the search, and on nothing else: not on the detector, the length of the shortlist or the
    thresholds, with any of which an audit may be continued, nor on images that are added or taken away. The versions of
    the score, the image size, the price of a deformation and others that are given are in each file, with a checksum:
    other pairs are of no use, and removed, as are those of images that are gone.

    Args:
        directory: the folder; made when there is something to write. It holds pairs in ``pairs-00000.json`` and so on.
            Below :data:`~monai_deepssim.stores.IN_MEMORY`, pairs are kept by this object alone.
        query_keys: what each image that is looked up holds (:func:`image_keys`), by row.
        training_keys: likewise of the training images.
        image_size: rows and columns that images are brought to.
        deformation_cost: SSIM that a pixel of deformation costs.
        others: what else a pair depends on, such as a version.

    Example:
        >>> import tempfile
        >>> store = VerificationStore(tempfile.mkdtemp(), ["a"], ["b", "c"], (136, 112))
        >>> change = Alignment((1,), (6.5,), (0.0, 2.0), 1.0, 1.2)
        >>> store.write(DataFrame({"query": [0], "training": [1], "score": [0.75], "alignment": [change]}))
        >>> pairs = store.known(DataFrame({"query": [0, 0], "training": [0, 1]}))
        >>> pairs["training"].tolist(), pairs["score"].tolist(), pairs["alignment"][0] == change
        ([1], [0.75], True)
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        query_keys: Sequence[str],
        training_keys: Sequence[str],
        image_size: Sequence[int],
        deformation_cost: float | None = DEFORMATION_COST,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.query_keys, self.training_keys = query_keys, training_keys
        self.made_by: dict[str, Any] = {
            "store_version": _STORE_VERSION,
            "aligned_ssim_version": ALIGNED_SSIM_VERSION,
            "copy_score_version": COPY_SCORE_VERSION,
            "image_size": [int(side) for side in image_size],
            "deformation_cost": deformation_cost,
            **(others or {}),
        }
        self._pairs: dict[_Key, dict[str, Any]] = {}

    def open(self) -> None:
        """Read the pairs of these images, on all ranks; parts that are damaged are named, and what is useless goes."""
        ranks = current_ranks()
        if IN_MEMORY in self.directory.parents:
            return
        ranks.wait()
        if ranks.is_first:
            self._clean_up()
        ranks.wait()
        self._pairs = {key: pair for path in self._files() for key, pair in self._read(path) or ()}

    def known(self, candidates: DataFrame, matches: _Matches | None = None) -> DataFrame:
        """Those of some pairs that were verified before, where nothing about them has changed.

        Args:
            candidates: pairs, by ``query`` and ``training``.
            matches: local matches of these queries; pairs with one are looked for, too.

        Returns:
            A table as :func:`~monai_deepssim.metrics.verify_candidates` makes them; empty where there are none.
        """
        if not self._pairs:
            return DataFrame()
        pairs = list(zip(candidates["query"].tolist(), candidates["training"].tolist(), strict=True))
        pairs += [(query, training) for query, found in (matches or {}).items() for training in found]
        found = {pair: self._pairs.get(self._key(*pair, matches)) for pair in dict.fromkeys(pairs)}
        return _as_table(
            [{"query": pair[0], "training": pair[1], **values} for pair, values in found.items() if values is not None]
        )

    def write(self, pairs: DataFrame, matches: _Matches | None = None) -> None:
        """Add pairs, all of them or none.

        Args:
            pairs: as :func:`~monai_deepssim.metrics.verify_candidates` makes them.
            matches: the local matches that they were scored with.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        records = []
        for pair in pairs.to_dict("records"):
            key = self._key(pair.pop("query"), pair.pop("training"), matches)
            records.append((key, {**pair, "alignment": asdict(pair["alignment"])}))
        self._pairs.update(records)
        if IN_MEMORY in self.directory.parents:
            return
        make_folder(self.directory)
        ranks = current_ranks()
        number = max((int(path.stem[len(_PAIRS) :]) for path in self._files()), default=-1) + 1
        number += (ranks.rank - number) % ranks.size  # which no other rank takes
        self._write_file(self.directory / f"{_PAIRS}{number:05d}.json", records)

    def _clean_up(self) -> None:
        """Remove what is of no use: what a killed run left, pairs by another version, pairs of images that are gone."""
        remove_files(self.directory.glob("*.partial"))
        queries, training = set(self.query_keys), set(self.training_keys)
        kept = removed = 0
        for path in self._files():
            pairs = self._read(path)
            current = [(key, pair) for key, pair in pairs or () if key[0] in queries and key[1] in training]
            kept, removed = kept + len(current), removed + (len(pairs) - len(current) if pairs is not None else 1)
            if not current:
                remove_files([path])
            elif pairs is not None and len(current) < len(pairs):
                self._write_file(path, current)
        if kept and removed:
            say(f"{self.directory.name} images: {kept} pairs that were verified before are still good.")

    def _write_file(self, path: Path, records: Sequence[tuple[_Key, dict[str, Any]]]) -> None:
        write_sealed(path, {"made_by": self.made_by, "pairs": [[*key, pair] for key, pair in records]})

    def _read(self, path: Path) -> list[tuple[_Key, dict[str, Any]]] | None:
        """The pairs in a file; ``None`` where they were made otherwise, by another version perhaps, or are damaged."""
        content = read_sealed(path)
        if content is None or content.get("made_by") != self.made_by:
            return None
        return [((query, training, match), pair) for query, training, match, pair in content["pairs"]]

    def _key(self, query: int, training: int, matches: _Matches | None) -> _Key:
        match = (matches or {}).get(query, {}).get(training)
        return self.query_keys[query], self.training_keys[training], "" if match is None else _digest(match)

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob(f"{_PAIRS}*.json"))


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


def _digest(match: LocalMatch) -> str:
    """Digest of what two images share by their local features."""
    digest = hashlib.sha256(repr((match.num_inliers, match.inverted, match.density)).encode())
    for array in (match.matrix, match.points, match.core):
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _read_alignment(fields: dict[str, Any]) -> Alignment:
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
    return Alignment(**values)
