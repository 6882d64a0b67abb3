"""AuthPct: the share of synthetic images that are farther from the training set than its images from each other."""

from __future__ import annotations

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from monai_deepssim.metrics.feature_sets import as_feature_sets

__all__ = ["compute_auth_pct"]


def compute_auth_pct(synthetic: Tensor, training: Tensor) -> Tensor:
    r"""Compute the authenticity of a synthetic set, in percent.

    With :math:`t(i)` the training image nearest to synthetic image i by Euclidean distance, i is authentic when
    :math:`d(s_i, t(i)) > \min_{j \neq t(i)} d(t(i), t_j)`: when it is farther from its nearest training image than that
    one from any other. Copies are not authentic; of images like those of the training set, about half are.

    Args:
        synthetic: features ``(N, D)``.
        training: features ``(M, D)``, M of 2 or more.

    Returns:
        A scalar tensor, 0 to 100; low means copying.

    Raises:
        ValueError: when the shapes are others.
        UnusableInputError: when there are too few images, or features that are not finite.

    References:
        Alaa et al., How faithful is your synthetic data?, ICML 2022, arXiv 2102.08921.

    Example:
        >>> training = torch.tensor([[0.0], [1.0], [5.0]])
        >>> compute_auth_pct(torch.tensor([[0.1], [2.5]]), training)
        tensor(50., dtype=torch.float64)
    """
    (training,) = as_feature_sets(minimum=2, training=training)
    synthetic, training = as_feature_sets(synthetic=synthetic, training=training)
    search = NearestNeighbors(n_neighbors=1).fit(training.numpy())
    to_training, nearest = search.kneighbors(synthetic.numpy())
    among_training, _ = search.kneighbors()  # of the fitted rows themselves, each without itself
    authentic = to_training[:, 0] > among_training[nearest[:, 0], 0]
    return torch.tensor(100.0 * authentic.mean(), dtype=torch.float64)
