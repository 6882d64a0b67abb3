"""Volumes as a copy detector by their slices, which vote for the training volume that they were found in."""

from __future__ import annotations

import os
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.networks import load_deepssim
from monai_deepssim.similarity import canonicalize_volumes, standardize

__all__ = ["SliceVotesDetector"]

# Sides of a volume in one pose: slices of 64 x 64 pixels, the fewest that the embedder takes, and every second of the
# 64 that there are, since neighbours hardly differ.
_CANVAS, _STEP = (64, 64, 64), 2
# A slice whose intensities span less than this share of the volume's is background.
_LEAST_SPAN = 0.1
# What the numbers of slices are multiplied by from a volume to its copy: half to twice, in steps of 12 %, either way
# up. And how far from that line a slice may lie, in slices.
_SLOPES = tuple(sign * 2 ** (step / 6) for step in range(-6, 7) for sign in (1, -1))
_TOLERANCE = 1.5
# Mean cosine of the slices from which a training volume is the query itself.
_ITSELF = 0.999


class SliceVotesDetector(CopyDetectionMetric):
    r"""Share of a volume's slices whose best match lies in one training volume at a consistent offset, times their mean.

    Volumes are brought to one pose (:func:`~monai_deepssim.similarity.canonicalize_volumes`), and 32 slices of each are
    embedded by a 2-D DeepSSIM embedder, from the feet to the head; slices of background are left out. A slice i of the
    query votes for the training volume in which its best match of all training volumes lies, at slice j. With
    :math:`V_m` the largest set of votes for volume m for which :math:`|j - a i - b| \le 1.5`, for one slope a (1 or -1
    where the volume is upside down, or others of 0.5 to 2 where spacings differ) and one offset b, the score is
    :math:`\frac{1}{S} \sum_{i \in V_m} \cos(f_i, f_j)`: the share of the S slices that are in it, times the mean of
    their cosines. A training volume without votes has 0.

    A training volume that is the query itself, slice by slice, takes no votes away from others: so a search of the
    training side in itself finds repeats. 131 kB are kept per training volume.

    Args:
        embedder: takes standardised ``(N, 1, H, W)`` and gives ``(N, D)``; or the path of a checkpoint that
            :func:`~monai_deepssim.networks.load_deepssim` takes.
        threshold: score above which a volume is a copy.
        device: where slices are embedded.
        allow_torchscript: whether the checkpoint may be TorchScript, a program that can run code of its own.

    Example:
        >>> slices = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten())
        >>> volumes = torch.rand(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> detector = SliceVotesDetector(slices).fit([volumes])
        >>> detector(volumes[1:].flip(4))[:, 1]
        tensor([1., 2.])
    """

    title: ClassVar[str] = "Slice votes"
    needs: ClassVar[str] = "nothing: weights ship"
    shipped_weights: ClassVar[str | None] = "deepssim_brain_mri/models/model.pt"
    default_threshold: ClassVar[float | None] = 0.3
    threshold_source: ClassVar[str] = "chosen on phantom volumes (docs/measured.md)"
    spatial_dims: ClassVar[tuple[int, ...]] = (3,)

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        threshold: float | None = None,
        device: torch.device | str | None = None,
        *,
        allow_torchscript: bool = False,
    ) -> None:
        super().__init__(threshold, device)
        load = partial(load_deepssim, allow_torchscript=allow_torchscript)
        self.embedder = self.prepare_embedder(embedder, load)

    def represent(self, images: Tensor) -> Tensor:
        """Embed the slices of volumes ``(B, 1, X, Y, Z)``: ``(B, 32 * D)``, zeros for slices of background."""
        posed = torch.cat([canonicalize_volumes(volume[None], _CANVAS) for volume in images])
        slices = posed[..., ::_STEP].movedim(4, 1)  # (B, S, 1, 64, 64)
        span = slices.amax((2, 3, 4)) - slices.amin((2, 3, 4))
        shown = span > _LEAST_SPAN * span.amax(1, keepdim=True)
        embedded = shown.clone()
        embedded[0, 0] = True  # for the length of an embedding, where nothing is shown
        embeddings = nn.functional.normalize(self.embedder(standardize(slices[embedded])).float(), dim=1)
        placed = torch.zeros(*shown.shape, embeddings.shape[1], device=embeddings.device)
        placed[embedded] = embeddings
        return (placed * shown[:, :, None]).flatten(1)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Let the slices of each query vote among all of ``training``: ``(n, m)`` in [-1, 1]."""
        return torch.stack([_count_votes(_unfold(query[None])[0], _unfold(training)) for query in queries])

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare each of the one with its partner in the other, which competes with the training volumes."""
        others = torch.zeros(0, first.shape[1]) if self._training is None else self.training_representations
        pairs = zip(first, second, strict=True)
        return torch.stack([self.compare(query[None], torch.cat([one[None], others]))[0, 0] for query, one in pairs])

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training volumes with the highest scores; equal ones in their order."""
        training = self.training_representations
        scores = self.compare(representations, training)
        found = scores.sort(dim=1, descending=True, stable=True)
        return found.values[:, :num_neighbors], found.indices[:, :num_neighbors]


def _unfold(representations: Tensor) -> Tensor:
    """Representations as slices, ``(n, 32, D)``."""
    return representations.unflatten(1, (_CANVAS[2] // _STEP, -1))


def _count_votes(query: Tensor, training: Tensor) -> Tensor:
    """The score of each training volume ``(M, S, D)`` for a query ``(S, D)``, ``(M,)``."""
    shown = query.any(1).nonzero().flatten()
    scores = torch.zeros(len(training))
    if not len(shown):
        return scores
    cosines = torch.einsum("sd,mtd->smt", query[shown], training)
    best, place = cosines.max(2)
    at_home = cosines[torch.arange(len(shown)), :, shown].mean(0)
    others = torch.where(at_home > _ITSELF, -2.0, best)  # (S, M), of those that compete
    highest, winner = others.max(1)
    second = others.scatter(1, winner[:, None], -2.0).amax(1)
    # Among all others: a volume that does not compete still has to beat those that do.
    rival = torch.where(torch.arange(len(training)) == winner[:, None], second[:, None], highest[:, None])
    votes = best >= rival
    for volume in votes.any(0).nonzero().flatten().tolist():
        voters = votes[:, volume].nonzero().flatten()
        offsets = place[voters, volume] - torch.tensor(_SLOPES)[:, None] * shown[voters]
        consistent = ((offsets[:, :, None] - offsets[:, None]).abs() <= _TOLERANCE).float()
        scores[volume] = (consistent @ best[voters, volume]).max() / len(shown)
    return scores
