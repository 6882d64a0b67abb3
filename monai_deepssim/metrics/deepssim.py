"""DeepSSIM: the SSIM that an embedder sees between two images, whatever flips or contrast changes lie between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from monai.metrics.regression import RegressionMetric
from monai.utils import MetricReduction, convert_to_tensor

from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares
from monai_deepssim.similarity import standardize

__all__ = ["DeepSSIMMetric", "compute_deepssim"]


def compute_deepssim(embedder: torch.nn.Module, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r"""Compute the approximate SSIM of each image of one batch with its partner in another.

    .. math:: \operatorname{DeepSSIM}(x, y) = \cos\big(f(z(x)), f(z(y))\big)

    where z is the z-score over the whole image and f the embedder. Both batches go through the embedder together, in
    eval mode and without gradients; afterwards every module of it is in the mode in which it was.

    Scardace, Puglisi, Guarnera, Battiato, Ravì. *A Novel Metric for Detecting Memorization in Generative Models for
    Brain MRI Synthesis.* arXiv 2509.16582 (2025).

    Args:
        embedder: takes standardised images as they are here and returns ``(N, D)``.
        y_pred: ``(B, 1, H, W)`` images in [0, 1]; they are moved to the device of the embedder.
        y: their partners, of the same shape and range.

    Returns:
        ``(B, 1)`` cosines in [-1, 1], float32, on the device of ``y_pred``.

    Raises:
        TypeError: when an input is not a tensor.
        ValueError: when the shapes differ, are not batches of images, or the embedder does not return ``(N, D)``.

    Example:
        >>> embedder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 8))
        >>> images = torch.rand(3, 1, 64, 64)
        >>> scores = compute_deepssim(embedder, images, images)
        >>> scores.shape, bool((scores > 0.999).all())
        (torch.Size([3, 1]), True)
    """
    _check_images(y_pred, y)
    first_weight = next(embedder.parameters(), None)
    device = y_pred.device if first_weight is None else first_weight.device
    batches = [convert_to_tensor(batch.detach(), dtype=torch.float32, track_meta=False) for batch in (y_pred, y)]
    images = torch.cat(batches).to(device)
    with _eval_mode(embedder), torch.no_grad():
        embeddings = embedder(standardize(images))
    if not isinstance(embeddings, torch.Tensor) or embeddings.ndim != 2 or len(embeddings) != len(images):
        got = tuple(embeddings.shape) if isinstance(embeddings, torch.Tensor) else type(embeddings)
        raise ValueError(
            f"The embedder returned {got} for {len(images)} images, wanted ({len(images)}, D): one embedding per "
            "image. Wrap a network that returns feature maps in a module that pools them."
        )
    embeddings = F.normalize(embeddings.float(), dim=1)
    first, second = embeddings.chunk(2)
    return (first * second).sum(dim=1, keepdim=True).clamp(-1, 1).to(y_pred.device)


class DeepSSIMMetric(SyncsUnevenShares, RegressionMetric):
    """Computes DeepSSIM, the approximate SSIM of image pairs by the cosine of their embeddings.

    Used as :class:`monai.metrics.SSIMMetric` is. ``metric(y_pred, y)`` takes ``(B, 1, H, W)`` images in [0, 1], or
    lists of ``(1, H, W)`` images, standardises them, and gives one score per pair, ``(B, 1)``; see
    :func:`compute_deepssim`. ``aggregate()`` reduces all scores since ``reset()``, of all ranks. A score that is not a
    number, as of an image with a NaN in it, is left out of the reduction and not counted by ``not_nans``.

    Note:
        ``DistributedSampler`` with its default ``drop_last=False`` (``even_divisible=True`` in MONAI) repeats images
        until all ranks have equally many, and the repeated ones count twice. With ``even_divisible=False`` they do
        not; ranks may have uneven shares here, or none.

    Scardace, Puglisi, Guarnera, Battiato, Ravì. *A Novel Metric for Detecting Memorization in Generative Models for
    Brain MRI Synthesis.* arXiv 2509.16582 (2025).

    Args:
        embedder: takes standardised ``(N, 1, H, W)`` images and returns ``(N, D)`` embeddings.
        reduction: define the mode to reduce metrics, will only execute reduction on `not-nan` values,
            available reduction modes: {``"none"``, ``"mean"``, ``"sum"``, ``"mean_batch"``, ``"sum_batch"``,
            ``"mean_channel"``, ``"sum_channel"``}, default to ``"mean"``. if "none", will not do reduction.
        get_not_nans: whether to return the `not_nans` count, if True, aggregate() returns (metric, not_nans).
        device: where the embedder is moved to, and so where images are embedded; it stays where it is by default.

    Example:
        >>> embedder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 8))
        >>> metric = DeepSSIMMetric(embedder)
        >>> images = torch.rand(3, 1, 64, 64)
        >>> metric(images, images).shape
        torch.Size([3, 1])
        >>> round(metric.aggregate().item(), 4)
        1.0
    """

    def __init__(
        self,
        embedder: torch.nn.Module,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(reduction=reduction, get_not_nans=get_not_nans)
        self.embedder = embedder if device is None else embedder.to(device)

    def _check_shape(self, y_pred: torch.Tensor, y: torch.Tensor) -> None:
        _check_images(y_pred, y)

    def _compute_metric(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return compute_deepssim(self.embedder, y_pred, y)


@contextmanager
def _eval_mode(network: torch.nn.Module) -> Iterator[None]:
    # monai.networks.eval_mode ends in network.train(), which would wake up frozen parts that were in eval mode.
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_images(y_pred: torch.Tensor, y: torch.Tensor) -> None:
    for name, images in (("y_pred", y_pred), ("y", y)):
        if not isinstance(images, torch.Tensor):
            raise TypeError(f"{name} is {type(images)}, wanted a tensor (B, 1, H, W).")
    if y_pred.shape != y.shape:
        raise ValueError(
            f"y_pred has shape {tuple(y_pred.shape)} and y {tuple(y.shape)}, wanted the same shape (B, 1, H, W), one "
            "partner for each image. Pair the images and bring them to one size first, with "
            "monai.transforms.ResizeWithPadOrCrop for example."
        )
    if y_pred.ndim not in (4, 5) or len(y_pred) == 0:
        raise ValueError(
            f"y_pred and y have shape {tuple(y_pred.shape)}, wanted (B, 1, H, W) with B of 1 or more. A single image "
            "(1, H, W) becomes a batch with image[None]."
        )
