"""Controls of an audit: copies of its training images, planted and looked for as a synthetic image is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, Series

from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.options import AuditOptions
from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import match_images
from monai_deepssim.calibration import Thresholds
from monai_deepssim.data import plant_controls, plant_reconstructions
from monai_deepssim.networks import AutoencoderWeights
from monai_deepssim.progress import say
from monai_deepssim.report import CONTROLS_COLUMNS

__all__ = ["ControlPlanter", "score_controls"]

# What a demo shows, it shows with half of the controls, and is done earlier.
_DEMO_CONTROLS = 10


class ControlPlanter:
    """Plants copies of the training images.

    Args:
        options: the audit's options.

    Raises:
        UnusableInputError: when the autoencoder's weights cannot be used.
    """

    def __init__(self, options: AuditOptions) -> None:
        self.options = options
        self.weights = None if options.autoencoder is None else AutoencoderWeights(options.autoencoder)
        self.num_controls = options.controls or 0
        if options.demo and self.num_controls > _DEMO_CONTROLS:
            self.num_controls = _DEMO_CONTROLS
            say(f"The demo plants {_DEMO_CONTROLS} controls per change; an audit of folders plants {options.controls}.")

    def count(self, training: Side) -> int:
        """How many controls there will be, if all training images can be used."""
        planted = plant_controls(training.items, self.num_controls, self.options.image_size)
        return len(planted) + (0 if self.weights is None else min(self.num_controls, len(training.items)))

    def plant(self, training: EmbeddedSide, synthetic: EmbeddedSide) -> Side:
        """Plant copies of the training images that can be used.

        Args:
            training: the training side.
            synthetic: the synthetic side, whose images are as large as the generator makes them.
        """
        items, count = training.usable_items, self.num_controls
        controls = plant_controls(items, count, self.options.image_size)
        if self.weights is not None:
            (size, _), *_ = Counter(map(tuple, synthetic.images.sizes.tolist())).most_common(1)
            controls += plant_reconstructions(items, count, size, self.weights, self.options.device)
        if count > len(items):
            say(f"There are {len(items)} training images: as many controls are planted per change, not {count}.")
        return Side("control", training.side.source, controls, [], in_memory=True)


def score_controls(
    controls: EmbeddedSide, pairs: DataFrame, training: EmbeddedSide, thresholds: Thresholds
) -> DataFrame:
    """Say of each control whether it was found.

    A control is found where it is called a copy and a training image that it shows, or another one of the same patient,
    is among those that score above the threshold. The nearest of these need not be that image: of images that are twice
    in a training set, one is as near as the other. Of a mixture either image will do.

    Args:
        controls: the controls, embedded.
        pairs: pairs of the controls (``query``) with training images, the highest score of each control first.
        training: the training side.
        thresholds: thresholds of the score.

    Returns:
        The columns of ``controls.csv``, in the order in which the controls were planted.
    """
    matches = match_images(controls.usable_items, pairs, training.usable_items, thresholds, "").sort_index()
    items = [controls.usable_items[row] for row in matches.index]
    shows = _shows_source(pairs[pairs["score"] > thresholds.duplicate], controls.usable_items, training.patients)
    sources = [training.usable_items[item["sources"][0]] for item in items]
    table = DataFrame(
        {
            "change": [item["change"] for item in items],
            "level": Series([item["level"] for item in items], dtype=float),
            "unit": [item["unit"] for item in items],
            "training_path": [source["path"] for source in sources],
            "patient_id": [source["patient_id"] for source in sources],
            "nearest_path": matches["training_path"].to_numpy(),
            "score": matches["score"].to_numpy(float),
            "label": matches["label"].to_numpy(),
            "found": np.isin(matches.index, shows),
        }
    )
    return table[CONTROLS_COLUMNS]


def _shows_source(pairs: DataFrame, items: Sequence[dict[str, Any]], patients: Sequence[str]) -> np.ndarray:
    """Rows of the controls that were paired with an image that they show, or with another one of its patient."""
    rows = []
    for query, row in pairs[["query", "training"]].itertuples(index=False):
        sources = items[query]["sources"]
        known = {patients[source] for source in sources} - {""}
        if row in sources or patients[row] in known:
            rows.append(query)
    return np.array(rows, dtype=np.int64)
