"""Whole volumes as a copy detector: coarse volumes in one pose, or a 3-D embedder."""

from __future__ import annotations

import os
from functools import partial
from itertools import permutations
from typing import ClassVar

import torch
from monai.networks.layers import GaussianFilter
from torch import Tensor, nn

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.networks import load_deepssim
from monai_deepssim.search import search_by_similarity
from monai_deepssim.similarity import canonicalize_volumes, standardize

__all__ = ["DeepSSIM3DDetector"]

# Sides of a coarse volume, and its band in voxels of that size (standard deviations): the shape of the brain and its
# large folds are left, the contrast of tissues, blur and noise are not. Measured by benchmarks/volumes.py.
_COARSE_SIZE, _BAND = (24, 24, 24), (0.7, 2.0)
# A volume as it lies, with its principal axes along the canvas, and with each of these at the same length.
_POSES: tuple[dict[str, bool], ...] = ({"turn": False}, {"turn": True}, {"turn": True, "stretch": True})
# The 48 orientations of a cube: which axes become the first three, and which of these are flipped.
_ORIENTATIONS = tuple(
    (order, [axis for axis in range(3) if bits >> axis & 1]) for order in permutations(range(3)) for bits in range(8)
)
# Rows of a block of the search: three coarse volumes each, 42 MB on each side.
_BLOCK_SIZE = 256


class DeepSSIM3DDetector(CopyDetectionMetric):
    """Cosine of 3-D DeepSSIM embeddings where weights are given; without, correlation of coarse volumes in one pose.

    Without weights a volume is centred and scaled by its moments
    (:func:`~monai_deepssim.similarity.canonicalize_volumes`), once as it lies, once with its principal axes along the
    canvas and once with each of these at the same length, at 24 x 24 x 24 voxels and in a band of structure sizes. The
    score of two volumes is the highest of the three correlations, each in the best of the 48 orientations of a cube.
    166 kB are kept per training volume.

    Args:
        embedder: takes standardised ``(N, 1, X, Y, Z)`` and gives ``(N, D)``; or the path of a checkpoint that
            :func:`~monai_deepssim.networks.load_deepssim` takes; ``None`` compares coarse volumes.
        threshold: score above which a volume is a copy; by default that of coarse volumes, or none with an embedder.
        device: where volumes are represented.

    Example:
        >>> volumes = torch.rand(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> detector = DeepSSIM3DDetector().fit([volumes])
        >>> detector(volumes[1:].flip(2))[:, 1]
        tensor([1., 2.])
    """

    title: ClassVar[str] = "DeepSSIM 3-D"
    needs: ClassVar[str] = "nothing; a checkpoint of a 3-D DeepSSIM embedder if one is wanted"
    default_threshold: ClassVar[float | None] = 0.94
    threshold_source: ClassVar[str] = "chosen on phantom volumes (docs/measured.md)"
    threshold_is_of_any_weights: ClassVar[bool] = False
    spatial_dims: ClassVar[tuple[int, ...]] = (3,)

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str] | None = None,
        threshold: float | None = None,
        device: torch.device | str | None = None,
        *,
        allow_torchscript: bool = False,
    ) -> None:
        super().__init__(threshold, device)
        load = partial(load_deepssim, allow_torchscript=allow_torchscript)
        self.embedder = None if embedder is None else self.prepare_embedder(embedder, load)
        if self.embedder is not None and threshold is None:
            self.threshold = None

    def represent(self, images: Tensor) -> Tensor:
        """Represent volumes ``(B, 1, X, Y, Z)`` by embeddings, or by three coarse volumes ``(B, 3 * 24 ** 3)``."""
        if self.embedder is not None:
            return self.embedder(standardize(images))
        return torch.cat([_coarse(canonicalize_volumes(images, _COARSE_SIZE, **pose)) for pose in _POSES], dim=1)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` in [-1, 1]; 0 where a volume is constant."""
        if self.embedder is not None:
            return super().compare(queries, training)
        scores = torch.full((len(queries), len(training)), -1.0, device=queries.device)
        num_poses = len(_POSES)
        for posed, other in zip(queries.chunk(num_poses, dim=1), training.chunk(num_poses, dim=1), strict=True):
            volumes = posed.unflatten(1, _COARSE_SIZE)
            for order, flipped in _ORIENTATIONS:
                oriented = volumes.permute(0, *[axis + 1 for axis in order]).flip([axis + 1 for axis in flipped])
                scores = torch.maximum(scores, oriented.flatten(1) @ other.T)
        return scores

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training volumes that are most similar, in blocks that fit the size of coarse volumes."""
        return search_by_similarity(
            representations, self.training_representations, self.compare, num_neighbors, block_size=_BLOCK_SIZE
        )


def _coarse(volumes: Tensor) -> Tensor:
    """Band-passed volumes as vectors of length 1, or 0 where there is no structure."""
    fine, coarse = (GaussianFilter(3, sigma)(volumes) for sigma in _BAND)
    return nn.functional.normalize((fine - coarse).flatten(1), dim=1)
