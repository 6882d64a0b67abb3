"""How well cosines of embeddings match the SSIM of their images, over all pairs of a validation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from monai.metrics.metric import CumulativeIterationMetric
from monai.utils import convert_to_tensor

from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares
from monai_deepssim.similarity import pairwise_ssim

__all__ = ["SSIMMatchingMetric", "compute_ssim_matching_errors", "compute_ssim_matching_table"]

SSIM_TENTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def compute_ssim_matching_errors(
    embeddings: torch.Tensor, images: torch.Tensor, *, block_size: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Compute the errors of cosines against SSIM over all unordered pairs of images.

    .. math::
        e_{ij} = \cos(f_i, f_j) - \tfrac{1}{2}\big(\operatorname{SSIM}(x_i, x_j) + \operatorname{SSIM}(x_j, x_i)\big)
        \qquad \text{MSE} = \operatorname{mean}_{i<j} e_{ij}^2 \qquad \text{MAE} = \operatorname{mean}_{i<j} |e_{ij}|

    SSIM is the mean of both orders, as it takes its data range from its first image. The pairs are gone through in
    blocks, so no ``N x N`` matrix is held.

    Scardace, Puglisi, Guarnera, Battiato, Ravì. *A Novel Metric for Detecting Memorization in Generative Models for
    Brain MRI Synthesis.* arXiv 2509.16582 (2025).

    Args:
        embeddings: ``(N, D)``, N of 2 or more, of any length: they are normalised here.
        images: ``(N, 1, H, W)`` or ``(N, 1, H, W, D)``, clean (not augmented) and standardised, in the same order.
        block_size: images of a block, on both sides of the pairs.

    Returns:
        ``(mse, mae)``, float64 scalars on the CPU.

    Raises:
        ValueError: when there are fewer than two images, or not one embedding for each.

    Example:
        >>> images = torch.randn(5, 1, 64, 64)
        >>> mse, mae = compute_ssim_matching_errors(torch.eye(5), images)
        >>> bool(mse < 0.01), bool(mae < 0.1)
        (True, True)
    """
    squared, absolute, num_pairs = torch.zeros(3, dtype=torch.float64)
    for cosines, ssims in _iterate_pairs(embeddings, images, block_size):
        errors = cosines - ssims
        squared += errors.square().sum()
        absolute += errors.abs().sum()
        num_pairs += len(errors)
    return squared / num_pairs, absolute / num_pairs


def compute_ssim_matching_table(
    embeddings: torch.Tensor,
    images: torch.Tensor,
    *,
    edges: Sequence[float] = SSIM_TENTHS,
    block_size: int = 256,
) -> list[dict[str, float | int | None]]:
    """Compute the errors of cosines against SSIM apart for each tenth of SSIM.

    Most pairs of a validation set are unrelated, with an SSIM of 0.30 in the median (0.14 to 0.46 in 98 % of the pairs:
    ``benchmarks/pose_blind_error.py``), so that errors over all pairs hardly show how the rare similar ones are scored.
    Pairs outside of the edges are left out.

    Args:
        embeddings: as for :func:`compute_ssim_matching_errors`.
        images: as for :func:`compute_ssim_matching_errors`.
        edges: ascending limits of the bins; a bin holds its lower limit, and the last one its upper limit too.
        block_size: as for :func:`compute_ssim_matching_errors`.

    Returns:
        A dictionary a bin: ``ssim_from``, ``ssim_to``, ``num_pairs``, ``mse`` and ``mae``, which are None in a bin
        without pairs.

    Raises:
        ValueError: when there are fewer than two images, not one embedding for each, or the edges do not ascend.

    Example:
        >>> image = torch.randn(1, 1, 64, 64)
        >>> table = compute_ssim_matching_table(torch.ones(2, 4), torch.cat([image, image]))
        >>> table[-1]["num_pairs"], round(table[-1]["mae"], 4), table[0]["mae"]
        (1, 0.0, None)
    """
    limits = torch.tensor(edges, dtype=torch.float64)
    if len(limits) < 2 or not bool((limits.diff() > 0).all()):
        raise ValueError(f"got edges {tuple(edges)}, want two or more in ascending order.")
    num_bins = len(limits) - 1
    squared, absolute, counts = torch.zeros(3, num_bins, dtype=torch.float64)
    for cosines, ssims in _iterate_pairs(embeddings, images, block_size):
        bins = torch.bucketize(ssims, limits, right=True) - 1
        bins[ssims == limits[-1]] = num_bins - 1
        inside = (bins >= 0) & (bins < num_bins)
        errors, bins = (cosines - ssims)[inside], bins[inside]
        squared.index_add_(0, bins, errors.square())
        absolute.index_add_(0, bins, errors.abs())
        counts.index_add_(0, bins, torch.ones_like(errors))
    return [
        {
            "ssim_from": float(edges[i]),
            "ssim_to": float(edges[i + 1]),
            "num_pairs": int(counts[i]),
            "mse": float(squared[i] / counts[i]) if counts[i] else None,
            "mae": float(absolute[i] / counts[i]) if counts[i] else None,
        }
        for i in range(num_bins)
    ]


