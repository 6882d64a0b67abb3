"""Shards of embeddings: two files that say which images they are of, and are checked when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.stores import read_sealed_array, write_sealed_array

__all__ = ["EmbeddingShard", "gather_shard", "read_shards", "shard_name", "write_shard"]

_DIGITS = 16


@dataclass(frozen=True)
class EmbeddingShard:
    """The embeddings of some images.

    Attributes:
        made_by: what embedded them: the version of the store, the image size and the embedder.
        keys: of each image the digest of what it holds and how it is read.
        names: of each image the digest of its name.
        notes: a row for each image: why it has no embedding, and what was noticed.
        embeddings: float32 or float16 ``(n, D)``, memory-mapped where they are in a file: of the images that have one.
    """

    made_by: Mapping[str, Any]
    keys: list[str]
    names: list[str]
    notes: pd.DataFrame
    embeddings: np.ndarray

    @cached_property
    def rows(self) -> np.ndarray:
        """int64, the row of each image among the embeddings; -1 where it has none."""
        usable = (self.notes["problem"] == "").to_numpy()
        return np.where(usable, np.cumsum(usable) - 1, -1)


def shard_name(made_by: Mapping[str, Any], keys: Sequence[str], names: Sequence[str]) -> str:
    """Name a shard by what is in it, so that one of other images never has its name.

    Example:
        >>> shard_name({"embedder": "one"}, ["a"], ["b"]) == shard_name({"embedder": "another"}, ["a"], ["b"])
        False
    """
    content = json.dumps([dict(made_by), list(keys), list(names)], sort_keys=True).encode()
    return f"shard-{hashlib.sha256(content).hexdigest()[:_DIGITS]}"


def write_shard(directory: Path, shard: EmbeddingShard) -> EmbeddingShard:
    """Write a shard, whole or not at all.

    Args:
        directory: an existing folder.
        shard: what goes into ``shard-<digest>.npy`` and ``shard-<digest>.json``.

    Returns:
        The shard as it was read back, memory-mapped.

    Raises:
        UnusableInputError: if it cannot be written.
    """
    path = directory / f"{shard_name(shard.made_by, shard.keys, shard.names)}.npy"
    notes = {"made_by": shard.made_by, "keys": shard.keys, "names": shard.names, "notes": shard.notes.to_dict("list")}
    return replace(shard, embeddings=write_sealed_array(path, shard.embeddings, notes))


def read_shards(directory: Path) -> dict[str, EmbeddingShard]:
    """Read all shards of a folder, by name; one that is damaged is named on the terminal and removed."""
    shards = {path.stem: _read_shard(path) for path in sorted(directory.glob(f"shard-{'?' * _DIGITS}.json"))}
    return {name: shard for name, shard in shards.items() if shard is not None}


def _read_shard(notes_path: Path) -> EmbeddingShard | None:
    def fits_name(content: Any) -> bool:
        return notes_path.stem == shard_name(content["made_by"], content["keys"], content["names"])

    stored = read_sealed_array(notes_path.with_suffix(".npy"), fits_name)
    if stored is None:
        return None
    array, content = stored
    notes = pd.DataFrame(content["notes"])
    return EmbeddingShard(content["made_by"], content["keys"], content["names"], notes, array)


def gather_shard(entries: Sequence[tuple[EmbeddingShard, int]], names: Sequence[str]) -> EmbeddingShard:
    """A shard of images out of others.

    Args:
        entries: for each image a shard that has it, and its place there; at least one.
        names: digests of the names of these images.
    """
    shards = list({id(shard): shard for shard, _ in entries}.values())
    first_rows = dict(zip(map(id, shards), np.cumsum([0, *(len(shard.keys) for shard in shards)]), strict=False))
    chosen = [first_rows[id(shard)] + place for shard, place in entries]
    arrays = [shard.embeddings[shard.rows[place]] for shard, place in entries if shard.rows[place] >= 0]
    return EmbeddingShard(
        made_by=entries[0][0].made_by,
        keys=[shard.keys[place] for shard, place in entries],
        names=list(names),
        notes=pd.concat([shard.notes for shard in shards], ignore_index=True).iloc[chosen].reset_index(drop=True),
        embeddings=np.stack(arrays) if arrays else np.empty((0, 0), np.float32),
    )
