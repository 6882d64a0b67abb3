"""Which volumes are worth an alignment with another one: a search of the same kind at a quarter of the size."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_deepssim.similarity.alignment_inputs import as_volumes
from monai_deepssim.similarity.bounds import fill_in_bounds
from monai_deepssim.similarity.kernels import ensure_compiled
from monai_deepssim.similarity.volume_pyramid import make_level
from monai_deepssim.similarity.volume_search import correlate_coarsely, plan_volume_search

__all__ = ["match_coarsely", "shrink_volumes"]

_HALVINGS = 3
# Orientations and stretches that are fitted: a brain and its mirror image look alike from afar.
_NUM_STARTS = 4


def shrink_volumes(volumes: Tensor) -> Tensor:
    """Keep of volumes what :func:`match_coarsely` compares: each axis halved as long as 14 voxels are left of it.

    Args:
        volumes: ``(N, 1, X, Y, Z)``, any range.

    Returns:
        Volumes ``(N, 1, x, y, z)`` in [0, 1].

    Example:
        >>> shrink_volumes(torch.rand(2, 1, 64, 64, 24)).shape
        torch.Size([2, 1, 16, 16, 24])
    """
    small = [torch.from_numpy(make_level(volume, _HALVINGS).volume) for volume in as_volumes(volumes)]
    return torch.stack(small)[:, None]


def match_coarsely(x: Tensor, y: Tensor) -> Tensor:
    """Measure how well each of some small volumes fits another one, in any orientation, turned and stretched.

    It costs a tenth of an alignment, and tells which of them are worth one. It says nothing of a copy: small volumes of
    two heads are much alike.

    Args:
        x: ``(1, x, y, z)``, from :func:`shrink_volumes`.
        y: ``(M, 1, x, y, z)``, from there.

    Returns:
        ``(M,)``, the correlation of x with each after the best change found; 0 for one that is constant.

    Example:
        >>> volumes = shrink_volumes(torch.rand(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)))
        >>> int(match_coarsely(volumes[1].flip(2), volumes).argmax())
        1
    """
    ensure_compiled(3)
    search = plan_volume_search(x.shape[1:], *fill_in_bounds(x.shape[1:]))
    (first,) = as_volumes(x[None])
    return torch.tensor([correlate_coarsely(first, other, search, _NUM_STARTS) for other in as_volumes(y)])
