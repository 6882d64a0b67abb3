"""Memorization Index and Overfit/Novelty Index: how much nearer to a training image than training images are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.metrics.feature_whitening import Covariance, FeatureWhitening
from monai_deepssim.search import search_by_similarity

__all__ = [
    "MemorizationIndex",
    "compare_whitened",
    "compute_memorization_index",
    "estimate_null",
    "geometric_mean",
    "score_whitened",
]

_EPSILON = 1e-6  # the paper's, inside the logarithm
_SMALLEST_SIGMA = 1e-6  # similarities are float32
_NUM_SPLITS = 10  # the paper's


@dataclass(frozen=True)
class MemorizationIndex:
    """What :func:`compute_memorization_index` found, for N queries and K layers, on the CPU.

    Attributes:
        similarity: ``(N,)``, geometric mean over the layers of the highest cosine to any training image, 0 to 1.
        mi: ``(N,)``, the Memorization Index: how many standard deviations the similarity is above the null's mean.
        oni: ``(N,)``, the Overfit/Novelty Index, ``-tanh(mi)``: near -1 memorized, near 0 as similar as two training
            images are to each other, near 1 novel.
        margin: ``(N,)``, similarity less that of the second neighbours (the geometric mean of each layer's second
            highest cosine): how much the nearest stands out.
        consensus: ``(N,)``, how many layers, 1 to K, name the first layer's nearest training image, as the authors'
            code counts.
        nearest: ``(N,)``, index of the nearest training image: the one that most layers name; where several are named
            equally often, the one with the highest cosine.
        agreement: ``(N,)``, how many layers name ``nearest``.
        layer_similarity: ``(N, K)``, highest cosine of each layer, -1 to 1.
        layer_nearest: ``(N, K)``, index of the training image that it belongs to.
        layer_margin: ``(N, K)``, highest less second highest cosine.
        null: mean and standard deviation of the null.
        layers: names of the K layers.
    """

    similarity: Tensor
    mi: Tensor
    oni: Tensor
    margin: Tensor
    consensus: Tensor
    nearest: Tensor
    agreement: Tensor
    layer_similarity: Tensor
    layer_nearest: Tensor
    layer_margin: Tensor
    null: tuple[float, float]
    layers: tuple[str, ...]


def compute_memorization_index(
    query: Mapping[str, Tensor],
    train: Mapping[str, Tensor],
    null: Sequence[float] | None = None,
    seed: int = 0,
    *,
    null_query: Mapping[str, Tensor] | None = None,
    covariance: Covariance = "auto",
) -> MemorizationIndex:
    r"""Compute the Memorization Index of synthetic images from features of several layers.

    Features f of each layer k are whitened (ZCA, fitted on all training features) and brought to length 1. The highest
    cosine to a training image in each layer is averaged geometrically, negative ones counting as 0, and calibrated by
    how similar training images are to each other:

    .. math::
        s_j = \exp \frac{1}{K} \sum_k \log\left(\max\left(0, \max_i \hat f_j^{(k)} \cdot \hat f_i^{(k)}\right)
        + 10^{-6}\right) \qquad
        \mathrm{MI}_j = \frac{s_j - \mu}{\sigma} \qquad \mathrm{ONI}_j = -\tanh \mathrm{MI}_j

    The null, :math:`\mu` and :math:`\sigma`, is the mean and standard deviation of the same score of training images:
    10 times, one random half of them is scored against the other half, with the same whitening. As a half offers fewer
    neighbours than all of them, and the whitening knows the training images, a new image's index lies somewhat above 0:
    take a threshold from held-out images rather than from the normal distribution.

    The layers may name different training images, and s then belongs to none of them: see ``nearest`` and
    ``agreement`` in :class:`MemorizationIndex`. No matrix of all similarities is held, only blocks of it.

    **Few training images.** The index needs clearly more training images than a layer has channels. With no more than
    channels, the empirical covariance whitens the training features to the corners of a regular simplex: all null
    scores are equal, and every query that is no exact copy is far from everything. The published experiments had 500
    images. With ``covariance="auto"`` a layer with fewer than two training images per channel gets the covariance of
    Ledoit and Wolf instead, with a warning.

    Args:
        query: features of the synthetic images, ``(N, C)`` by layer; C may differ between layers.
        train: features of the training images, ``(M, C)`` by layer, M of 4 or more. The order of the layers is
            that of this mapping.
        null: mean and standard deviation, where they are known; they are estimated otherwise.
        seed: seed of the random halves.
        null_query: features of the training images after a mild geometric change, row for row those of ``train``. The
            one half is taken from these, so that the null knows how much such a change alone costs: the paper's
            proposal against its weakness for rotations and flips.
        covariance: ``"empirical"`` is the paper's; ``"ledoit_wolf"`` shrinks; ``"auto"`` chooses for each layer.

    Returns:
        The index of every query.

    Raises:
        ValueError: when the layers or shapes do not fit together, features are not finite, there are fewer than 4
            training images, or the null's standard deviation is negative.

    Warns:
        UserWarning: when there are few training images for a layer's channels, and when the null's standard deviation
            is 0: all queries above its mean then have an infinite index.

    References:
        Deo et al., A Calibrated Memorization Index (MI) for Detecting Training Data Leakage in Generative MRI Models,
        arXiv 2602.13066.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> train = {layer: torch.randn(100, 8, generator=generator) for layer in ("block3", "block7")}
        >>> copies = {layer: features[:2] for layer, features in train.items()}
        >>> index = compute_memorization_index(copies, train)
        >>> index.nearest, index.oni.round(decimals=2)
        (tensor([0, 1]), tensor([-1., -1.]))
    """
    whitening = FeatureWhitening(train, covariance)
    whitened = whitening.transform(train)
    if null is None:
        changed = whitened if null_query is None else whitening.transform(null_query)
        null = estimate_null(changed, whitened, seed)
    return score_whitened(whitening.transform(query), whitened, null)


def compare_whitened(query: Mapping[str, Tensor], train: Mapping[str, Tensor]) -> Tensor:
    """Compare each query with each training image: the geometric mean of their cosines in the layers.

    Args:
        query: whitened features ``(n, C)`` by layer, of :meth:`FeatureWhitening.transform`.
        train: the same of m training images.

    Returns:
        ``(n, m)``, 0 to 1. A query's highest is at most its ``similarity``, where every layer has a nearest of its own.

    Example:
        >>> features = {"a": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "b": torch.tensor([[1.0, 0.0], [0.6, 0.8]])}
        >>> compare_whitened(features, features).round(decimals=2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    return geometric_mean(torch.stack([query[layer] @ train[layer].T for layer in train], dim=-1))


def geometric_mean(cosines: Tensor) -> Tensor:
    """Average cosines over layers, geometrically; a negative one has no logarithm and counts as 0.

    Args:
        cosines: ``(..., K)``.

    Returns:
        ``(...)``, 0 to 1.

    Example:
        >>> geometric_mean(torch.tensor([[0.25, 1.0], [-0.5, 1.0]])).round(decimals=2)
        tensor([0.5000, 0.0000])
    """
    return (cosines.clamp(min=0) + _EPSILON).log().mean(-1).exp()


def score_whitened(
    query: Mapping[str, Tensor], train: Mapping[str, Tensor], null: Sequence[float]
) -> MemorizationIndex:
    """Compute the index from features that are whitened and a null that is known.

    Args:
        query: whitened features ``(N, C)`` by layer, of :meth:`FeatureWhitening.transform`.
        train: the same of the training images.
        null: mean and standard deviation.

    Returns:
        The index of every query.

    Raises:
        ValueError: when the null's standard deviation is negative.

    Example:
        >>> train = {"layer": torch.eye(4)}
        >>> score_whitened({"layer": torch.tensor([[0.6, 0.8, 0.0, 0.0]])}, train, (0.5, 0.1)).mi.round(decimals=2)
        tensor([3.])
    """
    cosines, indices = zip(*(_two_nearest(query[layer], train[layer]) for layer in train), strict=True)
    layer_cosines = torch.stack(cosines, dim=1)  # (N, K, 2)
    layer_nearest = torch.stack([index[:, 0] for index in indices], dim=1)
    similarity = geometric_mean(layer_cosines[..., 0].double())
    votes = (layer_nearest[:, :, None] == layer_nearest[:, None, :]).sum(2)
    # A cosine is at most 1, so that it decides only between equal numbers of votes.
    chosen = (4 * votes + layer_cosines[..., 0]).argmax(1, keepdim=True)
    mi = _standardize_by(null, similarity)
    return MemorizationIndex(
        similarity=similarity.float(),
        mi=mi.float(),
        oni=-torch.tanh(mi).float(),
        margin=(similarity - geometric_mean(layer_cosines[..., 1].double())).float(),
        consensus=(layer_nearest == layer_nearest[:, :1]).sum(1),
        nearest=layer_nearest.gather(1, chosen)[:, 0],
        agreement=votes.gather(1, chosen)[:, 0],
        layer_similarity=layer_cosines[..., 0],
        layer_nearest=layer_nearest,
        layer_margin=layer_cosines[..., 0] - layer_cosines[..., 1],
        null=(float(null[0]), float(null[1])),
        layers=tuple(train),
    )


def estimate_null(query: Mapping[str, Tensor], train: Mapping[str, Tensor], seed: int = 0) -> tuple[float, float]:
    """Estimate how similar training images are to each other: one random half against the other, 10 times.

    Args:
        query: whitened features ``(M, C)`` by layer of the training images, changed or not, for the one half.
        train: those of the training images themselves, for the other; M of 4 or more.
        seed: seed of the halves.

    Returns:
        Mean and (population) standard deviation of all scores.

    Raises:
        ValueError: when there are not as many rows in the one as in the other.

    Example:
        >>> features = {"layer": torch.nn.functional.normalize(torch.ones(6, 2))}
        >>> mean, deviation = estimate_null(features, features)
        >>> round(mean, 3), deviation
        (1.0, 0.0)
    """
    number = len(next(iter(train.values())))
    got = {layer: len(features) for layer, features in query.items()}
    if set(got.values()) != {number}:
        raise ValueError(f"got {got} changed training images, want one for each of the {number} training images")
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(_NUM_SPLITS):
        order = torch.from_numpy(generator.permutation(number))
        first, second = order[: number // 2], order[number // 2 : 2 * (number // 2)]
        cosines = [_two_nearest(query[layer][first], train[layer][second])[0][:, 0] for layer in train]
        scores.append(geometric_mean(torch.stack(cosines, dim=1).double()))
    pooled = torch.cat(scores)
    # Rounded to what float32 cosines are good for: equal scores have a deviation of 0, not of rounding.
    return round(pooled.mean().item(), 7), round(pooled.std(correction=0).item(), 7)


def _two_nearest(query: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    return search_by_similarity(query, train, lambda one, other: one @ other.T, num_neighbors=2)


def _standardize_by(null: Sequence[float], similarity: Tensor) -> Tensor:
    mean, deviation = float(null[0]), float(null[1])
    if not (np.isfinite(mean) and np.isfinite(deviation) and deviation >= 0):
        raise ValueError(f"got null={tuple(null)}, want a finite mean and a standard deviation of at least 0")
    difference = similarity - mean
    if deviation >= _SMALLEST_SIGMA:
        return difference / deviation
    warnings.warn(
        "The null's standard deviation is 0: all training images are equally similar to each other, as when they are "
        "fewer than a layer has channels, or all the same. The Memorization Index is infinite wherever the similarity "
        "is not the null's mean, and says no more than that.",
        stacklevel=4,
    )
    equal = difference.abs() <= _SMALLEST_SIGMA
    return torch.where(equal, 0.0, difference.sign() * torch.inf)
