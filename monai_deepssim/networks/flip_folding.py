"""Images folded along their two middles: what is left does not change when the image is flipped."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["FOLDED_CHANNELS", "fold_flips"]

#: Channels of a folded image.
FOLDED_CHANNELS = 7
# How soon a difference between the sides counts as one that has a sign: at a tenth of the largest possible, nearly.
_CERTAINTY = 8.0


def fold_flips(images: Tensor) -> Tensor:
    """Fold images into quarters that are the same for an image and its flips, to the last bit.

    The four quarters a, b, c, d (each mirrored to lie on the first) give four sums that a flip either keeps or negates:
    ``s0 = a + b + c + d``, ``s1 = a - b + c - d`` (left from right), ``s2 = a + b - c - d`` (top from bottom) and
    ``s3 = a - b - c + d``. Seven channels keep all of it but the signs: s0, the absolute values of the other three, and
    the three times their sign, as far as the image tells one: ``t1``, from -1 to 1, says how much s1 leans to one side
    of zero, weighted by the distance from the middle, ``t2`` that of s2, and the channels are ``s1 t1``, ``s2 t2`` and
    ``s3 t1 t2``. A flip negates s1 and t1 alike.

    Args:
        images: ``(N, 1, H, W)``; best in a canonical pose, so that the folds go through the middle of what they show.

    Returns:
        ``(N, 7, H // 2, W // 2)``; of an odd side, the line in the middle is left out. Differentiable.

    Raises:
        ValueError: when the images have more than one channel.

    Example:
        >>> image = torch.rand(1, 1, 64, 48, generator=torch.Generator().manual_seed(0))
        >>> folded = fold_flips(image)
        >>> folded.shape, all(torch.equal(fold_flips(image.flip(axes)), folded) for axes in ((2,), (3,), (2, 3)))
        (torch.Size([1, 7, 32, 24]), True)
    """
    if images.ndim != 4 or images.shape[1] != 1:
        raise ValueError(f"got images of shape {tuple(images.shape)}, want (N, 1, H, W)")
    rows, columns = images.shape[2] // 2, images.shape[3] // 2
    top, bottom = images[:, :, :rows], images[:, :, -rows:].flip(2)
    a, b = top[..., :columns], top[..., -columns:].flip(3)
    c, d = bottom[..., :columns], bottom[..., -columns:].flip(3)
    # Grouped so that each flip exchanges the two terms of a sum: a rounding error less would not be the same number.
    everything = (a + b) + (c + d)
    left_right = (a - b) + (c - d)
    top_bottom = (a + b) - (c + d)
    diagonal = (a - b) - (c - d)
    from_left = _lean(left_right, torch.linspace(1, 0, columns, device=images.device))
    from_top = _lean(top_bottom, torch.linspace(1, 0, rows, device=images.device).unsqueeze(1))
    folded = [
        everything,
        left_right.abs(),
        top_bottom.abs(),
        diagonal.abs(),
        left_right * from_left,
        top_bottom * from_top,
        diagonal * (from_left * from_top),
    ]
    return torch.cat(folded, dim=1) / 4


def _lean(difference: Tensor, weights: Tensor) -> Tensor:
    """How surely a difference has a sign, and which, from -1 to 1, ``(N, 1, 1, 1)``."""
    weighted = difference * weights
    total = weighted.abs().sum((1, 2, 3), keepdim=True).clamp(min=1e-6)
    return torch.tanh(_CERTAINTY * weighted.sum((1, 2, 3), keepdim=True) / total)
