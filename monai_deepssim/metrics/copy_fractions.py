"""Which synthetic images are copies, and which training images were copied."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from monai_deepssim.search import NearestNeighbors

__all__ = ["CopyFractions", "compute_copy_fractions"]


class CopyFractions(NamedTuple):
    """What :func:`compute_copy_fractions` gives.

    Example:
        >>> import torch
        >>> CopyFractions(0.5, 0.0, torch.tensor([True, False]), torch.tensor([False])).copy_fraction
        0.5
    """

    #: Share of the synthetic images that are copies.
    copy_fraction: float
    #: Share of the training images that have at least one copy.
    memorized_fraction: float
    #: ``(N,)``, of each synthetic image whether it is a copy.
    is_copy: Tensor
    #: ``(M,)``, of each training image whether it is memorized.
    is_memorized: Tensor


def compute_copy_fractions(
    synthetic: Tensor,
    training: Tensor,
    threshold: float,
) -> CopyFractions:
    r"""Count the synthetic images that are copies and the training images that are memorized.

    Synthetic image i is a copy when :math:`\max_j s_{ij} > \tau`, training image j is memorized when
    :math:`\max_i s_{ij} > \tau`. A training image that is not the nearest of any synthetic one can be memorized too, so
    the second number does not follow from the nearest neighbours. No ``N x M`` matrix is held.

    Args:
        synthetic: representations ``(N, D)``.
        training: representations ``(M, D)``.
        threshold: :math:`\tau`; a cosine that equals it is none of a copy.

    Returns:
        Both fractions, and the images they count.

    Raises:
        ValueError: when there are no images on one of the sides.

    References:
        Dar et al., Unconditional latent diffusion models memorize patient imaging data, Nature Biomedical Engineering
        (2025), arXiv 2402.01054.

    Example:
        >>> import torch
        >>> training = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> fractions = compute_copy_fractions(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), training, threshold=0.9)
        >>> fractions.copy_fraction, fractions.is_memorized
        (0.5, tensor([ True,  True, False]))
    """
    if len(synthetic) == 0 or len(training) == 0:
        raise ValueError(f"got {len(synthetic)} synthetic and {len(training)} training images, want at least one each")
    is_copy, is_memorized = (
        NearestNeighbors().fit(rows).kneighbors(queries, 1)[0][:, 0] > threshold
        for queries, rows in ((synthetic, training), (training, synthetic))
    )
    return CopyFractions(is_copy.float().mean().item(), is_memorized.float().mean().item(), is_copy, is_memorized)
