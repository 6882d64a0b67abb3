"""The images that a generator is trained on: of the user or of the phantom cohort, repeated and conditioned."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, EnsureTyped, SelectItemsd
from monai.utils import ensure_tuple
from torch import Tensor
from torch.utils.data import Subset

from monai_deepssim.csv_cells import safe_table
from monai_deepssim.data import (
    ImageSource,
    LoadSliced,
    SliceSelection,
    list_images,
    make_phantom_cohort,
    split_by_patient,
    write_png,
)
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ensure_writable, unwritable, write_text
from monai_deepssim.generators.conditioning import VariableScaling, read_vectors, variable_values
from monai_deepssim.generators.duplication import repetition_counts
from monai_deepssim.transforms import FitImageSized

__all__ = ["GeneratorImages"]

# Two seeds of the phantom cohort never share a subject.
_HELD_OUT_SEEDS = 1_000_000
_CONDITIONINGS = ("none", "variables", "text")


class GeneratorImages(CacheDataset):
    """Training or validation images of a generator, as a MONAI data set.

    Held-out images are of patients who are not in training: those of ``validation_dir``, or ``num_validation`` patients
    put aside by ``seed``; of the phantom cohort, ``num_validation`` subjects of a seed of their own. A training image
    that is repeated is there as often as it was drawn, and is loaded and cached once.

    Args:
        dataset_dir: the user's images, as :func:`~monai_deepssim.data.list_images` takes them.
        phantom: arguments of :func:`~monai_deepssim.data.make_phantom_cohort` (``organ``, brain by default,
            ``num_subjects``, ``seed`` and others), whose cohort is then used in place of ``dataset_dir``; ``None`` for
            the user's images.
        image_size: rows and columns that every image is brought to, its aspect kept.
        duplication: ``"none"``, ``"low"``, ``"high"`` or a CSV of counts, see
            :func:`~monai_deepssim.generators.repetition_counts`. Validation images are there once.
        conditioning: ``"none"``; ``"variables"``, the columns ``conditioning_columns`` of the data list (of the phantom
            cohort: :data:`~monai_deepssim.data.PHANTOM_VARIABLES`), each scaled to [0, 1] by its range in the training
            images; or ``"text"``, the vector that ``conditioning_file`` has for the image, as it is.
        conditioning_columns: names of the variables.
        conditioning_file: path of a file of vectors by image, see :func:`~monai_deepssim.generators.read_vectors`.
        split: ``"training"`` or ``"validation"``.
        validation_dir: held-out images; all of ``dataset_dir`` is then for training.
        num_validation: number of patients put aside, or of phantom subjects drawn; 1 or more.
        seed: seed of the held-out patients and the repetitions.
        patient_id_pattern: as in :func:`~monai_deepssim.data.list_images`.
        slices: as in :func:`~monai_deepssim.data.list_images`.
        slice_axis: as in :func:`~monai_deepssim.data.list_images`.
        transform: applied to each item at last; random transforms are applied anew at each access.
        cache_rate: share of the images that is held in memory, 0 to 1.
        num_workers: threads that fill the cache.
        progress: whether to show a progress bar while the cache is filled.

    Returns:
        Items with ``image``, a ``(1, *image_size)`` float32 tensor in [0, 1]; ``path`` and ``patient_id``; and where
        conditioned ``context``, ``(1, C)``.

    Raises:
        UnusableInputError: there are no such images, too few patients to put some aside, or repetitions or conditions
            that cannot be used.
        ValueError: ``split`` is not one of these.

    Example:
        >>> images = GeneratorImages(phantom={"num_subjects": 3, "seed": 7}, image_size=(80, 64), duplication="low",
        ...     conditioning="variables", conditioning_columns=["csf_fraction"], progress=False)
        >>> images.copies, len(images) == sum(images.copies)
        ([2, 4, 2], True)
        >>> images[0]["path"], images[0]["image"].shape, images[0]["context"].shape
        ('phantom-7-0/basal_ganglia', torch.Size([1, 80, 64]), torch.Size([1, 1]))
    """

    def __init__(
        self,
        dataset_dir: ImageSource | None = None,
        phantom: Mapping[str, Any] | None = None,
        image_size: Sequence[int] = (136, 112),
        *,
        duplication: str | os.PathLike[str] = "none",
        conditioning: str = "none",
        conditioning_columns: Sequence[str] = (),
        conditioning_file: str | os.PathLike[str] | None = None,
        split: str = "training",
        validation_dir: ImageSource | None = None,
        num_validation: int = 32,
        seed: int = 0,
        patient_id_pattern: str | None = None,
        slices: SliceSelection = None,
        slice_axis: int = 2,
        transform: Sequence[Callable] | Callable | None = None,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
    ) -> None:
        if split not in ("training", "validation"):
            raise ValueError(f"got split={split!r}, want training or validation")
        if conditioning not in _CONDITIONINGS:
            raise UnusableInputError(f"conditioning is {conditioning!r}, wanted none, variables or text.")
        source: object = dataset_dir if isinstance(dataset_dir, str | os.PathLike) else "the images"
        reading: list[Callable] = [LoadSliced("image"), FitImageSized("image", image_size)]
        if phantom is None:
            listing = {"patient_id_pattern": patient_id_pattern, "slices": slices, "slice_axis": slice_axis}
            training, validation = _split(dataset_dir, validation_dir, num_validation, seed, listing)
        else:
            source, reading = "the phantom cohort", []
            needs_training = split == "training" or conditioning == "variables"
            training = _phantoms(phantom, image_size, progress) if needs_training else []
            held_out = {**phantom, "num_subjects": num_validation, "seed": phantom.get("seed", 0) + _HELD_OUT_SEEDS}
            validation = _phantoms(held_out, image_size, progress) if split == "validation" else []
        items = training if split == "training" else validation
        #: How variables were scaled; ``None`` unless conditioned on variables.
        self.scaling: VariableScaling | None = None
        if conditioning == "variables":
            values = variable_values(training, conditioning_columns, source)
            self.scaling = VariableScaling.of(conditioning_columns, values)
            values = values if items is training else variable_values(items, conditioning_columns, source)
            items = [{**item, "context": self.scaling.context(row)} for item, row in zip(items, values, strict=True)]
        elif conditioning == "text":
            items = _with_vectors(items, conditioning_file)
        #: How often each image of ``data`` is there.
        self.copies = repetition_counts(items, duplication if split == "training" else "none", seed)
        self._positions = np.repeat(np.arange(len(items)), self.copies)
        keys = ["image", "path", "patient_id", *(["context"] if conditioning != "none" else [])]
        tensors = EnsureTyped("image", dtype=torch.float32, track_meta=False)
        steps = [*reading, SelectItemsd(keys), tensors, *ensure_tuple(transform or ())]
        super().__init__(
            items, Compose(steps), cache_rate=cache_rate, num_workers=num_workers, progress=progress and bool(reading)
        )

    def __len__(self) -> int:
        return len(self._positions)

    def _transform(self, index: int) -> Any:
        return super()._transform(int(self._positions[index]))

    @property
    def contexts(self) -> Tensor | None:
        """Contexts of the images of ``data``, each once, ``(number of images, 1, C)``; ``None`` without conditions."""
        return torch.stack([item["context"] for item in self.data]) if self.context_size else None

    @property
    def context_size(self) -> int:
        """C, the numbers in an image's context; 0 without conditions."""
        return int(self.data[0]["context"].shape[-1]) if "context" in self.data[0] else 0

    def once(self) -> Subset:
        """View the images with each of them there once, however often it is repeated.

        Returns:
            A data set of the items, in the order of ``data``.

        Example:
            >>> images = GeneratorImages(phantom={"num_subjects": 2, "seed": 7}, image_size=(80, 64), progress=False,
            ...     duplication="high")
            >>> len(images) > 2, [item["path"] for item in images.once()]
            (True, ['phantom-7-0/basal_ganglia', 'phantom-7-1/basal_ganglia'])
        """
        return Subset(self, np.unique(self._positions, return_index=True)[1].tolist())

    def write(self, output_dir: str | os.PathLike[str]) -> Path:
        """Write the images as a generator sees them, and how often it sees each.

        Args:
            output_dir: folder that gets ``training_images/``, 8-bit grey PNG files, each image once; and
                ``repetitions.csv``, with ``image``, ``source`` (its path in the data list), ``patient_id`` and
                ``copies``, a data list that ``memorization_audit --training_dir`` takes as well as the folder.

        Returns:
            The path of ``repetitions.csv``.

        Raises:
            UnusableInputError: the folder holds the images of another training, or cannot be written.
        """
        folder, table = Path(output_dir) / "training_images", Path(output_dir) / "repetitions.csv"
        names = [f"{position:05d}_{_file_name(item['path'])}.png" for position, item in enumerate(self.data)]
        sources = pd.DataFrame(
            {
                "image": [f"{folder.name}/{name}" for name in names],
                "source": [item["path"] for item in self.data],
                "patient_id": [item["patient_id"] for item in self.data],
                "copies": self.copies,
            }
        )
        rows = safe_table(sources).to_csv(index=False, lineterminator="\n")
        ensure_writable(folder)
        if table.exists() and table.read_text(encoding="utf-8") != rows:
            raise UnusableInputError(
                f"{table}: this folder holds a training on other images, or on other repetitions of them. Give "
                "another output_dir, or remove it."
            )
        try:
            for position, name in enumerate(names):
                write_png(folder / name, super()._transform(position)["image"])
        except OSError as error:
            raise unwritable(folder, error) from error
        write_text(table, rows)  # last: a training is known by a table that is whole
        return table


