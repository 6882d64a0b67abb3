"""The Memorization Index as a copy detector, on any network's layers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from monai.transforms import Rotate
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.metrics.feature_whitening import Covariance, FeatureWhitening
from monai_deepssim.metrics.memorization_index import (
    MemorizationIndex,
    compare_whitened,
    estimate_null,
    geometric_mean,
    score_whitened,
)
from monai_deepssim.networks import (
    DeepSSIMEmbedder,
    LayerFeatures,
    MRICoreEncoder,
    find_stages,
    is_torchscript,
    load_deepssim,
)
from monai_deepssim.search import Embeddings, search_by_similarity
from monai_deepssim.similarity import standardize
from monai_deepssim.transforms import RandStructurePreserving

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MemorizationIndexMetric"]

# Degrees; the paper tests rotations of 3 and 5.
_SMALL_ROTATION = 5.0


class MemorizationIndexMetric(CopyDetectionMetric):
    r"""Memorization Index (MI) of features of several layers of a network.

    Every score is in the unit of the index, standard deviations of the null: a call gives ``(B, 2)``, each image's MI
    and the training image that most layers name; :meth:`search` and :meth:`score_pairs` give the MI of a pair,
    :math:`(s - \mu) / \sigma` with s the geometric mean of the pair's cosines. So a threshold is one on MI, and as
    ONI is ``-tanh(MI)``, an ONI below ``-t`` is an MI above ``atanh(t)``: 1.47 for an ONI of -0.9, 2.65 for -0.99.
    Nobody has published one. MI, ONI, margin and consensus are in what :meth:`compute_index` returns. See
    :func:`~monai_deepssim.metrics.compute_memorization_index` for the formula and for what few training images do.

    The index is weak for rotated and flipped copies; the two remedies that the paper suggests are options here.

    Args:
        embedder: takes standardised ``(N, 1, H, W)``; or the path of a checkpoint that
            :func:`~monai_deepssim.networks.load_deepssim` takes.
        layers: names of its layers, as ``named_modules()`` gives them; ``None`` for the stages of a
            :class:`~monai_deepssim.networks.DeepSSIMEmbedder` or the blocks 3, 7 and 11 of a
            :class:`~monai_deepssim.networks.MRICoreEncoder`, whose ``channel_dim`` is then -1.
        channel_dim: axis of the channels in what the layers put out: 1, or -1 for transformers.
        pool_over_transforms: average an image's features over 12 views before neighbours are searched: no flip, a flip
            of either of the first two spatial axes or of both, each at -5, 0 and 5 degrees in their plane. Flipped
            copies then have the features of what they were copied from. Takes 12 times as long.
        null_jitter: estimate the null from training images that are flipped (each axis with probability 0.5) and
            rotated (by up to 5 degrees) before they are compared with others. :meth:`fit` then needs images.
        null: mean and standard deviation, where they are known.
        seed: seed of the null's random halves and changes.
        covariance: how features are whitened: ``"empirical"`` as published, ``"ledoit_wolf"``, or ``"auto"``, which
            takes the latter for layers with fewer than two training images per channel, with a warning.
        threshold: MI above which an image is a copy.
        device: where images are represented.

    Raises:
        UnusableInputError: when a checkpoint cannot be used or there is no layer of a name.
        ValueError: when ``layers`` is ``None`` and the embedder is of neither kind.

    References:
        Deo et al., A Calibrated Memorization Index (MI) for Detecting Training Data Leakage in Generative MRI Models,
        arXiv 2602.13066.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU(), nn.Conv2d(4, 4, 5))
        >>> images = torch.rand(40, 1, 32, 32)
        >>> metric = MemorizationIndexMetric(network, layers=["0", "2"], threshold=1.5).fit([images])
        >>> metric(images[7:9])[:, 1]
        tensor([7., 8.])
        >>> index = metric.compute_index(metric.represent_batch(images[7:9]))
        >>> index.consensus, bool((index.oni < 0).all())
        (tensor([2, 2]), True)
    """

    title: ClassVar[str] = "MI"
    shipped_weights: ClassVar[str | None] = "deepssim_brain_mri/models/model.pt"

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        layers: Sequence[str] | None = None,
        channel_dim: int = 1,
        pool_over_transforms: bool = False,
        null_jitter: bool = False,
        null: Sequence[float] | None = None,
        seed: int = 0,
        covariance: Covariance = "auto",
        threshold: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(threshold, device)
        network = self.prepare_embedder(embedder, _load)
        if layers is None:
            layers, channel_dim = _default_layers(network, channel_dim)
        self.features = LayerFeatures(network, layers, channel_dim).to(self.device).eval()
        self.pool_over_transforms = pool_over_transforms
        self.null_jitter = null_jitter
        self.null = null
        self.seed = seed
        self.covariance: Covariance = covariance
        self._widths: list[int] = []
        self._whitening: FeatureWhitening | None = None
        self._whitened = torch.empty(0)
        self._fitted_null: Sequence[float] = (math.nan, math.nan)

    def represent(self, images: Tensor) -> Tensor:
        """Represent images by their layers' features, one after the other: ``(B, sum of C)``."""
        views = list(_flip_and_rotate(images)) if self.pool_over_transforms else [images]
        total: dict[str, Tensor] = {}
        for view in views:
            # MRI-CORE scales images itself, by minimum and maximum, so that it does not see this.
            for layer, values in self.features(standardize(view)).items():
                total[layer] = total[layer] + values if layer in total else values
        self._widths = [values.shape[1] for values in total.values()]
        return torch.cat(list(total.values()), dim=1) / len(views)

    def fit(self, training_images: Iterable[Tensor | Mapping[str, Any]]) -> Self:
        """Represent the training images, fit the whitening to them and estimate the null.

        Args:
            training_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``, 4 images or
                more in all, and better at least twice as many as a layer has channels.

        Returns:
            This object.

        Raises:
            ValueError: when there are too few.
        """
        parts = list(self.represent_training(training_images))
        if not parts:
            raise ValueError("there are no training images to fit on: the loader gave no batch")
        return self.fit_representations(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def represent_training(self, training_images: Iterable[Tensor | Mapping[str, Any]]) -> Iterator[tuple[Tensor, ...]]:
        """Yield what :meth:`fit_representations` takes of each batch.

        Args:
            training_images: as for :meth:`fit`.

        Yields:
            ``(B, D)``; with ``null_jitter`` also those of the images after a flip and a rotation.
        """
        change = RandStructurePreserving(
            rotation_radians=math.radians(_SMALL_ROTATION), flip_prob=0.5, rotation_prob=1.0, gamma_prob=0.0
        )
        change.set_random_state(seed=self.seed)
        for batch in training_images:
            images = batch["image"] if isinstance(batch, Mapping) else batch
            representations = self.represent_all([images])
            if not self.null_jitter or self.null is not None:
                yield (representations,)
                continue
            changed = [convert_to_tensor(change(image), track_meta=False) for image in images]
            yield representations, self.represent_batch(torch.stack(changed))

    def fit_representations(self, training: Embeddings, jittered: Tensor | None = None) -> Self:
        """Fit the whitening to representations that were computed before, and estimate the null.

        Args:
            training: ``(M, D)``, of :meth:`represent_batch`.
            jittered: the same training images, flipped and rotated a little, for the null; with ``null_jitter`` only.

        Returns:
            This object.

        Raises:
            ValueError: when ``null_jitter`` asks for changed images and there are none, there are fewer than 4, or the
                representations are not as wide as this network's.
        """
        if self.null_jitter and self.null is None and jittered is None:
            raise ValueError("null_jitter=True needs the training images: call fit(training_loader), or give null")
        super().fit_representations(training)
        features = self._split(self.training_representations)
        self._whitening = FeatureWhitening(features, self.covariance)
        self._whitened = self._whiten(self.training_representations)
        if self.null is not None:
            self._fitted_null = self.null
        else:
            changed = self._whitened if jittered is None else self._whiten(jittered)
            self._fitted_null = estimate_null(self._split(changed), self._split(self._whitened), self.seed)
        return self

    def compute_index(self, representations: Tensor) -> MemorizationIndex:
        """Compute MI, ONI, margin and consensus.

        Args:
            representations: ``(N, D)`` of synthetic images, of :meth:`represent_batch`.

        Returns:
            All that there is to know of each.
        """
        query = self._whiten(representations)
        return score_whitened(self._split(query), self._split(self._whitened), self._fitted_null)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each of the one with each of the other: ``(n, m)``, the MI of the pairs."""
        return self._compare_whitened(self._whiten(queries), self._whiten(training))

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        one, other = self._split(self._whiten(first)), self._split(self._whiten(second))
        cosines = torch.stack([(one[layer] * other[layer]).sum(1) for layer in one], dim=1)
        return self._to_index(geometric_mean(cosines)).float()

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar in all layers together.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.

        Returns:
            ``(scores, indices)``, both ``(N, k)``, the most similar first. The first score is the MI of the pair, at
            most that of a call, and the same where all layers name one training image.
        """
        query = self._whiten(representations)
        return search_by_similarity(query, self._whitened, self._compare_whitened, num_neighbors)

    def _find_nearest(self, images: Tensor, representations: Tensor) -> tuple[Tensor, Tensor]:
        index = self.compute_index(representations)
        return index.mi, index.nearest

    def _compare_whitened(self, queries: Tensor, training: Tensor) -> Tensor:
        return self._to_index(compare_whitened(self._split(queries), self._split(training)))

    def _to_index(self, similarity: Tensor) -> Tensor:
        mean, deviation = self._fitted_null
        # A null without spread keeps the order of the pairs; compute_index says what it means.
        return (similarity - mean) / (deviation or 1.0)

    def _whiten(self, representations: Tensor) -> Tensor:
        if self._whitening is None:
            raise RuntimeError(f"{type(self).__name__} has no training images yet: call fit(training_loader) first")
        return torch.cat(list(self._whitening.transform(self._split(representations)).values()), dim=1)

    def _split(self, representations: Tensor) -> dict[str, Tensor]:
        """Features by layer, from where they stand one after the other."""
        if not self._widths:
            self._widths = self._measure_widths()
        if representations.ndim != 2 or representations.shape[1] != sum(self._widths):
            raise ValueError(
                f"got representations of shape {tuple(representations.shape)}, want (N, {sum(self._widths)}): those "
                "that represent_batch gives with the same network and layers"
            )
        return dict(zip(self.features.layers, representations.split(self._widths, dim=1), strict=True))

    @torch.no_grad()
    def _measure_widths(self) -> list[int]:
        features = self.features(torch.zeros(1, 1, 64, 64, device=self.device))
        return [values.shape[1] for values in features.values()]


def _load(path: str | os.PathLike[str]) -> nn.Module:
    if is_torchscript(path):
        raise UnusableInputError(f"{path}: the layers of a TorchScript program cannot be reached. Give a state dict.")
    return load_deepssim(path)


def _default_layers(network: nn.Module, channel_dim: int) -> tuple[Sequence[str], int]:
    if isinstance(network, MRICoreEncoder):
        return network.LAYERS, -1
    if isinstance(network, DeepSSIMEmbedder):
        return find_stages(network), channel_dim
    raise ValueError(
        f"got layers=None for a {type(network).__name__}: only of a DeepSSIMEmbedder and an MRICoreEncoder are the "
        "layers known. Name some of named_modules()."
    )


def _flip_and_rotate(images: Tensor) -> Iterable[Tensor]:
    """The 12 views ``(B, 1, H, W)``: a set that a flip only reorders."""
    for degrees in (-_SMALL_ROTATION, 0.0, _SMALL_ROTATION):
        angle = math.radians(degrees)
        # One rotation for the batch, whose images MONAI takes for channels.
        rotate = Rotate(angle if images.ndim == 4 else [0.0, 0.0, angle], padding_mode="zeros", align_corners=False)
        rotated = convert_to_tensor(rotate(images[:, 0]), track_meta=False)[:, None] if angle else images
        for flips in product((False, True), repeat=2):
            yield rotated.flip([axis for axis, flip in zip((2, 3), flips, strict=True) if flip])
