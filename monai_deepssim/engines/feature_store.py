"""Local features in a folder, found by all ranks of a run, so that those of no image are found twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from monai_deepssim.files import make_folder, remove_files, unwritable
from monai_deepssim.progress import progress_bar
from monai_deepssim.ranks import current_ranks, pack_arrays, unpack_arrays
from monai_deepssim.search import FeatureTable, tabulate_features
from monai_deepssim.similarity import LOCAL_FEATURES_VERSION, LocalFeatures, map_in_threads
from monai_deepssim.stores import IN_MEMORY, read_sealed_array, write_sealed_array

__all__ = ["FeatureStore"]

_STORE_VERSION = 1
_SHARD, _DIGITS = "shard-", 16
# Images of a file, at most; and in how many parts a rank does its share, at least.
_MOST_IMAGES, _PARTS_OF_RANK = 512, 4


class _Shard(NamedTuple):
    keys: list[str]
    #: The keypoints of all images, :data:`~monai_deepssim.search.feature_table.KEYPOINT`.
    block: np.ndarray
    #: Of each image the number of its keypoints, and its longer side in pixels.
    counts: np.ndarray
    sides: np.ndarray


class FeatureStore:
    """A folder of the local features of images, in files that are written whole or not at all.

    Features are found by what an image holds, wherever it is in the list: those of images that are new, or have
    changed, are looked for, and no others. Each file has a checksum, and is made again where it does not fit. Features
    of images that are no longer in the list are removed, and so are all that another version has found, or OpenCV in
    another version. The files stay on the disk, and are mapped into memory: the system keeps of them what is used, once
    for all ranks of a machine.

    Args:
        directory: the folder; made when there is something to write. It holds for each shard ``shard-<digest>.npy``,
            the keypoints, and ``shard-<digest>.json``, of which images they are. Below
            :data:`~monai_deepssim.stores.IN_MEMORY`, nothing is written.
        keys: of each image a digest of what it holds and of how it is read (:func:`image_keys`).
        image_size: rows and columns that images are brought to, in whose pixels keypoints lie.

    Example:
        >>> features = LocalFeatures(np.zeros((1, 2), np.float32), np.zeros((1, 128), np.uint8), 64.0)
        >>> store = FeatureStore(IN_MEMORY / "local_features", ["a", "b", "a"], (64, 64))
        >>> len(store.find(lambda row: features))
        3
    """

    def __init__(self, directory: str | os.PathLike[str], keys: Sequence[str], image_size: Sequence[int]) -> None:
        self.directory = Path(directory)
        self.keys = list(keys)
        self._made_by: dict[str, Any] = {
            "store_version": _STORE_VERSION,
            "local_features_version": LOCAL_FEATURES_VERSION,
            "opencv": cv2.__version__,
            "image_size": [int(side) for side in image_size],
        }

    def find(self, extract: Callable[[int], LocalFeatures], description: str = "") -> FeatureTable:
        """Read the features that are there, and find those that are not; all ranks have to call this alike.

        Args:
            extract: finds the features of image 0 to ``len(keys) - 1``; called in several threads.
            description: what the progress bar says; empty for no bar.

        Returns:
            The features by image.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        ranks, shards = current_ranks(), self._open()
        known = {key for shard in shards for key in shard.keys}
        first_rows = {key: row for row, key in reversed(list(enumerate(self.keys))) if key not in known}
        # One rank looks, for all: another one may see what somebody has written since.
        missing = ranks.of_first(sorted(first_rows.values()))
        at_once = min(_MOST_IMAGES, max(1, -(-len(missing) // (_PARTS_OF_RANK * ranks.size))))
        if ranks.size == 1:
            at_once = _MOST_IMAGES
        parts = [missing[start : start + at_once] for start in range(0, len(missing), at_once)]
        own: dict[int, _Shard] = {}
        with progress_bar(
            total=len(missing), desc=description, unit=" images", disable=not description or not missing
        ) as bar:

            def find_one(row: int) -> LocalFeatures:
                features = extract(row)
                bar.update()
                return features

            def work(unit: int) -> bytes:
                rows = parts[unit]
                found = map_in_threads(lambda place: find_one(rows[place]), len(rows))
                own[unit] = self._keep(_Shard([self.keys[row] for row in rows], *tabulate_features(found)))
                return b"" if self._is_on_disk or ranks.size == 1 else pack_arrays(own[unit][1:])

            contents = ranks.share(len(parts), work)
            bar.update(len(missing) - bar.n)
        for unit, content in enumerate(contents):
            keys = [self.keys[row] for row in parts[unit]]
            shards.append(own[unit] if unit in own else self._receive(keys, content))
        return self._tabulate(shards)

    def _open(self) -> list[_Shard]:
        """Read the shards of these images, on all ranks; those that are damaged are named, and what is useless goes."""
        if not self._is_on_disk:
            return []
        ranks = current_ranks()
        ranks.wait()
        if ranks.is_first:
            self._clean_up()
        ranks.wait()
        return [shard for path in self._files() if (shard := self._read(path)) is not None]

    def _clean_up(self) -> None:
        """Remove what a killed run left, what another version has found, and what is of images that are gone."""
        remove_files(self.directory.glob("*.partial"))
        for path in self.directory.glob(f"{_SHARD}*.npy"):
            if not path.with_suffix(".json").exists():
                remove_files([path])
        wanted = set(self.keys)
        for path in self._files():
            shard = self._read(path)
            if shard is not None and all(key in wanted for key in shard.keys):
                continue
            if shard is not None and any(key in wanted for key in shard.keys):
                places = [place for place, key in enumerate(shard.keys) if key in wanted]
                table = _tabulate([shard], [(0, place) for place in places])
                self._keep(_Shard([shard.keys[place] for place in places], *tabulate_features(table)))
            remove_files([path.with_suffix(".json"), path])

    def _keep(self, shard: _Shard) -> _Shard:
        if not self._is_on_disk:
            return shard
        make_folder(self.directory)
        notes = {
            "made_by": self._made_by,
            "keys": shard.keys,
            "counts": shard.counts.tolist(),
            "sides": shard.sides.tolist(),
        }
        return shard._replace(block=write_sealed_array(self._path(shard.keys), shard.block, notes))

    def _receive(self, keys: list[str], content: bytes) -> _Shard:
        """What another rank has found."""
        if not self._is_on_disk:
            return _Shard(keys, *unpack_arrays(content))
        shard = self._read(self._path(keys))
        if shard is None:
            raise unwritable(self._path(keys), OSError("what was written is not what is there"))
        return shard

    def _read(self, path: Path) -> _Shard | None:
        """A shard; ``None`` where it was made otherwise, by another version perhaps, or is damaged."""

        def fits_name(notes: Any) -> bool:
            return bool(path.stem == _name(notes["made_by"], notes["keys"]))

        stored = read_sealed_array(path, fits_name)
        if stored is None or stored[1]["made_by"] != self._made_by:
            return None
        block, notes = stored
        return _Shard(notes["keys"], block, np.array(notes["counts"], np.int64), np.array(notes["sides"], np.float64))

    def _tabulate(self, shards: Sequence[_Shard]) -> FeatureTable:
        """The features of all images."""
        places = {key: (number, place) for number, shard in enumerate(shards) for place, key in enumerate(shard.keys)}
        return _tabulate(shards, [places[key] for key in self.keys])

    def _path(self, keys: Sequence[str]) -> Path:
        return self.directory / f"{_name(self._made_by, keys)}.npy"

    def _files(self) -> list[Path]:
        return [path.with_suffix(".npy") for path in sorted(self.directory.glob(f"{_SHARD}*.json"))]

    @property
    def _is_on_disk(self) -> bool:
        return IN_MEMORY not in self.directory.parents


def _tabulate(shards: Sequence[_Shard], places: Sequence[tuple[int, int]]) -> FeatureTable:
    """The features of images, each of which has its place in one of the shards."""
    first_images = np.cumsum([0, *(len(shard.keys) for shard in shards)])
    counts, sides = (
        np.concatenate([empty, *(getattr(shard, name) for shard in shards)])
        for name, empty in (("counts", np.empty(0, np.int64)), ("sides", np.empty(0)))
    )
    chosen = np.array([first_images[number] + place for number, place in places], np.int64)
    starts = np.cumsum(counts) - counts
    return FeatureTable([shard.block for shard in shards], starts[chosen], counts[chosen], sides[chosen])


def _name(made_by: dict[str, Any], keys: Sequence[str]) -> str:
    return _SHARD + hashlib.sha256(json.dumps([made_by, list(keys)], sort_keys=True).encode()).hexdigest()[:_DIGITS]
