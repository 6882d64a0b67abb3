"""C_T: whether synthetic images are nearer to the training set than held-out ones are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.feature_sets import as_feature_sets

__all__ = ["compute_ct_score"]

# A cell counts when it holds more synthetic images than this: tau = 20 / m in the authors' code.
_MIN_IN_CELL = 20


def compute_ct_score(
    synthetic: Tensor,
    training: Tensor,
    holdout: Tensor,
    num_cells: int = 3,
    max_features: int = 64,
    seed: int = 0,
) -> Tensor:
    r"""Test whether a generator copies its training data, by the distances of its images to them.

    The training set is divided into k-means cells. In each, let U be the number of pairs in which a synthetic image is
    farther from the cell's training images than a held-out one (Mann-Whitney), z-scored as

    .. math:: z = \frac{U - (nm / 2 - 1/2)}{\sqrt{nm (n + m + 1) / 12}}

    for n held-out and m synthetic images in the cell. :math:`C_T` is the mean of z, weighted by the held-out images'
    share in each cell, over the cells with more than 20 synthetic images. About 0 for a generator that draws as the
    held-out images were drawn, far below 0 for one that copies, far above 0 for one that does not reach the data.

    Args:
        synthetic: features ``(N, D)``.
        training: features ``(M, D)``.
        holdout: features ``(H, D)`` of real images that the generator has not seen.
        num_cells: number of k-means cells, 3 in the authors' code.
        max_features: more features than these are reduced to as many principal components of the training set.
        seed: seed of k-means.

    Returns:
        A scalar tensor, in standard deviations; below about -3 means copying.

    Raises:
        ValueError: when the shapes are others, or a number is below 1.
        UnusableInputError: when a cell has no held-out image, none has enough synthetic ones, or a feature is not
            finite.

    References:
        Meehan, Chaudhuri and Dasgupta, A non-parametric test to detect data-copying in generative models, AISTATS 2020,
        arXiv 2004.05675.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> training, holdout, other = torch.randn(3, 300, 8, generator=generator).unbind()
        >>> copies = training + 0.01 * torch.randn(300, 8, generator=generator)
        >>> bool(compute_ct_score(copies, training, holdout) < -5)
        True
        >>> bool(compute_ct_score(other, training, holdout).abs() < 3)
        True
    """
    if num_cells < 1 or max_features < 1:
        raise ValueError(f"got num_cells={num_cells} and max_features={max_features}, want 1 or more")
    sets = as_feature_sets(synthetic=synthetic, training=training, holdout=holdout)
    if len(training) < num_cells:
        raise UnusableInputError(f"{len(training)} training images do not make {num_cells} cells: use fewer cells")
    synthetic_rows, training_rows, holdout_rows = (features.numpy() for features in sets)
    if training_rows.shape[1] > max_features:
        components = PCA(min(max_features, len(training_rows)), random_state=seed).fit(training_rows)
        synthetic_rows, training_rows, holdout_rows = (
            components.transform(rows) for rows in (synthetic_rows, training_rows, holdout_rows)
        )
    cells = KMeans(num_cells, n_init=10, random_state=seed).fit(training_rows)
    in_cell = [cells.predict(rows) for rows in (synthetic_rows, training_rows, holdout_rows)]
    scores, weights = [], []
    for cell in range(num_cells):
        generated, trained, unseen = (
            rows[labels == cell]
            for rows, labels in zip((synthetic_rows, training_rows, holdout_rows), in_cell, strict=True)
        )
        if len(unseen) == 0:
            raise UnusableInputError(
                f"one of {num_cells} cells of the training set has none of the {len(holdout_rows)} held-out images; "
                "give more held-out images or use fewer cells"
            )
        if len(generated) > _MIN_IN_CELL:
            scores.append(_z_score(generated, trained, unseen))
            weights.append(len(unseen))
    if not scores:
        raise UnusableInputError(
            f"no cell has more than {_MIN_IN_CELL} of the {len(synthetic_rows)} synthetic images: give more of them or "
            "use fewer cells"
        )
    return torch.tensor(np.average(scores, weights=weights), dtype=torch.float64)


def _z_score(synthetic: np.ndarray, training: np.ndarray, holdout: np.ndarray) -> float:
    search = NearestNeighbors(n_neighbors=1).fit(training)
    synthetic_distances, holdout_distances = (search.kneighbors(rows)[0][:, 0] for rows in (synthetic, holdout))
    # Asymptotic: only the statistic is used, and the exact distribution of its p-value is slow.
    u = mannwhitneyu(synthetic_distances, holdout_distances, method="asymptotic").statistic
    m, n = len(synthetic), len(holdout)
    return float((u - (n * m / 2 - 0.5)) / np.sqrt(n * m * (n + m + 1) / 12))
