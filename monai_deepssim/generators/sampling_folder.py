"""A folder of drawn images, with a manifest that tells how to draw each of them again."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai
import nibabel as nib
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from PIL import Image
from torch import Tensor

from monai_deepssim.csv_cells import safe_table
from monai_deepssim.data import read_table
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file, make_folder, write_text
from monai_deepssim.generators.sampling_dataset import Conditions

__all__ = ["SampleFolder"]

# MONAI from 1.6.0 on takes other steps than before, so that one seed gives two images.
_COLUMNS = (
    *("image", "index", "seed", "condition"),
    *("num_inference_steps", "generator_sha256", "settings_sha256", "monai_version"),
)


class SampleFolder:
    """Ignite handler that writes what an evaluator draws, and takes up where it was stopped.

    Files are named by the image's number, and read back by :func:`~monai_deepssim.data.load_slice` as the picture that
    was drawn: PNG of 8 bits, or NIfTI of 32-bit floats, one axial slice with the front at the top and the right on the
    left. ``manifest.csv`` has one row per file: ``image, index, seed, condition, num_inference_steps, generator_sha256,
    settings_sha256, monai_version``. It is a data list that ``memorization_audit --synthetic_dir`` takes as well as the
    folder.

    Args:
        output_dir: the folder; made when it is not there.
        generator_sha256: hash of the diffusion model's file.
        num_inference_steps: number of sampling steps.
        settings: what else an image depends on, by name: the autoencoder, the scale factor, the noise schedule.
        seed: seed of image 0.
        file_format: ``"png"`` or ``"nii.gz"``.
        pixel_size_mm: side of a pixel, for NIfTI.

    Raises:
        UnusableInputError: the folder holds images of another generator, another seed or other settings, which one
            manifest cannot describe; or the format is not one of these.

    Example:
        >>> import tempfile
        >>> folder = SampleFolder(tempfile.mkdtemp(), generator_sha256="ab12", num_inference_steps=50, seed=100)
        >>> folder.write(torch.rand(1, 136, 112), index=7)
        >>> folder.missing(range(6, 9))
        [6, 8]
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        generator_sha256: str,
        num_inference_steps: int,
        seed: int = 0,
        file_format: str = "png",
        pixel_size_mm: float = 1.0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if file_format not in ("png", "nii.gz"):
            raise UnusableInputError(f"file_format is {file_format!r}, wanted png or nii.gz.")
        self.directory = Path(output_dir)
        self.manifest = self.directory / "manifest.csv"
        self.num_inference_steps = int(num_inference_steps)
        self.seed = seed
        self.suffix = f".{file_format}"
        self.pixel_size_mm = pixel_size_mm
        make_folder(self.directory)
        digest = hashlib.sha256(json.dumps(dict(settings or {}), sort_keys=True).encode()).hexdigest()
        self._expected = [str(self.num_inference_steps), generator_sha256, digest, monai.__version__]
        self._rows = self._read()
        self._write_manifest()

    def attach(self, engine: Evaluator) -> None:
        """Attach to a MONAI evaluator, whose batches come from a SamplingDataset and are not decollated."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the images of a batch, and then their rows of the manifest."""
        batch: Mapping = engine.state.batch  # type: ignore[assignment]
        images: Tensor = engine.state.output["pred"]  # type: ignore[index, call-overload]
        conditions: Sequence[str] = batch.get("condition", [""] * len(images))
        for image, index, condition in zip(images, batch["index"].tolist(), conditions, strict=True):
            self._write_image(image, index, condition)
        self._write_manifest()

    def missing(
        self, indices: Sequence[int] | range, conditions: Conditions | None = None, images_per_condition: int = 1
    ) -> list[int]:
        """Say which of the images are still to be drawn.

        Args:
            indices: numbers of images.
            conditions: what the generator is told, as of :class:`SamplingDataset`.
            images_per_condition: how many images each condition gets, as of :class:`SamplingDataset`.

        Returns:
            Those that the manifest or the folder does not have, in the same order.

        Raises:
            UnusableInputError: an image that is there was drawn under another condition.
        """
        for index in indices:
            wanted = "" if conditions is None else conditions.of_image(index, images_per_condition)[1]
            if index in self._rows and self._rows[index][3] != wanted:
                raise UnusableInputError(
                    f"{self.manifest}: image {index} was drawn under {self._rows[index][3] or 'no condition'!r}, and "
                    f"{wanted or 'no condition'!r} is wanted now. Give another samples_dir, or remove it."
                )
        return [index for index in indices if index not in self._rows]

    def write(self, image: Tensor, index: int, condition: str = "") -> None:
        """Write one image, and then its row of the manifest.

        Args:
            image: ``(1, H, W)`` in [0, 1].
            index: its number.
            condition: what the generator was told.
        """
        self._write_image(image, index, condition)
        self._write_manifest()

    def _write_image(self, image: Tensor, index: int, condition: str) -> None:
        name = f"{index:06d}{self.suffix}"
        pixels = image.detach().cpu().float().clamp(0, 1)[0]
        with atomic_file(self.directory / name) as file:
            if self.suffix == ".png":
                Image.fromarray((pixels * 255).round().to(torch.uint8).numpy()).save(file, format="PNG")
            else:
                # From the patient's left to the right and from the back to the front (RAS), as NIfTI is read.
                stored = np.ascontiguousarray(pixels.numpy()[::-1, ::-1].T)[..., None]
                affine = np.diag([self.pixel_size_mm, self.pixel_size_mm, 1.0, 1.0])
                # A zero modification time, so that the same image gives the same file.
                file.write(gzip.compress(nib.Nifti1Image(stored, affine).to_bytes(), mtime=0))
        self._rows[index] = [name, str(index), str(self.seed + index), condition, *self._expected]

    def _read(self) -> dict[int, list[str]]:
        """Rows of the images that are there, by number."""
        rows: dict[int, list[str]] = {}
        # Without an image it has a header alone, which is no table.
        if not self.manifest.is_file() or self.manifest.read_text(encoding="utf-8").count("\n") < 2:
            return rows
        for line, cells in read_table(self.manifest):
            row = [cells.get(column, "") for column in _COLUMNS]
            index = int(row[1])
            if row[4:] != self._expected or int(row[2]) != self.seed + index or not row[0].endswith(self.suffix):
                raise UnusableInputError(
                    f"{self.manifest}, line {line}: the folder holds images of another generator, seed, format, "
                    "number of inference steps, scale factor, noise schedule or version of MONAI. Give another "
                    "output_dir for these, or remove it."
                )
            if (self.directory / row[0]).is_file():
                rows[index] = row
        return rows

    def _write_manifest(self) -> None:
        table = pd.DataFrame(list(self._rows.values()), columns=list(_COLUMNS))
        write_text(self.manifest, safe_table(table).to_csv(index=False, lineterminator="\n"))
