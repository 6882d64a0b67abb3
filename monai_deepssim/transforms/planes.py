"""The three middle planes of a volume, as a radiologist sees them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["lay_out_planes", "orthogonal_planes"]


def orthogonal_planes(volumes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Take the middle axial, coronal and sagittal plane of volumes.

    Axial: front up, patient's right on the left. Coronal: head up, patient's right on the left. Sagittal: head up,
    front on the left.

    Args:
        volumes: ``(..., X, Y, Z)``, axes in RAS order.

    Returns:
        Axial ``(..., Y, X)``, coronal ``(..., Z, X)``, sagittal ``(..., Z, Y)``.

    Example:
        >>> volume = torch.zeros(1, 4, 6, 8)
        >>> volume[:, :, 5] = 1  # the front
        >>> axial, coronal, sagittal = orthogonal_planes(volume)
        >>> axial[0, 0].tolist(), sagittal[0, :, 0].sum(), coronal.shape
        ([1.0, 1.0, 1.0, 1.0], tensor(8.), torch.Size([1, 8, 4]))
    """
    return tuple(  # type: ignore[return-value]
        volumes.select(axis, volumes.shape[axis] // 2).flip(-1, -2).transpose(-1, -2) for axis in (-1, -2, -3)
    )


def lay_out_planes(volume: Tensor) -> Tensor:
    """Lay the three middle planes of a volume side by side: coronal and sagittal, and axial below the former.

    Args:
        volume: ``(C, X, Y, Z)``.

    Returns:
        ``(C, Z + Y, X + Y)``; the corner that is left over has the lowest value of the volume.

    Example:
        >>> lay_out_planes(torch.rand(1, 4, 6, 8)).shape
        torch.Size([1, 14, 10])
    """
    axial, coronal, sagittal = orthogonal_planes(volume)
    corner = volume.amin().expand(*axial.shape[:-1], sagittal.shape[-1])
    return torch.cat([torch.cat([coronal, sagittal], -1), torch.cat([axial, corner], -1)], -2)
