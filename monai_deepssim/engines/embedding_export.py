"""Embeddings as two plain files: one array, and a table that says which row is which image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monai_deepssim.csv_cells import safe_table
from monai_deepssim.engines.embedded_images import EmbeddedImages
from monai_deepssim.files import atomic_file, make_folder, write_text
from monai_deepssim.progress import say

__all__ = ["export_embeddings"]


def export_embeddings(
    embedded: EmbeddedImages, items: Sequence[Mapping[str, Any]], output_dir: str | os.PathLike[str]
) -> Path:
    """Write ``embeddings.npy`` and ``images.csv`` and say how many images have an embedding.

    Args:
        embedded: what :func:`embed_images` returned for these items.
        items: the images, as :func:`monai_deepssim.data.list_images` lists them.
        output_dir: an existing or new folder.

    Returns:
        The path of ``embeddings.npy``, float32 ``(N, D)``. ``images.csv`` has one line per image: ``path``,
        ``patient_id``, ``row`` (of the array; empty where there is none) and ``problem`` (why there is none).

    Example:
        >>> import tempfile
        >>> one = EmbeddedImages(
        ...     [np.ones((1, 4), np.float32)], np.array([1]), {0: "empty file"}, [], sizes=np.array([[9, 9]])
        ... )
        >>> items = [{"path": "a.png", "patient_id": ""}, {"path": "b.png", "patient_id": "7"}]
        >>> np.load(export_embeddings(one, items, tempfile.mkdtemp())).shape
        1 of 2 images embedded; without: a.png (empty file)
        (1, 4)
    """
    folder = Path(output_dir)
    make_folder(folder)
    rows = {int(index): row for row, index in enumerate(embedded.indices)}
    table = pd.DataFrame(
        {
            "path": [item["path"] for item in items],
            "patient_id": [item["patient_id"] for item in items],
            "row": pd.array([rows.get(position) for position in range(len(items))], dtype="Int64"),
            "problem": [embedded.problems.get(position, "") for position in range(len(items))],
        }
    )
    write_text(folder / "images.csv", safe_table(table).to_csv(index=False))
    embeddings = np.concatenate(embedded.embeddings) if embedded.embeddings else np.zeros((0, 0), np.float32)
    with atomic_file(folder / "embeddings.npy") as file:
        np.save(file, embeddings)
    without = [f"{items[position]['path']} ({problem})" for position, problem in sorted(embedded.problems.items())]
    say(f"{len(rows)} of {len(items)} images embedded" + (f"; without: {', '.join(without)}" if without else ""))
    return folder / "embeddings.npy"
