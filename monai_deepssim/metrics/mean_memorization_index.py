"""The Memorization Index of a set of synthetic images as one number, for a metric that runs beside a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from monai_deepssim.metrics.deepssim import _eval_mode
from monai_deepssim.metrics.detectors.memorization_index import MemorizationIndexMetric
from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MeanMemorizationIndexMetric"]

_SUMMARIES = ("mi", "oni", "copy_fraction")


class MeanMemorizationIndexMetric(MemorizationIndexMetric):
    r"""Computes the mean Memorization Index of synthetic images, of all ranks.

    .. math::
        \overline{\mathrm{MI}} = \frac{1}{N} \sum_{j=1}^N \frac{s_j - \mu}{\sigma}
        \qquad \overline{\mathrm{ONI}} = \frac{1}{N} \sum_{j=1}^N -\tanh \mathrm{MI}_j

    ``fit(training_loader)`` once, on every rank; then ``metric(synthetic_images)`` batch by batch, with
    ``(B, 1, H, W)`` in [0, 1] or a list of ``(1, H, W)``; ``aggregate()`` is the mean since ``reset()``. Ranks may have
    uneven shares of either, or none. An image without a score, because a pixel or a feature is not finite, is left out;
    of such images alone the mean is NaN. The network represents in eval mode, whatever mode it is in.

    Args:
        embedder: as for :class:`MemorizationIndexMetric`.
        summary: ``"mi"``; ``"oni"``, which lies between -1 (memorized) and 1 (novel), so that one exact copy among many
            images does not decide it; or ``"copy_fraction"``, the share of images with an MI above ``threshold``.
        kwargs: further arguments of :class:`MemorizationIndexMetric`.

    Raises:
        ValueError: when ``summary`` is another word, or asks for a share without a threshold.

    References:
        Deo et al., A Calibrated Memorization Index (MI) for Detecting Training Data Leakage in Generative MRI Models,
        arXiv 2602.13066.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 5), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 5))
        >>> images = torch.rand(40, 1, 32, 32)
        >>> metric = MeanMemorizationIndexMetric(network, "oni", layers=["0", "2"]).fit(images[:30].split(10))
        >>> _ = metric(images[:5])
        >>> copied = metric.aggregate().item()
        >>> metric.reset()
        >>> _ = metric(images[30:])
        >>> copied < -0.5, copied < metric.aggregate().item()
        (True, True)
    """

    def __init__(self, embedder: Any, summary: str = "mi", **kwargs: Any) -> None:
        super().__init__(embedder, **kwargs)
        if summary not in _SUMMARIES:
            raise ValueError(f"got summary={summary!r}, want one of {', '.join(_SUMMARIES)}")
        if summary == "copy_fraction" and self.threshold is None:
            raise ValueError("got summary='copy_fraction' without a threshold, want the MI above which is a copy")
        self.summary = summary

    def fit(self, training_images: Iterable[Tensor | Mapping[str, Any]]) -> Self:
        """Represent the training images, each rank its share, and fit whitening and null to those of all ranks.

        In a distributed run every rank has to call it, also one that has no share.

        Args:
            training_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``; without random
                augmentation.

        Returns:
            This object.

        Raises:
            ValueError: when all ranks together have fewer than 4 images.
        """
        share = SyncsUnevenShares()  # type: ignore[abstract]
        for part in self.represent_training(training_images):
            share.extend(*part)
        gathered = share.get_buffer()
        if gathered is None:
            raise ValueError("there are no training images: the loader gave no batch, on any rank")
        return self.fit_representations(*([gathered] if isinstance(gathered, Tensor) else gathered))

    def represent(self, images: Tensor) -> Tensor:
        with _eval_mode(self.features):
            return super().represent(images)

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """Compute what ``summary`` names, over all images since ``reset()``.

        Returns:
            A scalar tensor; NaN when no image has a score.
        """
        if self.summary == "copy_fraction":
            return super().aggregate()
        buffer = self.get_buffer()
        if buffer is None or len(buffer) == 0:
            return torch.tensor(torch.nan)
        indices = buffer[:, 0][~buffer[:, 0].isnan()]
        return (-indices.tanh() if self.summary == "oni" else indices).mean()
