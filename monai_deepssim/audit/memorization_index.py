"""The Memorization Index beside the audit's own score, for those who asked for it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from monai.data import DataLoader
from pandas import DataFrame

from monai_deepssim.audit.detector import AuditDetector
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.data import ImageDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import DeepSSIMDetector, MemorizationIndexMetric
from monai_deepssim.progress import progress_bar

__all__ = ["add_memorization_index"]


def add_memorization_index(
    matches: DataFrame,
    training: EmbeddedSide,
    synthetic: EmbeddedSide,
    detector: AuditDetector,
    options: SearchOptions,
) -> DataFrame:
    """Give each match its MI and its ONI.

    Args:
        matches: matches of all synthetic images.
        training: the training side.
        synthetic: the synthetic side.
        detector: the audit's detector; a Memorization Index detector gives its own indices, for DeepSSIM the stages are
            used.
        options: the audit's options.

    Returns:
        The matches in the same order.

    Raises:
        UnusableInputError: when the detector is another one, or there are too few training images.
    """
    if isinstance(detector.metric, MemorizationIndexMetric):
        metric = detector.metric
    elif isinstance(detector.metric, DeepSSIMDetector):
        try:
            metric = MemorizationIndexMetric(detector.metric.embedder, device=options.device)
            metric.fit(_batches(training, options))
        except ValueError as error:
            raise UnusableInputError(f"--memorization_index: {error}.") from error
    else:
        raise UnusableInputError(
            f"--memorization_index: is reported beside --detector deepssim or memorization_index, not {detector.name}. "
            "Leave one of the two options out."
        )
    representations = torch.cat([metric.represent_batch(images) for images in _batches(synthetic, options)])
    index = metric.compute_index(representations)
    return matches.assign(mi=index.mi.numpy()[matches.index], oni=index.oni.numpy()[matches.index])


def _batches(side: EmbeddedSide, options: SearchOptions) -> Iterator[torch.Tensor]:
    dataset = ImageDataset(side.usable_items, image_size=options.image_size)
    loader = DataLoader(dataset, batch_size=options.batch_size, num_workers=options.num_workers)
    for batch in progress_bar(loader, desc=f"index of {side.side.name} images", unit=" batches"):
        for problem in filter(None, batch["problem"]):
            raise UnusableInputError(problem)
        yield torch.as_tensor(batch["image"])
