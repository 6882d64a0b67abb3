"""FID, MMD and MiFID of features, guarded against what MONAI's and torchmetrics' functions let pass."""

from __future__ import annotations

import torch
from monai.metrics import compute_mmd
from torch import Tensor, nn
from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.feature_sets import as_feature_sets

__all__ = ["FID_WARNING", "compute_fid", "compute_linear_mmd", "compute_mifid"]

#: To be shown wherever FID or MMD is.
FID_WARNING = (
    "FID and MMD improve when a generator copies its training images: a low value is no sign that it does not. Read "
    "them only beside the scores of copying."
)


def compute_fid(synthetic: Tensor, training: Tensor) -> Tensor:
    r"""Compute the Fréchet distance of two sets of features.

    :math:`|\mu_s - \mu_t|^2 + \mathrm{tr}(\Sigma_s + \Sigma_t - 2 (\Sigma_s \Sigma_t)^{1/2})`. It improves when a
    generator copies: see :data:`FID_WARNING`.

    Args:
        synthetic: features ``(N, D)``, N above D.
        training: features ``(M, D)``, M above D.

    Returns:
        A scalar tensor of 0 or more.

    Raises:
        ValueError: when the shapes are others.
        UnusableInputError: when a set has no more images than features: its covariance is singular then, and the
            number means nothing.

    References:
        Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, NeurIPS 2017,
        arXiv 1706.08500.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> training = torch.randn(100, 4, generator=generator)
        >>> bool(compute_fid(training, training) < 1e-6), round(compute_fid(training + 1.0, training).item(), 3)
        (True, 4.0)
    """
    sets = _enough_for_covariances(synthetic, training)
    # As MONAI's get_fid_score, whose call of SciPy's sqrtm is an error from SciPy 1.18 on.
    (synthetic_mean, synthetic_cov), (training_mean, training_cov) = (
        (rows.mean(0), torch.atleast_2d(rows.T.cov())) for rows in sets
    )
    root = torch.linalg.eigvals(synthetic_cov @ training_cov).sqrt().real.sum()
    distance = (synthetic_mean - training_mean).square().sum() + synthetic_cov.trace() + training_cov.trace() - 2 * root
    return distance.clamp(min=0)


def compute_mifid(synthetic: Tensor, training: Tensor, max_distance: float = 0.1) -> Tensor:
    r"""Compute the memorization-informed FID, with torchmetrics.

    FID divided by the memorization distance :math:`\frac{1}{N} \sum_i \min_j (1 - |\cos(s_i, t_j)|)` when that is below
    ``max_distance``, and FID itself otherwise. Unlike FID it gets worse when a generator copies.

    Args:
        synthetic: features ``(N, D)``, N above D.
        training: features ``(M, D)``, M above D.
        max_distance: distance from which on nothing counts as memorized, above 0 up to 1. The paper's 0.1 is for 2,048
            features of Inception; fewer features want a smaller one.

    Returns:
        A scalar tensor of 0 or more.

    Raises:
        ValueError: when the shapes are others.
        UnusableInputError: when a set has no more images than features.

    References:
        Bai et al., On training sample memorization: lessons from benchmarking generative modeling with a large-scale
        competition, KDD 2021, arXiv 2106.03062.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> training = torch.randn(200, 8, generator=generator)
        >>> copies = training[:20].repeat(10, 1) + 0.01 * torch.randn(200, 8, generator=generator)
        >>> bool(compute_mifid(copies, training) > 100 * compute_fid(copies, training))
        True
    """
    synthetic, training = _enough_for_covariances(synthetic, training)
    metric = MemorizationInformedFrechetInceptionDistance(nn.Identity(), cosine_distance_eps=float(max_distance))
    # The roles are swapped on purpose. torchmetrics 1.9 averages over the *real* images their distance to the nearest
    # fake one, the paper over the fake ones: a generator that only ever repeats a tenth of its training images would
    # go unpunished. FID is the same both ways.
    metric.update(synthetic, real=True)
    metric.update(training, real=False)
    return metric.compute()


def compute_linear_mmd(synthetic: Tensor, training: Tensor, seed: int = 0) -> Tensor:
    r"""Compute the maximum mean discrepancy with a linear kernel, with MONAI's ``compute_mmd``.

    An unbiased estimate of :math:`|\mu_s - \mu_t|^2`, which may fall below 0. It improves when a generator copies: see
    :data:`FID_WARNING`. MONAI's function takes sets of one size, so as many are drawn from the larger.

    Args:
        synthetic: features ``(N, D)``, N of 2 or more.
        training: features ``(M, D)``, M of 2 or more.
        seed: seed of the draw.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: when the shapes are others.
        UnusableInputError: when there are too few images, or features that are not finite.

    References:
        Gretton et al., A kernel two-sample test, JMLR 13 (2012).

    Example:
        >>> training = torch.tensor([[0.0], [2.0]])
        >>> compute_linear_mmd(training + 3.0, training)
        tensor(7., dtype=torch.float64)
    """
    synthetic, training = as_feature_sets(minimum=2, synthetic=synthetic, training=training)
    size = min(len(synthetic), len(training))
    generator = torch.Generator().manual_seed(seed)
    training, synthetic = (
        rows if len(rows) == size else rows[torch.randperm(len(rows), generator=generator)[:size]]
        for rows in (training, synthetic)
    )
    return compute_mmd(training, synthetic, y_mapping=None)


def _enough_for_covariances(synthetic: Tensor, training: Tensor) -> tuple[Tensor, ...]:
    sets = as_feature_sets(synthetic=synthetic, training=training)
    for name, features in zip(("synthetic", "training"), sets, strict=True):
        if len(features) <= features.shape[1]:
            raise UnusableInputError(
                f"{len(features)} {name} images of {features.shape[1]} features: FID wants more images than features. "
                "Give more images, or features of a network that gives fewer."
            )
    return sets
