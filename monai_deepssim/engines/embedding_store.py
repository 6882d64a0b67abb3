"""A folder of embeddings in shards, and the fingerprint that says which images and which embedder they are of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from monai.inferers import Inferer, SimpleInferer

from monai_deepssim.data import DerivedImage, files_of
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, hash_file, unwritable

__all__ = ["EmbeddedImages", "EmbeddingStore", "identify_inferer"]

_FINGERPRINT_FILE = "fingerprint.json"
# 2: pixels that are not square are made so. 3: images are padded with the median of their border, and posed by outline.
# 4: notes have a row for each image. 5: padding and stray pixels are replaced.
_STORE_VERSION = 5


@dataclass(frozen=True)
class EmbeddedImages:
    """The embeddings of a list of images, and what was noticed on the way.

    Attributes:
        embeddings: one memory-mapped float32 array ``(n, D)`` per shard that holds any usable image.
        indices: int64 ``(N,)``, the image (its position in the list) of each row over all shards.
        problems: why an image has no embedding, by its position in the list.
        converted: positions of images whose real colour was converted to grey.
        sizes: ``(N, 2)``, rows and columns of each embedded image as it was in its file.
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
    another fingerprint is refused: embeddings of different images never mix.

    Args:
        directory: the folder; made when missing. It holds ``fingerprint.json``, and for each shard ``shard-00000.npy``
            (float32 ``(n, D)``) and ``shard-00000.json`` (what was noticed about each image, and which have no row).
        items: the images, as :func:`monai_deepssim.data.list_images` lists them.
        image_size: rows and columns that images are brought to.
        embedder_id: what tells this embedder from another, such as the SHA-256 of its checkpoint.
        shard_size: images per shard.

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
    ) -> None:
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}, wanted at least 1.")
        self.directory = Path(directory)
        self.items = [dict(item) for item in items]
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.embedder_id = embedder_id
        self.shard_size = shard_size

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """SHA-256 of each file that holds an image, by its path; of one that cannot be read, why."""
        return {file: _digest_of_file(Path(file)) for file in dict.fromkeys(chain(*map(files_of, self.items)))}

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the embeddings depend on; two stores with equal fingerprints hold equal embeddings."""
        return {
            "store_version": _STORE_VERSION,
            "images": _digest_of_images(self.items, self.contents),
            "num_images": len(self.items),
            "image_size": list(self.image_size),
            "embedder": self.embedder_id,
            "shard_size": self.shard_size,
        }

    @cached_property
    def contents(self) -> list[str]:
        """SHA-256 of the content of each image: of its files, of a tensor, or of what an image is made of."""
        file_hashes = dict(self.file_hashes)
        return [_content_of(item, file_hashes) for item in self.items]

    def exists(self) -> bool:
        """Whether the folder holds embeddings of an earlier run, of whatever images."""
        return (self.directory / _FINGERPRINT_FILE).exists()

    def differences(self) -> list[str]:
        """The parts of the fingerprint in which the embeddings in the folder differ from those asked for."""
        if not self.exists():
            return []
        try:
            stored = json.loads((self.directory / _FINGERPRINT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        wanted = self.fingerprint
        return [name for name in wanted if not isinstance(stored, dict) or stored.get(name) != wanted[name]]

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
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if differences:
                # The fingerprint goes first: shards without one are never taken for finished ones.
                (self.directory / _FINGERPRINT_FILE).unlink()
            if not self.exists():
                for leftover in self.directory.glob("shard-*"):
                    leftover.unlink()
                with atomic_file(self.directory / _FINGERPRINT_FILE) as file:
                    file.write(json.dumps(self.fingerprint, indent=2).encode())
            for leftover in self.directory.glob("*.partial"):
                leftover.unlink()
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def shard_range(self, shard: int) -> range:
        """The positions of a shard's images in the list."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, len(self.items)))

    def missing_shards(self) -> list[int]:
        """The shards that are not in the folder yet, in order."""
        return [shard for shard in range(self.num_shards) if not self._shard_path(shard, "npy").exists()]

    def write_shard(self, shard: int, embeddings: np.ndarray, notes: pd.DataFrame) -> None:
        """Write one shard, whole or not at all.

        Args:
            shard: its number.
            embeddings: float32 ``(n, D)``, of all of its images; those of images with a problem are left out.
            notes: ``n`` rows with ``problem``, why an image has no embedding, else empty; ``converted``, whether its
                real colour was converted to grey; ``rows`` and ``columns`` as in its file; and ``resampled``,
                ``padded`` and ``clipped``, whether pixels were made square, padding or stray pixels were replaced.

        Raises:
            UnusableInputError: if the folder cannot be written.
        """
        usable = (notes["problem"] == "").to_numpy()
        try:
            # The array goes last: when it is there, so are the notes.
            with atomic_file(self._shard_path(shard, "json")) as file:
                file.write(json.dumps(notes.to_dict("list")).encode())
            with atomic_file(self._shard_path(shard, "npy")) as file:
                np.save(file, np.ascontiguousarray(embeddings[usable], dtype=np.float32))
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def load(self) -> EmbeddedImages:
        """Read all shards; the embeddings stay on disk until they are used.

        Raises:
            UnusableInputError: if a shard is missing or was damaged after it was written.
        """
        embeddings: list[np.ndarray] = []
        columns = ("problem", "converted", "rows", "columns", "resampled", "padded", "clipped")
        tables = [pd.DataFrame({name: [] for name in columns})]
        for shard in range(self.num_shards):
            path = self._shard_path(shard, "npy")
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
                table = pd.DataFrame(json.loads(self._shard_path(shard, "json").read_text(encoding="utf-8")))
                if len(array) != (table["problem"] == "").sum() or len(table) != len(self.shard_range(shard)):
                    raise ValueError(f"{len(array)} rows for the usable of {len(table)} images")
            except (OSError, ValueError, KeyError, EOFError) as error:
                raise UnusableInputError(
                    f"{path}: this part of the stored embeddings is missing or damaged ({error}). Remove "
                    f"{self.directory} and run again."
                ) from error
            embeddings += [array] if len(array) else []
            tables.append(table)
        notes = pd.concat(tables, ignore_index=True)
        usable = notes["problem"] == ""
        return EmbeddedImages(
            embeddings=embeddings,
            indices=np.flatnonzero(usable),
            problems=notes.loc[~usable, "problem"].to_dict(),
            converted=np.flatnonzero(notes["converted"]).tolist(),
            sizes=notes.loc[usable, ["rows", "columns"]].to_numpy(np.int64),
            **{name: np.flatnonzero(notes[name]).tolist() for name in ("resampled", "padded", "clipped")},
        )

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


def _digest_of_images(items: Sequence[Mapping[str, Any]], contents: Sequence[str]) -> str:
    """SHA-256 over every image's path, slice, window and content. A file that cannot be read counts as such."""
    digest = hashlib.sha256()
    for item, content in zip(items, contents, strict=True):
        known = [str(item.get(name)) for name in ("path", "slice", "slice_axis")]
        known += [item["window"]] if item.get("window") else []
        digest.update(json.dumps([*known, *content.split(" ")]).encode())
    return digest.hexdigest()


def _content_of(item: Mapping[str, Any], file_hashes: dict[str, str]) -> str:
    """Digests of the content of an image; those of files are kept by their path."""
    image = item["image"]
    if isinstance(image, torch.Tensor):
        return hashlib.sha256(image.numpy().tobytes()).hexdigest()
    if isinstance(image, DerivedImage):
        sources = [_digest_of_images([source], [_content_of(source, file_hashes)]) for source in image.sources]
        return hashlib.sha256(json.dumps([image.identity, *sources]).encode()).hexdigest()
    files = files_of(item)
    file_hashes.update({file: _digest_of_file(Path(file)) for file in files if file not in file_hashes})
    return " ".join(file_hashes[file] for file in files)


def _digest_of_file(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