class SSIMMatchingMetric(SyncsUnevenShares, CumulativeIterationMetric):
    """Computes how well cosines of embeddings match the SSIM of their images, over all pairs of a validation set.

    ``metric(y_pred=embeddings, y=images)`` keeps embeddings and clean images, batch after batch; ``aggregate()``
    compares all pairs at once, across batches and ranks, by :func:`compute_ssim_matching_errors`. It takes ``(B, D)``
    and ``(B, 1, H, W)`` tensors, or lists of ``(D,)`` and ``(1, H, W)``, as MONAI's evaluators make them. Lower is
    better: as key metric it needs ``metric_cmp_fn=lambda current, best: current < best`` in the evaluator and
    ``key_metric_negative_sign=True`` in the saver. ``get_buffer()`` gives ``[embeddings, images]``, for
    :func:`compute_ssim_matching_table`; in ``IgniteMetricHandler``, ``save_details=False`` spares a copy of them.

    Note:
        ``DistributedSampler`` with its default ``drop_last=False`` (``even_divisible=True`` in MONAI) repeats images
        until all ranks have equally many. A repeated image makes a pair with itself, of SSIM 1 and cosine 1, and the
        errors come out too low. Use ``even_divisible=False``: ranks may have uneven shares here, or none.

    Args:
        metric_name: ``"mse"`` or ``"mae"``: which error ``aggregate()`` gives.
        block_size: images of a block, on both sides of the pairs.

    Raises:
        ValueError: when ``metric_name`` is neither.

    Example:
        >>> metric = SSIMMatchingMetric("mae")
        >>> image = torch.randn(1, 1, 64, 64)
        >>> for _ in range(2):
        ...     _ = metric(y_pred=torch.ones(1, 8), y=image)
        >>> round(metric.aggregate().item(), 4)
        0.0
    """

    def __init__(self, metric_name: str = "mse", *, block_size: int = 256) -> None:
        super().__init__()
        self.metric_name = _check_name(metric_name)
        self.block_size = block_size

    def aggregate(self, metric_name: str | None = None) -> torch.Tensor:
        """Compute the error over all pairs of what was gathered.

        Args:
            metric_name: ``"mse"`` or ``"mae"``, default to ``self.metric_name``.

        Returns:
            Scalar tensor.

        Raises:
            ValueError: when fewer than two images were gathered.
        """
        name = _check_name(metric_name or self.metric_name)
        buffers = self.get_buffer()
        if buffers is None:
            raise ValueError("There is nothing to aggregate: call the metric on two images or more first.")
        mse, mae = compute_ssim_matching_errors(*buffers, block_size=self.block_size)
        return mse if name == "mse" else mae

    def _compute_tensor(  # type: ignore[override]
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        if y is None:
            raise ValueError("y is missing: wanted the clean images (B, 1, H, W) of the embeddings y_pred (B, D).")
        _check_embeddings(y_pred, y)
        pair = [convert_to_tensor(x.detach(), dtype=torch.float32, track_meta=False) for x in (y_pred, y)]
        for held, new, what in zip(self._buffers or [], pair, ("embeddings", "images"), strict=False):
            if held and held[0].shape != new.shape[1:]:
                raise ValueError(
                    f"got {what} of shape {tuple(new.shape[1:])} after {what} of shape {tuple(held[0].shape)}: all of "
                    "a validation set are compared with each other. Bring them to one size, or call reset() first."
                )
        return pair


def _iterate_pairs(
    embeddings: torch.Tensor, images: torch.Tensor, block_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield cosine and symmetric SSIM of every pair i < j once, as float64 vectors on the CPU, block by block."""
    _check_embeddings(embeddings, images)
    if len(images) < 2:
        raise ValueError(f"got {len(images)} image(s), want two or more, as pairs are compared.")
    unit = F.normalize(embeddings.detach().float(), dim=1)
    for start in range(0, len(images), block_size):
        first = slice(start, start + block_size)
        for other in range(start, len(images), block_size):
            second = slice(other, other + block_size)
            cosines = unit[first] @ unit[second].T
            if other == start:
                ssims = pairwise_ssim(images[first])
                ssims = (ssims + ssims.T) / 2
                once = torch.ones_like(ssims, dtype=torch.bool).triu(diagonal=1)
                cosines, ssims = cosines[once], ssims[once]
            else:
                ssims = pairwise_ssim(images[first], images[second]) + pairwise_ssim(images[second], images[first]).T
                cosines, ssims = cosines.flatten(), ssims.flatten() / 2
            # Rounding may carry either beyond 1. To the CPU before double: mps has no float64.
            yield cosines.cpu().double().clamp(-1, 1), ssims.cpu().double().clamp(-1, 1)


def _check_embeddings(embeddings: torch.Tensor, images: torch.Tensor) -> None:
    if embeddings.ndim != 2 or images.ndim not in (4, 5) or len(embeddings) != len(images):
        raise ValueError(
            f"got embeddings {tuple(embeddings.shape)} and images {tuple(images.shape)}, wanted (N, D) and "
            "(N, 1, H, W), one embedding for each image. Single items are given as lists."
        )


def _check_name(metric_name: str) -> str:
    if metric_name not in ("mse", "mae"):
        raise ValueError(f'got metric_name={metric_name!r}, want "mse" or "mae".')
    return metric_name
