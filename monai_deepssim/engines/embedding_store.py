"""A folder of embeddings in shards, which finds the embedding of an image by what the image holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.data import UNREADABLE, content_of, digest_of_images, files_of, hash_items
from monai_deepssim.engines.embedded_images import NOTICED, EmbeddedImages
from monai_deepssim.engines.embedding_shards import (
    EmbeddingShard,
    gather_shard,
    read_shards,
    shard_name,
    write_shard,
)
from monai_deepssim.engines.stored_precision import PRECISIONS, in_stored_precision
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import make_folder, remove_files
from monai_deepssim.progress import say
from monai_deepssim.ranks import current_ranks
from monai_deepssim.stores import IN_MEMORY, read_sealed, write_sealed

__all__ = ["SIZE_COLUMNS", "EmbeddingStore", "image_keys"]

#: Columns of the notes with the size of an image; volumes have all three, of x, y and z.
SIZE_COLUMNS = ("rows", "columns", "slices")
_FINGERPRINT_FILE = "fingerprint.json"
# 2: pixels that are not square are made so. 3: images are padded with the median of their border, and posed by outline.
# 4: notes have a row for each image. 5: all files have checksums; padding and stray pixels are replaced.
# 6: images are found by what they hold, and not by their place in a list. 7: sheets and colours are noticed.
_STORE_VERSION = 7
_MANIFEST_FILE = "manifest.json"
# Parts in which a rank embeds its share, at least.
_PARTS_OF_RANK = 4
_FILES_OF_EARLIER_VERSIONS = "shard-[0-9][0-9][0-9][0-9][0-9].*"


class EmbeddingStore:
    """Embeddings of a list of images, in a folder, in shards that are written whole or not at all.

    An embedding is found by what its image holds (the SHA-256 of its file, the slice, the window), the image size and
    the embedder, whatever the image is called and wherever it is in the list. So a list that has grown, or in which a
    file has changed, has embeddings missing for these images alone, and another embedder for all. Embeddings of images
    that are no longer in the list are removed at the end. A folder with which the list has neither content nor a name
    in common is refused.

    Each shard has a checksum, and is made again where it does not fit. So is the embedding of an image whose file could
    not be read for a moment, the next time that the store is opened. Several ranks may write at once.

    Args:
        directory: the folder; made when missing. It holds, for each shard, ``shard-<digest>.npy`` (``(n, D)``)
            and ``shard-<digest>.json`` (of which images, and what was noticed about each); ``fingerprint.json``, and,
            when all images are embedded, ``manifest.json`` with the shards in the order of the list.
            Below :data:`~monai_deepssim.stores.IN_MEMORY`, the embeddings are kept in memory, and nothing is written.
        items: the images, as :func:`monai_deepssim.data.list_images` lists them.
        image_size: rows and columns that images are brought to, of volumes three sides.
        embedder_id: what tells this embedder from another, such as the SHA-256 of its checkpoint.
        shard_size: images per shard.
        precision: numbers that embeddings are stored in, ``float32`` or ``float16``, half as large.
        file_hashes: SHA-256 of more files, by path, such as those of images that repeat these.

    Example:
        >>> import tempfile
        >>> store = EmbeddingStore(tempfile.mkdtemp(), [], image_size=(136, 112), embedder_id="an example")
        >>> store.open()
        >>> store.missing()
        []
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        items: Sequence[Mapping[str, Any]],
        *,
        image_size: Sequence[int],
        embedder_id: str,
        shard_size: int = 512,
        precision: str = PRECISIONS[0],
        file_hashes: Mapping[str, str] | None = None,
    ) -> None:
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}, wanted at least 1.")
        self.directory = Path(directory)
        self.items = [dict(item) for item in items]
        self.image_size = tuple(map(int, image_size))
        self.embedder_id = embedder_id
        self.shard_size = shard_size
        self.precision = precision
        self._known_hashes = dict(file_hashes or {})

    @cached_property
    def hashed_items(self) -> list[dict[str, Any]]:
        """The items with what their files hold, so that nothing else is read of them (``hash_items``)."""
        return hash_items(self.items)

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of each file that holds an image, by its path; of one that cannot be read, why."""
        hashes = {
            file: content.sha256
            for item in self.hashed_items
            for file, content in zip(files_of(item), item["contents"], strict=True)
        }
        return {**self._known_hashes, **hashes}

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the embeddings depend on; two stores with equal fingerprints hold equal embeddings."""
        return {
            "store_version": _STORE_VERSION,
            "images": digest_of_images(self.hashed_items),
            "names": _digest_of_names(self.items),
            "num_images": len(self.items),
            "num_unreadable": sum(content.startswith("unreadable") for content in self.contents),
            "image_size": list(self.image_size),
            "embedder": self.embedder_id,
            "shard_size": self.shard_size,
            "precision": self.precision,
        }

    @cached_property
    def contents(self) -> list[str]:
        """SHA-256 of the content of each image: of its files, of a tensor, or of what an image is made of."""
        return [content_of(item) for item in self.hashed_items]

    @cached_property
    def keys(self) -> list[str]:
        """Of each image a digest of what it holds and of how it is read, whatever it is called."""
        return image_keys(self.hashed_items)

    def exists(self) -> bool:
        """Whether the folder holds embeddings of an earlier run, of whatever images."""
        return (self.directory / _FINGERPRINT_FILE).exists()

    def holds_other_images(self) -> bool:
        """Whether the folder holds embeddings, and none of an image with the content or the name of one in the list."""
        if not self._is_on_disk:
            return False
        stored = read_sealed(self.directory / _FINGERPRINT_FILE)
        if stored is not None and stored.get("store_version") != _STORE_VERSION:
            return bool(stored.get("names") != self.fingerprint["names"])
        wanted = {*self.keys, *self._names}
        shards = self._shards.values()
        return bool(shards) and all(wanted.isdisjoint(entries) for s in shards for entries in (s.keys, s.names))

    def open(self, *, overwrite: bool = False) -> None:
        """Make the folder ready to be written to, and say what of an earlier run is used.

        Args:
            overwrite: whether to replace embeddings of other images.

        Raises:
            UnusableInputError: if the folder holds such embeddings and ``overwrite`` is false, or cannot be written.
        """
        holds_others = self.holds_other_images()
        if holds_others and not overwrite:
            raise UnusableInputError(
                f"{self.directory}: holds the embeddings of other images. Choose another output folder, or give "
                "overwrite true to replace them."
            )
        if not self._is_on_disk:
            return
        ranks = current_ranks()
        ranks.wait()  # until all have looked
        if ranks.is_first:
            if holds_others:
                remove_files(file for name in self._shards for file in self._files_of(name))
            self._make_ready()
        ranks.wait()
        self._look_again()

    def _make_ready(self) -> None:
        make_folder(self.directory)
        earlier = sorted(self.directory.glob(_FILES_OF_EARLIER_VERSIONS))
        if earlier:
            say(f"{self.directory}: holds embeddings of an earlier version of this package, which are made again.")
        remove_files([*self.directory.glob("*.partial"), *earlier])
        self._look_again()
        self._forget_unreadable()
        if read_sealed(self.directory / _FINGERPRINT_FILE) != self.fingerprint:
            write_sealed(self.directory / _FINGERPRINT_FILE, self.fingerprint)

    def _forget_unreadable(self) -> None:
        """Take images out of their shards whose files could not be read: perhaps they can be now."""
        for name, shard in self._shards.items():
            readable = np.flatnonzero(shard.notes["problem_kind"] != UNREADABLE)
            if len(readable) < len(shard.keys):
                if len(readable):
                    entries = [(shard, place) for place in readable.tolist()]
                    write_shard(self.directory, gather_shard(entries, [shard.names[place] for _, place in entries]))
                remove_files(self._files_of(name))

    @property
    def num_known(self) -> int:
        """How many images of the list have an embedding, or a reason why they have none."""
        return len(self.items) - len(self._missing)

    def describe_reuse(self) -> str:
        """Say what of an earlier run is used, where that is not all or nothing; else an empty string."""
        shards = self._shards.values()
        stored = {key for shard in shards for key in shard.keys}
        gone, missing = len(stored.difference(self.keys)), len(self._missing)
        if not stored or not (missing or gone):
            return ""
        if missing and not any(shard.made_by == self._made_by for shard in shards):
            return (
                f"all {missing} are embedded again, since the embedder, the image size or the precision is another one"
            )
        words = [f"{self.num_known} are embedded already"] if self.num_known else []
        words += [f"{missing} are new or have changed"] if missing else []
        words += [f"{gone} that were embedded are no longer there"] if gone else []
        return ", ".join(words)

    def missing(self, batch_size: int = 1) -> list[np.ndarray]:
        """Positions of the images that have to be embedded, in parts: a shard each, of several ranks less.

        Networks round by the number of images in a batch. So batches are those of the whole list, whichever rank takes
        them and whatever was done before, but for images that are new among others.

        Args:
            batch_size: images that are embedded at once.
        """
        ranks, at_once = current_ranks(), self.shard_size
        # One rank looks, for all: another one may see what somebody has written since.
        missing = ranks.of_first(self._missing.tolist())
        if ranks.size > 1:
            share = max(1, -(-len(missing) // (_PARTS_OF_RANK * ranks.size)))
            at_once = min(self.shard_size, -(-share // batch_size) * batch_size)
        wanted, whole, others = set(missing), [], []
        for shard in self._ranges:
            part: list[int] = []
            for first in range(shard.start, shard.stop, batch_size):
                batch = range(first, min(first + batch_size, shard.stop))
                absent = [position for position in batch if position in wanted]
                is_whole = len(absent) == len(batch)
                if part and (not is_whole or len(part) + len(batch) > at_once):
                    whole.append(part)
                    part = []
                if is_whole:
                    part = [*part, *batch]
                else:
                    others += absent
            whole += [part] if part else []
        rest = [others[start : start + at_once] for start in range(0, len(others), at_once)]
        return [np.array(part, np.int64) for part in (*whole, *rest)]

    def write(self, positions: np.ndarray, embeddings: np.ndarray, notes: pd.DataFrame) -> None:
        """Write the embeddings of some images, all of them or none.

        Args:
            positions: int64 ``(n,)``, in the list.
            embeddings: float32 ``(n, D)``, stored in the precision of this store; those of images with a problem are
                left out.
            notes: ``n`` rows with ``problem``, why an image has no embedding, else empty, and ``problem_kind``;
                ``converted``, whether its real colour was converted to grey; :data:`SIZE_COLUMNS` as in its file;
                and those of :data:`~monai_deepssim.engines.embedded_images.NOTICED`.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        array = in_stored_precision(embeddings[(notes["problem"] == "").to_numpy()], self.precision)
        self._keep(EmbeddingShard(self._made_by, *self._names_of(positions), notes.reset_index(drop=True), array))

    def complete(self) -> None:
        """Bring the shards into the order of the list, once every image is in one, and remove all others.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        ranks = current_ranks()
        ranks.wait()
        self._look_again()
        ranges = self._ranges
        absent = [number for number, entry in enumerate(ranges) if self._name_of(entry) not in self._shards]
        absent = ranks.of_first(absent)

        def assemble(number: int) -> bytes:
            positions = ranges[absent[number]]
            found = [self._find(position) for position in positions]
            entries = [entry for entry in found if entry is not None]
            self._keep(gather_shard(entries, [self._names[position] for position in positions]))
            return b""

        ranks.share(len(absent), assemble)
        self._look_again()
        if self._is_on_disk and ranks.is_first:
            wanted = [self._name_of(entry) for entry in self._ranges]
            content = {name: len(self._shards[name].keys) for name in wanted}
            manifest, path = {"made_by": self._made_by, "shards": content}, self.directory / _MANIFEST_FILE
            if read_sealed(path) != manifest:
                write_sealed(path, manifest)
            remove_files(file for name in self._shards if name not in content for file in self._files_of(name))
        ranks.wait()

    def load(self) -> EmbeddedImages:
        """Put the shards together; embeddings in a folder stay on disk until they are used.

        Raises:
            ValueError: if an image is missing.
        """
        names = [self._name_of(entry) for entry in self._ranges]
        absent = [name for name in names if name not in self._shards]
        if absent:
            raise ValueError(f"{self.directory}: {absent} are missing, want all shards.")
        shards = [self._shards[name] for name in names]
        size_columns = SIZE_COLUMNS[: len(self.image_size)]
        columns = ("problem", "converted", *size_columns, *NOTICED)
        empty = pd.DataFrame({name: [] for name in columns})
        notes = pd.concat([empty, *(shard.notes for shard in shards)], ignore_index=True)
        usable = notes["problem"] == ""
        return EmbeddedImages(
            embeddings=[shard.embeddings for shard in shards if len(shard.embeddings)],
            indices=np.flatnonzero(usable),
            problems=notes.loc[~usable, "problem"].to_dict(),
            converted=np.flatnonzero(notes["converted"]).tolist(),
            sizes=notes.loc[usable, list(size_columns)].to_numpy(np.int64),
            **{name: np.flatnonzero(notes[name]).tolist() for name in NOTICED},
        )

    @cached_property
    def _made_by(self) -> dict[str, Any]:
        return {
            "store_version": _STORE_VERSION,
            "image_size": list(self.image_size),
            "embedder": self.embedder_id,
            "precision": self.precision,
        }

    @cached_property
    def _names(self) -> list[str]:
        return [_digest([str(item.get(name)) for name in ("path", "slice", "slice_axis")]) for item in self.items]

    @cached_property
    def _shards(self) -> dict[str, EmbeddingShard]:
        """The shards that are known, by name, of whatever images."""
        return read_shards(self.directory) if self._is_on_disk else {}

    @cached_property
    def _known(self) -> dict[str, tuple[EmbeddingShard, int]]:
        """By key of an image, the shard with its embedding by this embedder, and its place there.

        What is wrong with a file is told with its name, and found by the name, too.
        """
        known = {}
        for shard in self._shards.values():
            if shard.made_by == self._made_by:
                for place, (key, name, row) in enumerate(zip(shard.keys, shard.names, shard.rows, strict=True)):
                    known[key if row >= 0 else key + name] = shard, place
        return known

    @cached_property
    def _missing(self) -> np.ndarray:
        """Positions of the images that have to be embedded."""
        if all(self._name_of(entry) in self._shards for entry in self._ranges):
            return np.empty(0, np.int64)
        return np.array([place for place in range(len(self.items)) if self._find(place) is None], np.int64)

    def _find(self, position: int) -> tuple[EmbeddingShard, int] | None:
        key = self.keys[position]
        return self._known.get(key) or self._known.get(key + self._names[position])

    def _look_again(self) -> None:
        """Forget what was read: other ranks may have written since."""
        for name in ("_known", "_missing", *(["_shards"] if self._is_on_disk else [])):
            self.__dict__.pop(name, None)

    def _keep(self, shard: EmbeddingShard) -> None:
        name = shard_name(shard.made_by, shard.keys, shard.names)
        self._shards[name] = write_shard(self.directory, shard) if self._is_on_disk else shard

    @property
    def _ranges(self) -> list[range]:
        """The positions of each shard of the list."""
        starts = range(0, len(self.items), self.shard_size)
        return [range(start, min(start + self.shard_size, len(self.items))) for start in starts]

    def _names_of(self, positions: Sequence[int] | np.ndarray) -> tuple[list[str], list[str]]:
        return [self.keys[position] for position in positions], [self._names[position] for position in positions]

    def _name_of(self, positions: range) -> str:
        return shard_name(self._made_by, *self._names_of(positions))

    def _files_of(self, name: str) -> list[Path]:
        # The notes first: an array without them is never taken for a finished one.
        return [self.directory / f"{name}.json", self.directory / f"{name}.npy"]

    @property
    def _is_on_disk(self) -> bool:
        return IN_MEMORY not in self.directory.parents


def image_keys(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each image a digest of what it holds and of how it is read, whatever it is called.

    Args:
        items: of :func:`~monai_deepssim.data.hash_items`.
    """
    keys = []
    for item in items:
        read_as = [str(item.get(name)) for name in ("slice", "slice_axis", "window", "volume", "spacing")]
        suffixes = [Path(file).suffix.lower() for file in files_of(item)]
        keys.append(_digest([content_of(item), *read_as, *suffixes]))
    return keys


def _digest(values: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:32]


def _digest_of_names(items: Sequence[Mapping[str, Any]]) -> str:
    names = [[str(item.get(name)) for name in ("path", "slice", "slice_axis")] for item in items]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
