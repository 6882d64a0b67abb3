"""A folder of embeddings in shards, and the fingerprint that says which images and which embedder they are of."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from monai.inferers import Inferer, SimpleInferer

from monai_deepssim.data import UNREADABLE, content_of, digest_of_images, files_of, hash_items
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, hash_file, make_folder, remove_files, unwritable
from monai_deepssim.ranks import current_ranks
from monai_deepssim.stores import IN_MEMORY, discard_damaged, read_sealed, write_sealed

__all__ = ["SIZE_COLUMNS", "EmbeddedImages", "EmbeddingStore", "identify_inferer"]

#: Columns of the notes with the size of an image; volumes have all three, of x, y and z.
SIZE_COLUMNS = ("rows", "columns", "slices")
_FINGERPRINT_FILE = "fingerprint.json"
# 2: pixels that are not square are made so. 3: images are padded with the median of their border, and posed by outline.
# 4: notes have a row for each image. 5: all files have checksums; padding and stray pixels are replaced.
_STORE_VERSION = 5


@dataclass(frozen=True)
class EmbeddedImages:
    """The embeddings of a list of images, and what was noticed on the way.

    Attributes:
        embeddings: one memory-mapped float32 array ``(n, D)`` per shard that holds any usable image.
        indices: int64 ``(N,)``, the image (its position in the list) of each row over all shards.
        problems: why an image has no embedding, by its position in the list.
        converted: positions of images whose real colour was converted to grey.
        sizes: ``(N, 2)``, rows and columns of each embedded image as it was in its file; ``(N, 3)`` of volumes.
        resampled: positions of images whose pixels were not square and were made so.
        padded: positions of images whose padding was replaced.
        clipped: positions of images whose stray pixels, such as hot ones, were replaced.
    """

    embeddings: list[np.ndarray]
    indices: np.ndarray
    problems: dict[int, str]
    converted: list[int]
    sizes: np.ndarray
    resampled: list[int] = field(default_factory=list)
    padded: list[int] = field(default_factory=list)
    clipped: list[int] = field(default_factory=list)

    def subset(self, rows: np.ndarray) -> EmbeddedImages:
        """Some of the images, in memory.

        Args:
            rows: int64 ``(n,)``, over all shards.

        Returns:
            Those images, in this order.
        """
        starts = np.cumsum([0, *map(len, self.embeddings)])
        shards = np.searchsorted(starts, rows, side="right") - 1
        pairs = zip(shards.tolist(), rows.tolist(), strict=True)
        embeddings = np.stack([self.embeddings[shard][row - starts[shard]] for shard, row in pairs])
        return EmbeddedImages([embeddings], self.indices[rows], {}, [], self.sizes[rows])


class EmbeddingStore:
    """Embeddings of a list of images, in a folder, in shards that are written whole or not at all.

    A fingerprint over the content of the files, the image size and the embedder is written first, and a folder with
    another fingerprint is refused: embeddings of different images never mix. Each shard has its checksum and that of
    the fingerprint, and is made again where one of them does not fit. So is a shard with an image whose file could not
    be read for a moment, the next time that the store is opened.

    Args:
        directory: the folder; made when missing. It holds ``fingerprint.json``, and for each shard ``shard-00000.npy``
            (float32 ``(n, D)``) and ``shard-00000.json`` (what was noticed about each image, and which have no row).
            Below :data:`~monai_deepssim.stores.IN_MEMORY`, the embeddings are kept in memory, and nothing is written.
        items: the images, as :func:`monai_deepssim.data.list_images` lists them.
        image_size: rows and columns that images are brought to, of volumes three sides.
        embedder_id: what tells this embedder from another, such as the SHA-256 of its checkpoint.
        shard_size: images per shard.
        file_hashes: SHA-256 of more files, by path, such as those of images that repeat these.

    Example:
        >>> import tempfile
        >>> store = EmbeddingStore(tempfile.mkdtemp(), [], image_size=(136, 112), embedder_id="an example")
        >>> store.open()
        >>> store.missing_shards()
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
        file_hashes: Mapping[str, str] | None = None,
    ) -> None:
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}, wanted at least 1.")
        self.directory = Path(directory)
        self.items = [dict(item) for item in items]
        self.image_size = tuple(map(int, image_size))
        self.embedder_id = embedder_id
        self.shard_size = shard_size
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
        }

    @cached_property
    def contents(self) -> list[str]:
        """SHA-256 of the content of each image: of its files, of a tensor, or of what an image is made of."""
        return [content_of(item) for item in self.hashed_items]

    def exists(self) -> bool:
        """Whether the folder holds embeddings of an earlier run, of whatever images."""
        return (self.directory / _FINGERPRINT_FILE).exists()

    def differences(self) -> list[str]:
        """The parts of the fingerprint in which the embeddings in the folder differ from those asked for."""
        stored = read_sealed(self.directory / _FINGERPRINT_FILE)
        if stored is None:
            return []
        different = [name for name, value in self.fingerprint.items() if stored.get(name) != value]
        if stored.get("num_unreadable") and "names" not in different:
            # The same images, of which some could not be read then: their embeddings may be replaced.
            return [name for name in different if name not in ("images", "num_unreadable")]
        return different

    def open(self, *, overwrite: bool = False) -> None:
        """Make the folder ready to be written to.

        Args:
            overwrite: whether to remove embeddings of other images or of another embedder.

        Raises:
            UnusableInputError: if the folder holds such embeddings and ``overwrite`` is false, or cannot be written.
        """
        differences = self.differences()
        if differences and not overwrite:
            raise UnusableInputError(
                f"{self.directory}: holds the embeddings of another run (different: {', '.join(differences)}). "
                "Choose another output folder, or give overwrite true to replace them."
            )
        if not self._is_on_disk:
            return
        if current_ranks().is_first:
            self._make_ready()
        current_ranks().wait()
        self.refresh()

    def refresh(self) -> None:
        """Look into the folder again, for what other ranks have written."""
        if self._is_on_disk and current_ranks().size > 1:
            self.__dict__.pop("_shards", None)

    def _make_ready(self) -> None:
        make_folder(self.directory)
        is_known = read_sealed(self.directory / _FINGERPRINT_FILE) == self.fingerprint
        useless = ["*.partial"] if is_known else ["*.partial", "shard-*"]
        # The fingerprint goes first: shards without one are never taken for finished ones.
        remove_files([] if is_known else [self.directory / _FINGERPRINT_FILE])
        remove_files(path for pattern in useless for path in self.directory.glob(pattern))
        if not is_known:
            self.__dict__.pop("_shards", None)
            write_sealed(self.directory / _FINGERPRINT_FILE, self.fingerprint)
        for shard, (_, notes) in list(self._shards.items()):
            if (notes["problem_kind"] == UNREADABLE).any():
                remove_files([self._shard_path(shard, "json"), self._shard_path(shard, "npy")])
                del self._shards[shard]

    def shard_range(self, shard: int) -> range:
        """The positions of a shard's images in the list."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, len(self.items)))

    def missing_shards(self) -> list[int]:
        """The shards that are not in the folder yet, in order."""
        return [shard for shard in range(self.num_shards) if shard not in self._shards]

    def write_shard(self, shard: int, embeddings: np.ndarray, notes: pd.DataFrame) -> None:
        """Write one shard, whole or not at all.

        Args:
            shard: its number.
            embeddings: float32 ``(n, D)``, of all of its images; those of images with a problem are left out.
            notes: ``n`` rows with ``problem``, why an image has no embedding, else empty, and ``problem_kind``;
                ``converted``, whether its real colour was converted to grey; :data:`SIZE_COLUMNS` as in its file;
                and ``resampled``, ``padded`` and ``clipped``, whether pixels were made square, padding or stray pixels
                were replaced.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        array = np.ascontiguousarray(embeddings[(notes["problem"] == "").to_numpy()], dtype=np.float32)
        if not self._is_on_disk:
            self._shards[shard] = array, notes
            return
        path, stream = self._shard_path(shard, "npy"), io.BytesIO()
        np.save(stream, array)
        with atomic_file(path) as file:
            file.write(stream.getbuffer())
        # The notes go last: when they are there, so is the array, and they say which bytes it has.
        sha256 = hashlib.sha256(stream.getbuffer()).hexdigest()
        content = {"fingerprint": self.fingerprint, "sha256": sha256, "notes": notes.to_dict("list")}
        write_sealed(self._shard_path(shard, "json"), content)
        written = self._read_shard(shard)
        if written is None:
            raise unwritable(path, OSError("what was written is not what is there"))
        self._shards[shard] = written

    def load(self) -> EmbeddedImages:
        """Put the shards together; embeddings in a folder stay on disk until they are used.

        Raises:
            ValueError: if a shard is missing.
        """
        if self.missing_shards():
            raise ValueError(f"{self.directory}: shards {self.missing_shards()} are missing, want all of them.")
        shards = [self._shards[shard] for shard in range(self.num_shards)]
        size_columns = SIZE_COLUMNS[: len(self.image_size)]
        columns = ("problem", "converted", *size_columns, "resampled", "padded", "clipped")
        empty = pd.DataFrame({name: [] for name in columns})
        notes = pd.concat([empty, *(table for _, table in shards)], ignore_index=True)
        usable = notes["problem"] == ""
        return EmbeddedImages(
            embeddings=[array for array, _ in shards if len(array)],
            indices=np.flatnonzero(usable),
            problems=notes.loc[~usable, "problem"].to_dict(),
            converted=np.flatnonzero(notes["converted"]).tolist(),
            sizes=notes.loc[usable, list(size_columns)].to_numpy(np.int64),
            **{name: np.flatnonzero(notes[name]).tolist() for name in ("resampled", "padded", "clipped")},
        )

    @cached_property
    def _shards(self) -> dict[int, tuple[np.ndarray, pd.DataFrame]]:
        """The shards that are known, each with its notes; those in the folder that are damaged are not."""
        shards = {shard: self._read_shard(shard) for shard in range(self.num_shards if self._is_on_disk else 0)}
        return {shard: content for shard, content in shards.items() if content is not None}

    def _read_shard(self, shard: int) -> tuple[np.ndarray, pd.DataFrame] | None:
        path, content = self._shard_path(shard, "npy"), read_sealed(self._shard_path(shard, "json"))
        if content is None or content["fingerprint"] != self.fingerprint:
            return None
        try:
            if hash_file(path) != content["sha256"]:
                raise ValueError("its checksum does not fit")
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            remove_files([self._shard_path(shard, "json")])
            discard_damaged(path, error)
            return None
        return array, pd.DataFrame(content["notes"])

    @property
    def _is_on_disk(self) -> bool:
        return IN_MEMORY not in self.directory.parents

    @property
    def num_shards(self) -> int:
        """How many shards the images make."""
        return -(-len(self.items) // self.shard_size)

    def _shard_path(self, shard: int, suffix: str) -> Path:
        return self.directory / f"shard-{shard:05d}.{suffix}"


def identify_inferer(inferer: Inferer | None) -> str:
    """Name what embeddings depend on of the inferer that called the embedder: its class and its settings.

    Plain settings, and lists and dictionaries of them, are compared by value, tensors by content, functions and classes
    of a module by name. Of any other object nothing can be compared, so that the name is another one each time, and
    embeddings are never taken for those of an earlier run.

    Args:
        inferer: MONAI's or your own; ``None`` for MONAI's ``SimpleInferer``.

    Returns:
        The name; empty for ``SimpleInferer``.

    Example:
        >>> from monai.inferers import SlidingWindowInferer
        >>> identify_inferer(SlidingWindowInferer(64)) == identify_inferer(SlidingWindowInferer(64))
        True
        >>> identify_inferer(SlidingWindowInferer(64)) == identify_inferer(SlidingWindowInferer(96))
        False
    """
    if inferer is None or type(inferer) is SimpleInferer:
        return ""
    return f" by {type(inferer).__module__}.{type(inferer).__qualname__} {_identify_setting(vars(inferer))}"


def _identify_setting(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str, Path, Enum, torch.dtype, torch.device)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{name!r}: {_identify_setting(entry)}" for name, entry in value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_identify_setting, value)) + "]"
    if isinstance(value, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(value).detach().cpu()
        content = tensor.flatten().view(torch.uint8).numpy().tobytes()
        return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"
    name = getattr(value, "__qualname__", "<")
    return f"{value.__module__}.{name}" if "<" not in name else f"setting that cannot be compared {uuid4().hex}"


def _digest_of_names(items: Sequence[Mapping[str, Any]]) -> str:
    names = [[str(item.get(name)) for name in ("path", "slice", "slice_axis")] for item in items]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
