"""FLD's generalisation gap: how much likelier training images are than held-out ones, seen from the synthetic set."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from monai_deepssim.metrics.feature_sets import as_feature_sets

__all__ = ["compute_fld_gap"]

# The settings of the authors' code.
_MAX_SYNTHETIC = 10_000
_NUM_STEPS = 50
_LEARNING_RATE = 0.5
_BROAD_SHRINK = 0.9  # of the distances to the broad Gaussian in the middle
_LOG_VARIANCE_RANGE = (-40.0, 20.0)
_BLOCK_SIZE = 1024  # training rows at a time: 80 MB per matrix at the most


def compute_fld_gap(synthetic: Tensor, training: Tensor, holdout: Tensor, seed: int = 0) -> Tensor:
    r"""Compute the generalisation gap of the feature likelihood divergence.

    A Gaussian of a width of its own is put on each synthetic image, and the widths are fitted so that the training
    images are as likely as can be. A generator that copies gets very narrow Gaussians on its copies, under which
    training images are likelier than held-out ones:

    .. math:: \mathrm{gap} = \frac{100}{D} \Big( \frac{1}{H} \sum_{x \in \mathrm{held\,out}} \log p(x) -
        \frac{1}{M} \sum_{x \in \mathrm{training}} \log p(x) \Big), \qquad
        p(x) = \frac{1}{N} \sum_i \mathcal{N}(x \mid s_i, \sigma_i^2 I)

    Features are first brought to mean 0 and standard deviation 1 of the held-out set. While the widths are fitted, by
    50 steps of Adam, a broad Gaussian in the middle of the training set gives every image some likelihood, so that no
    width is stretched to reach an outlier. Of more than 10,000 synthetic images as many are drawn. The authors' package
    is not on PyPI, so this is the paper's method with the settings of their code.

    Args:
        synthetic: features ``(N, D)``.
        training: features ``(M, D)``.
        holdout: features ``(H, D)`` of real images that the generator has not seen, H of 2 or more.
        seed: seed of the draw.

    Returns:
        A scalar tensor; about 0 for a generator that generalises, far below 0 for one that copies.

    Raises:
        ValueError: when the shapes are others.
        UnusableInputError: when there are too few images, or features that are not finite.

    References:
        Jiralerspong et al., Feature likelihood divergence: evaluating the generalization of generative models using
        samples, NeurIPS 2023, arXiv 2302.04440.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> training, holdout, other = torch.randn(3, 200, 8, generator=generator).unbind()
        >>> copies = training + 0.001 * torch.randn(200, 8, generator=generator)
        >>> bool(compute_fld_gap(copies, training, holdout) < 10 * compute_fld_gap(other, training, holdout) < 0)
        True
    """
    (holdout,) = as_feature_sets(minimum=2, holdout=holdout)
    synthetic, training, holdout = as_feature_sets(synthetic=synthetic, training=training, holdout=holdout)
    if len(synthetic) > _MAX_SYNTHETIC:
        drawn = torch.randperm(len(synthetic), generator=torch.Generator().manual_seed(seed))[:_MAX_SYNTHETIC]
        synthetic = synthetic[drawn]
    mean, deviation = holdout.mean(0), holdout.std(0)
    deviation = torch.where(deviation == 0, 1.0, deviation)
    synthetic, training, holdout = ((rows - mean) / deviation for rows in (synthetic, training, holdout))
    log_variances = _fit_log_variances(synthetic, training)
    of_holdout, of_training = (_log_likelihoods(rows, synthetic, log_variances).mean() for rows in (holdout, training))
    return 100 * (of_holdout - of_training) / synthetic.shape[1]


def _fit_log_variances(centres: Tensor, training: Tensor) -> Tensor:
    """Log variances ``(N,)`` of the Gaussians on the centres that make the training rows likely."""
    dim = training.shape[1]
    middle = training.mean(0, keepdim=True)
    nearest = torch.full((len(centres),), torch.inf, dtype=training.dtype)
    for block in training.split(_BLOCK_SIZE):
        nearest = torch.minimum(nearest, _squared_distances(block, centres).amin(0))
    # The width that would be best if there were the nearest training row alone.
    log_variances = ((nearest + 1e-3) / dim).log().requires_grad_()
    broad_log_variance = torch.zeros((), dtype=training.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([log_variances, broad_log_variance], lr=_LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(_NUM_STEPS):
            optimizer.zero_grad()
            for block in training.split(_BLOCK_SIZE):  # gradients add up: no M x N matrix is held
                narrow = _gaussians(_squared_distances(block, centres), log_variances, dim) - math.log(len(centres))
                broad = _gaussians(_BROAD_SHRINK**2 * _squared_distances(block, middle), broad_log_variance, dim)
                likelihoods = torch.logsumexp(torch.cat([narrow, broad], dim=1), dim=1)
                (-likelihoods.sum() / (len(training) * dim)).backward()
            optimizer.step()
            with torch.no_grad():  # an exact copy would narrow its Gaussian without end
                log_variances.clamp_(*_LOG_VARIANCE_RANGE)
    return log_variances.detach()


def _log_likelihoods(rows: Tensor, centres: Tensor, log_variances: Tensor) -> Tensor:
    """Log of the mean density of all Gaussians at each row, ``(len(rows),)``."""
    dim = rows.shape[1]
    return torch.cat(
        [
            torch.logsumexp(_gaussians(_squared_distances(block, centres), log_variances, dim), dim=1)
            for block in rows.split(_BLOCK_SIZE)
        ]
    ) - math.log(len(centres))


def _gaussians(squared_distances: Tensor, log_variances: Tensor, dim: int) -> Tensor:
    """Log densities of isotropic Gaussians, given the squared distances from their centres."""
    return -0.5 * (squared_distances * torch.exp(-log_variances) + dim * (log_variances + math.log(2 * math.pi)))


def _squared_distances(rows: Tensor, centres: Tensor) -> Tensor:
    # Not by matrix products, whose rounding would be the width of an exact copy's Gaussian.
    return torch.cdist(rows, centres, compute_mode="donot_use_mm_for_euclid_dist").square()
