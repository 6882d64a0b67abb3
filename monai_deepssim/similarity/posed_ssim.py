"""SSIM of images that were brought to one pose first: nearly aligned, without a search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor

from monai_deepssim.similarity.canonical_pose import canonicalize_pose
from monai_deepssim.similarity.pairwise_ssim import pairwise_ssim
from monai_deepssim.similarity.standardize import standardize

__all__ = ["coarse_structure", "pose", "posed_ssim", "screen"]

# Rows and columns of a posed image: enough to tell subjects apart, and a third of the pixels of 136 x 112.
_POSED_SIZE = (80, 64)
# Rows and columns of coarse structure, and its band in pixels of that size (standard deviations).
_COARSE_SIZE, _BAND = (34, 28), (0.5, 1.5)
# Share of the candidates that coarse structure chooses.
_SHARE_BY_COARSE = 0.2
_FLIPS: tuple[list[int], ...] = ([], [2], [3], [2, 3])


def pose(images: Tensor, size: Sequence[int] = _POSED_SIZE) -> Tensor:
    """Bring images to the pose in which :func:`posed_ssim` compares them.

    Args:
        images: ``(N, 1, H, W)``.
        size: rows and columns in pixels.

    Returns:
        ``(N, 1, *size)``, standardised.

    Raises:
        ValueError: when the images are not ``(N, 1, H, W)``.

    Example:
        >>> pose(torch.rand(2, 1, 136, 112)).shape
        torch.Size([2, 1, 80, 64])
    """
    return standardize(canonicalize_pose(standardize(images), size))


def posed_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Compare each of some posed images with each of others, whichever way round they are.

    Two images of one slice that differ by a rotation within 30 degrees, a shift, a zoom or a flip have nearly the same
    pose, and an SSIM near that of :func:`aligned_ssim`, which searches. Where the pose is misjudged the SSIM is too
    low: good for choosing which pairs to align, not for a verdict.

    Args:
        x: ``(N, 1, H, W)``, from :func:`pose`.
        y: ``(M, 1, H, W)``, from :func:`pose`.

    Returns:
        ``(N, M)``, the highest SSIM over the four flips of x.

    Example:
        >>> rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(80.0), indexing="ij")
        >>> disc = lambda y, x, side: (((rows - y) ** 2 + (columns - x) ** 2) < side**2).float()
        >>> images = torch.stack([disc(48, 40, 30) - disc(60, 40, 9), disc(48, 40, 30) - disc(48, 30, 12)])[:, None]
        >>> ssim = posed_ssim(pose(images.flip(2)), pose(images))
        >>> bool(ssim.diagonal().min() > 0.95 > ssim[0, 1])
        True
    """
    views = torch.cat([x.flip(axes) for axes in _FLIPS])
    return pairwise_ssim(views, y).view(len(_FLIPS), len(x), len(y)).amax(0)


def coarse_structure(images: Tensor) -> Tensor:
    """Keep of images as they lie what a blur or fine texture does not change.

    Args:
        images: ``(N, 1, H, W)``.

    Returns:
        ``(N, 952)`` of length 1, or 0 where an image has no structure; the product of two is their correlation.

    Example:
        >>> image = torch.rand(1, 1, 136, 112, generator=torch.Generator().manual_seed(0))
        >>> coarse_structure(image).shape, bool(coarse_structure(image).norm() > 0.999)
        (torch.Size([1, 952]), True)
    """
    small = torch.nn.functional.interpolate(images.float(), _COARSE_SIZE, mode="area")
    fine, coarse = (GaussianFilter(2, sigma)(small) for sigma in _BAND)
    return torch.nn.functional.normalize((fine - coarse).flatten(1))


def screen(ssim: Tensor, coarse: Tensor, keep: int) -> Tensor:
    """Choose the candidates of an image that are worth an alignment, by two measures that fail for different reasons.

    Four of five are those of the highest posed SSIM; the others, of those that are left, have the highest correlation
    of coarse structure: what a generator blurred or covered with texture has no pose that can be trusted.

    Args:
        ssim: ``(K,)``, :func:`posed_ssim` of the candidates.
        coarse: ``(K,)``, correlation of their :func:`coarse_structure`.
        keep: how many are kept.

    Returns:
        int64 ``(min(K, keep),)``, positions of the candidates; equal ones in their order.

    Example:
        >>> screen(torch.tensor([0.1, 0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([0.9, 0, 0, 0, 0, 0]), keep=5)
        tensor([1, 2, 3, 4, 0])
    """
    by_ssim = ssim.argsort(descending=True, stable=True)[: keep - int(_SHARE_BY_COARSE * keep)]
    left = coarse.clone()
    left[by_ssim] = -2  # below any correlation
    return torch.cat([by_ssim, left.argsort(descending=True, stable=True)])[: min(keep, len(ssim))]
