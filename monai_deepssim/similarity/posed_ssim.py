"""SSIM of images that were brought to one pose first: nearly aligned, without a search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .canonical_pose import canonicalize_pose
from .pairwise_ssim import pairwise_ssim
from .standardize import standardize

__all__ = ["pose", "posed_ssim"]

# Rows and columns of a posed image: enough to tell subjects apart, and a third of the pixels of 136 x 112.
_POSED_SIZE = (80, 64)
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