def _phantoms(phantom: Mapping[str, Any], image_size: Sequence[int], progress: bool) -> list[dict[str, Any]]:
    try:
        cohort = make_phantom_cohort(**{"progress": progress, **phantom, "image_size": tuple(image_size)})
    except (ImportError, TypeError, ValueError) as error:
        raise UnusableInputError(f"phantom is {dict(phantom)}, which makes no cohort: {error}") from error
    return [cohort[position] for position in range(len(cohort))]


def _split(
    dataset_dir: ImageSource | None,
    validation_dir: ImageSource | None,
    num_validation: int,
    seed: int,
    listing: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and held-out items of the user's images."""
    if dataset_dir is None:
        raise UnusableInputError(
            "dataset_dir is not given, and there is no phantom cohort either. Name the folder or list of your images."
        )
    items = list_images(dataset_dir, **listing)
    if validation_dir is not None:
        return items, list_images(validation_dir, **listing)
    num_patients = len({item["patient_id"] or f"item {position}" for position, item in enumerate(items)})
    if not 0 < num_validation < num_patients:
        raise UnusableInputError(
            f"num_validation is {num_validation}, and {dataset_dir} has images of {num_patients} patients (an image "
            "without a patient counts as one). Put at least one aside and leave at least one, or give validation_dir."
        )
    # The share of the patients is rounded up.
    return split_by_patient(items, (num_validation - 0.5) / num_patients, seed)


def _with_vectors(
    items: list[dict[str, Any]], conditioning_file: str | os.PathLike[str] | None
) -> list[dict[str, Any]]:
    if conditioning_file is None:
        raise UnusableInputError("conditioning on text needs conditioning_file, the embeddings of the captions.")
    vectors = read_vectors(conditioning_file)
    missing = [item["path"] for item in items if item["path"] not in vectors]
    if missing:
        others = f", nor for {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UnusableInputError(
            f"{conditioning_file}: there is no vector for {missing[0]!r}{others}; it has one for "
            f"{next(iter(vectors))!r}. Name the vectors by the paths of the images, and give one for each."
        )
    return [{**item, "context": vectors[item["path"]]} for item in items]


def _file_name(path: str) -> str:
    """A path as a part of a file's name: the suffix is left out, as another is added."""
    name, mark, place = path.partition("#")
    stem = re.sub(r"(\.nii)?\.\w{2,5}$", "", name)
    return re.sub(r"[^\w.=-]+", "_", f"{stem}{mark}{place}")[-120:]
