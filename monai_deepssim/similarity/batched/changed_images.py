"""Many images changed at once, each by its alignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.batched.resampling import flip_rows_and_columns

__all__ = ["change_images"]


def change_images(images: Tensor, alignments: Sequence[Alignment]) -> Tensor:
    """Change each image as its alignment says, all but the deformation, in one transfer to their device.

    Args:
        images: ``(N, 1, H, W)``.
        alignments: N of them.

    Returns:
        What :meth:`Alignment.apply` makes of each, ``(N, 1, H, W)``, float32.

    Example:
        >>> images = torch.rand(2, 1, 8, 8)
        >>> unchanged = Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0)
        >>> changed = change_images(images, [unchanged, Alignment((0,), (0.0,), (0.0, 0.0), 1.0, 1.0)])
        >>> torch.equal(changed[0], images[0]), torch.equal(changed[1], images[1].flip(1))
        (True, True)
    """
    images = convert_to_tensor(images, dtype=torch.float32, track_meta=False)
    if not len(images):
        return images
    size = images.shape[2:]
    matrices = [alignment.grid_matrix(size) for alignment in alignments]
    still = np.eye(2, 3)
    table = np.array(
        [
            [
                *(still if matrix is None else matrix).ravel(),
                matrix is not None,
                sum(2 << axis for axis in alignment.flips),
                alignment.inverted,
                alignment.gamma,
            ]
            for matrix, alignment in zip(matrices, alignments, strict=True)
        ]
    )
    numbers = torch.from_numpy(table.reshape(len(images), 10)).to(images.device, torch.float32)
    is_moved, flips, is_inverted, gamma = numbers[:, 6:].T[..., None, None]
    changed = flip_rows_and_columns(images[:, 0], flips[:, 0, 0].long())
    grid = affine_grid(numbers[:, :6].view(-1, 2, 3), [len(images), 1, *size], align_corners=True)
    moved = grid_sample(changed[:, None], grid, padding_mode="zeros", align_corners=True)[:, 0]
    changed = torch.where(is_moved > 0, moved, changed)
    low, high = changed.amin((1, 2), keepdim=True), changed.amax((1, 2), keepdim=True)
    changed = torch.where(is_inverted > 0, low + high - changed, changed)
    extent = high - low
    powers = ((changed - low) / extent.clamp(min=1e-7)) ** gamma * extent + low
    return torch.where(gamma == 1, changed, powers)[:, None]
