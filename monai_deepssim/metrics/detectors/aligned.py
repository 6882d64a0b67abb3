"""A copy detector in two stages: candidates of several searches, compared on the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from monai_deepssim.metrics.compared_images import ComparedImages
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric, SearchStages
from monai_deepssim.metrics.detectors.local_features import best_local_match
from monai_deepssim.metrics.verification import (
    NUM_SCREENED,
    Matches,
    find_local_matches,
    tabulate_candidates,
    tabulate_neighbors,
    verify_candidates,
)
from monai_deepssim.search import Embeddings, LocalFeatureSearch
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    LocalFeatures,
    copy_score,
    extract_local_features,
    fit_local_features,
    map_in_threads,
)
from monai_deepssim.transforms import FitImageSize

__all__ = ["AlignedDetector"]


class AlignedDetector(CopyDetectionMetric):
    """Copy score (aligned SSIM and inliers) of the training images that another detector and local features propose.

    The other detector proposes ``num_screened`` training images, of which :func:`~monai_deepssim.similarity.posed_ssim`
    keeps the most alike; a :class:`~monai_deepssim.search.LocalFeatureSearch` proposes others. ``top_k`` of both are
    compared on the pixels (:func:`~monai_deepssim.metrics.verify_candidates`, as in an audit). A search finds at most
    ``top_k`` training images, the highest score first; one that no search proposes cannot be found. The score of a pair
    (:meth:`score_pairs`, :meth:`compare_pairs`) is its copy score, whether a search would have found it or not.

    Images larger than ``image_size`` are brought to it, but for their local features, which are found at full size.
    Volumes have no local features.

    Args:
        detector: makes the shortlists. Pixels are kept beside its representations, 60 kB per training image at
            136 x 112.
        top_k: how many training images are compared on the pixels.
        threshold: copy score above which an image is a copy.
        num_screened: training images that the other detector proposes; at least ``top_k`` are taken. Volumes are not
            screened.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        local_features: whether local features are looked for.
        image_size: rows and columns at which images are compared.

    Raises:
        ValueError: when ``top_k`` or ``num_screened`` is below 1.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.metrics import NCCDetector
        >>> cohort = PhantomBrainDataset(4, seed=3, progress=False)
        >>> training = torch.stack([item["image"].as_tensor() for item in cohort])
        >>> detector = AlignedDetector(NCCDetector(), top_k=2).fit([training])
        >>> detector(training[1:3].flip(3))[:, 1]
        tensor([1., 2.])
        >>> detector.aggregate()
        tensor(1.)
    """

    title: ClassVar[str] = "Copy score"
    default_threshold: ClassVar[float | None] = 0.86
    threshold_source: ClassVar[str] = (
        "chosen on phantoms and brain MRI kept for choosing, measured on others (docs/measured.md)"
    )
    wants_one_size: ClassVar[bool] = True
    spatial_dims: ClassVar[tuple[int, ...]] = (2, 3)

    def __init__(
        self,
        detector: CopyDetectionMetric,
        top_k: int = 10,
        threshold: float | None = None,
        num_screened: int = NUM_SCREENED,
        deformation_cost: float | None = DEFORMATION_COST,
        local_features: bool = True,
        image_size: Sequence[int] = (136, 112),
    ) -> None:
        super().__init__(threshold, detector.device)
        if min(top_k, num_screened) < 1:
            raise ValueError(f"got top_k={top_k} and num_screened={num_screened}, want 1 or more")
        self.detector = detector
        self.top_k = top_k
        self.num_screened = num_screened
        self.deformation_cost = deformation_cost
        self.local_features = local_features
        self.fit_size = FitImageSize(image_size)
        self._local: LocalFeatureSearch | None = None

    def represent(self, images: Tensor) -> Tensor:
        """Represent images as the other detector does, with their pixels behind that: ``(B, D + number of pixels)``."""
        return self.join(self.detector.represent_batch(self._fit(images)), images.cpu())

    def join(self, representations: Tensor, images: Tensor) -> Tensor:
        """Put the pixels of images behind what the other detector made of them.

        Args:
            representations: ``(N, D)``, of the other detector.
            images: ``(N, 1, H, W)``.

        Returns:
            ``(N, D + number of pixels)``, as :meth:`represent_batch` gives them.
        """
        self._check_shape(images)
        return torch.cat([representations, images.flatten(1)], dim=1)

    def fit_representations(self, training: Embeddings) -> AlignedDetector:
        super().fit_representations(training)
        inner, images = self._split(self.training_representations)
        self.detector.fit_representations(inner)
        self._images = self._compared(images)
        self._local = None
        if self.local_features and images.ndim == 4:
            features = map_in_threads(lambda row: self._features(images[row]), len(images))
            self._local = LocalFeatureSearch().fit(features)
        return self

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images of the shortlist with the highest copy score.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, top_k))``, the highest first; of equal ones the first of the
            shortlist. Where fewer were compared, the last is repeated.
        """
        stages = self.search_stages(representations, num_neighbors)
        return stages.scores, stages.indices

    def search_stages(self, representations: Tensor, num_neighbors: int = 1) -> SearchStages:
        inner, images = self._split(representations)
        detector_scores, proposed = self.detector.search(inner, max(self.top_k, self.num_screened))
        queries, candidates = self._compared(images), tabulate_candidates(proposed.numpy(), detector_scores.numpy())
        matches: Matches = {}
        if self._local is not None:
            matches = find_local_matches(queries, candidates["query"].unique(), self._images, self._local)
        pairs = verify_candidates(
            candidates,
            queries,
            self._images,
            keep=self.top_k,
            matches=matches,
            deformation_cost=self.deformation_cost,
        )
        scores, indices = (torch.from_numpy(values) for values in tabulate_neighbors(pairs))
        found = [torch.tensor([*row, *matches.get(query, {})]) for query, row in enumerate(proposed.tolist())]
        union = pad_sequence(found, batch_first=True, padding_value=-1)
        return SearchStages(scores[:, :num_neighbors].float(), indices[:, :num_neighbors], union, indices)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` copy scores, some milliseconds each."""
        pairs = self.compare_pairs(queries.repeat_interleave(len(training), 0), training.repeat(len(queries), 1))
        return pairs.view(len(queries), len(training))

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        x, y = self._split(first)[1], self._split(second)[1]
        matches = None
        if self.local_features and x.ndim == 4:
            matches = [
                best_local_match(self._features(one), self._features(other)) for one, other in zip(x, y, strict=True)
            ]
        x, y = self._fit(x), self._fit(y)
        if x.ndim == 4:
            x, y = x.to(self.device), y.to(self.device)
        return copy_score(x, y, matches, deformation_cost=self.deformation_cost).score.cpu()

    def _compared(self, images: Tensor) -> ComparedImages:
        return ComparedImages(
            self._fit(images).__getitem__, lambda row: self._features(images[row]), device=self.device
        )

    def _features(self, image: Tensor) -> LocalFeatures:
        """Local features of an image ``(1, H, W)``, where they lie at the size at which images are compared."""
        features = extract_local_features(image)
        if not self._is_large(image):
            return features
        rows, columns = self.fit_size.image_size
        return fit_local_features(features, (image.shape[1], image.shape[2]), (rows, columns))

    def _is_large(self, image: Tensor) -> bool:
        sides = image.shape[-2:]
        return image.ndim < 5 and any(s > w for s, w in zip(sides, self.fit_size.image_size, strict=True))

    def _fit(self, images: Tensor) -> Tensor:
        return torch.stack([self.fit_size(image) for image in images]) if self._is_large(images) else images

    def _split(self, representations: Tensor) -> tuple[Tensor, Tensor]:
        """The other detector's representations, and the images ``(N, 1, H, W)``."""
        size = self.image_shape.numel()
        inner, pixels = representations.split([representations.shape[1] - size, size], dim=1)
        return inner, pixels.unflatten(1, self.image_shape)
