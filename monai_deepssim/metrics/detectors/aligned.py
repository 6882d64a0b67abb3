"""A copy detector in two stages: candidates of several searches, compared on the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric, SearchStages
from monai_deepssim.search import LocalFeatureSearch, is_proven, unite_candidates
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    VERSIONS,
    LocalFeatures,
    LocalMatch,
    coarse_structure,
    copy_score,
    extract_local_features,
    extract_rest,
    fit_local_features,
    map_in_threads,
    match_local_features,
    pose,
    posed_ssim,
    screen,
)
from monai_deepssim.transforms import FitImageSize

__all__ = ["NUM_SCREENED", "AlignedDetector", "align_shortlist", "screen_shortlist"]

#: Training images that a detector proposes for each image, of which posed SSIM chooses those that are aligned.
NUM_SCREENED = 64

# Synthetic images whose shortlists are verified at once: of 136 x 112 pixels and ten candidates, 39 MB on each side.
_BLOCK_SIZE = 64


class AlignedDetector(CopyDetectionMetric):
    """The copy score of an image with the training images that another detector and local features propose.

    The other detector proposes ``num_screened`` training images, of which :func:`~monai_deepssim.similarity.posed_ssim`
    keeps the most alike; a :class:`~monai_deepssim.search.LocalFeatureSearch` proposes others. ``top_k`` of both are
    compared on the pixels (:func:`~monai_deepssim.similarity.copy_score`). A search finds at most ``top_k`` training
    images, the highest score first; one that no search proposes cannot be found. The score of a pair
    (:meth:`score_pairs`, :meth:`compare_pairs`) is its copy score, whether a search would have found it or not.

    Images larger than ``image_size`` are brought to it, but for their local features, which are found at full size.
    Volumes have no local features.

    Args:
        detector: makes the shortlists. Pixels are kept beside its representations, 60 kB a training image at
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
    """

    title = "Copy score"
    default_threshold = 0.86
    threshold_source = "chosen on phantoms and brain MRI kept for choosing, measured on others (docs/measured.md)"

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
        self.num_screened = num_screened
        self.detector = detector
        self.top_k = top_k
        self.deformation_cost = deformation_cost
        self.local_features = local_features
        self.fit_size = FitImageSize(image_size)
        self._image_shape = torch.Size()
        self._local: LocalFeatureSearch | None = None
        self._training_images = torch.empty(0)

    def represent(self, images: Tensor) -> Tensor:
        """Represent images as the other detector does, with their pixels behind that: ``(B, D + number of pixels)``."""
        self._image_shape = images.shape[1:]
        return torch.cat([self.detector.represent(self._fit(images)).float(), images.flatten(1)], dim=1)

    def fit_representations(self, training: Tensor) -> AlignedDetector:
        inner, images = self._split(training)
        self.detector.fit_representations(inner)
        super().fit_representations(training)
        self._training_images = self._fit(images)
        self._local = None
        if self.local_features and images.ndim == 4:
            self._local = LocalFeatureSearch().fit([self._features(image) for image in images])
        return self

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images of the shortlist with the highest copy score.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: how many, k.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, top_k))``, the highest first; of equal ones the first of the
            shortlist. Where fewer were compared, the last is repeated.
        """
        stages = self.search_stages(representations, num_neighbors)
        return stages.scores, stages.indices

    def search_stages(self, representations: Tensor, num_neighbors: int = 1) -> SearchStages:
        inner, images = self._split(representations)
        _, proposed = self.detector.search(inner, max(self.top_k, self.num_screened))
        fitted = self._fit(images)
        found = None
        if self._local is not None:
            local = self._local
            found = map_in_threads(
                lambda row: local.query(self._features(images[row]), rest=partial(self._extract_rest, fitted[row])),
                len(images),
            )
        scores, indices = align_shortlist(
            fitted, self._training_images, proposed, self.top_k, self.deformation_cost, found
        )
        shared = [torch.tensor([image for image, _ in one], dtype=torch.int64) for one in found or []]
        padded = (
            torch.nn.utils.rnn.pad_sequence(shared, batch_first=True, padding_value=-1) if shared else proposed[:, :0]
        )
        union = torch.cat([proposed, padded.to(proposed)], dim=1)
        return SearchStages(scores[:, :num_neighbors], indices[:, :num_neighbors], union, indices)

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` copy scores, some milliseconds each."""
        pairs = self.compare_pairs(queries.repeat_interleave(len(training), 0), training.repeat(len(queries), 1))
        return pairs.view(len(queries), len(training))

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        x, y = self._split(first)[1], self._split(second)[1]
        matches = None
        if self.local_features and x.ndim == 4:
            matches = [_best_match(self._features(one), self._features(other)) for one, other in zip(x, y, strict=True)]
        return copy_score(self._fit(x), self._fit(y), matches, deformation_cost=self.deformation_cost).score

    def _features(self, image: Tensor) -> LocalFeatures:
        """Local features of an image ``(1, H, W)``, where they lie at the size at which images are compared."""
        features = extract_local_features(image)
        if not self._is_large(image):
            return features
        return fit_local_features(features, (image.shape[1], image.shape[2]), self.fit_size.image_size)

    def _extract_rest(self, image: Tensor, source: int, match: LocalMatch) -> LocalFeatures | None:
        return extract_rest(image, self._training_images[source], match)

    def _is_large(self, image: Tensor) -> bool:
        sides = image.shape[-2:]
        return image.ndim < 5 and any(s > w for s, w in zip(sides, self.fit_size.image_size, strict=True))

    def _fit(self, images: Tensor) -> Tensor:
        return torch.stack([self.fit_size(image) for image in images]) if self._is_large(images) else images

    def _split(self, representations: Tensor) -> tuple[Tensor, Tensor]:
        """The other detector's representations, and the images ``(N, 1, H, W)``."""
        if not self._image_shape:
            raise RuntimeError("AlignedDetector has represented no image yet, so it knows no image size")
        size = self._image_shape.numel()
        inner, pixels = representations.split([representations.shape[1] - size, size], dim=1)
        return inner, pixels.unflatten(1, self._image_shape)


def _best_match(query: LocalFeatures, training: LocalFeatures) -> LocalMatch | None:
    matches = [match_local_features(query, training, version) for version in VERSIONS]
    return max((match for match in matches if match), key=lambda match: match.num_inliers, default=None)


def screen_shortlist(images: Tensor, training_images: Tensor, proposed: Tensor, top_k: int) -> Tensor:
    """Keep those of the proposed training images that look most like each image in one pose.

    An embedding says which training images are near; which of the nearest is the source of a copy that was deformed a
    little, the pixels say better, and :func:`~monai_deepssim.similarity.posed_ssim` searches nothing, as an alignment
    has to.

    Args:
        images: ``(N, 1, H, W)``; volumes are not screened, and keep the first of what is proposed.
        training_images: ``(M, 1, H, W)``.
        proposed: ``(N, K)`` int64, rows of the training images.
        top_k: how many are kept for each image.

    Returns:
        ``(N, min(K, top_k))``, as :func:`~monai_deepssim.similarity.screen` orders them.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> cohort = PhantomBrainDataset(4, seed=3, progress=False)
        >>> training = torch.stack([item["image"].as_tensor() for item in cohort])
        >>> screen_shortlist(training[1:3].flip(3), training, torch.arange(4).expand(2, 4), top_k=1)
        tensor([[1],
                [2]])
    """
    if proposed.shape[1] <= top_k or images.ndim != 4:
        return proposed[:, :top_k]
    needed, positions = proposed.unique(return_inverse=True)
    posed = torch.cat([pose(training_images[rows]) for rows in needed.split(_BLOCK_SIZE)])
    coarse = coarse_structure(training_images[needed])
    chosen = []
    for block, rows in zip(images.split(_BLOCK_SIZE), positions.split(_BLOCK_SIZE), strict=True):
        for image, vector, row in zip(pose(block), coarse_structure(block), rows, strict=True):
            chosen.append(screen(posed_ssim(image[None], posed[row])[0], coarse[row] @ vector, top_k))
    return proposed.gather(1, torch.stack(chosen).to(proposed.device))


def align_shortlist(
    images: Tensor,
    training_images: Tensor,
    proposed: Tensor,
    top_k: int,
    deformation_cost: float | None = DEFORMATION_COST,
    found: Sequence[Sequence[tuple[int, LocalMatch]]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compare each image with the training images that are proposed for it, and order these by their copy score.

    Args:
        images: ``(N, 1, H, W)`` or ``(N, 1, H, W, D)``.
        training_images: ``(M, 1, H, W)`` or ``(M, 1, H, W, D)``.
        proposed: ``(N, K)`` int64, rows of the training images.
        top_k: how many are compared for each image, see :func:`screen_shortlist`.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.
        found: for each image what :meth:`~monai_deepssim.search.LocalFeatureSearch.query` returned; by default no
            local features are used.

    Returns:
        ``(scores, indices)``, both ``(N, min(K, top_k))`` or, with ``found``, up to ``(N, top_k)``, the highest score
        first; of equal ones the first in the shortlist. Where fewer were compared, the last is repeated.

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> align_shortlist(images[1:2], images, torch.tensor([[0, 1, 2]]), top_k=3)[1][0, 0]
        tensor(1)
    """
    shortlists: list[list[int]] = [[] for _ in images]
    open_rows = [row for row in range(len(images)) if found is None or not is_proven(found[row])]
    if open_rows:
        screened = screen_shortlist(images[open_rows], training_images, proposed[open_rows], top_k)
        for row, candidates in zip(open_rows, screened.tolist(), strict=True):
            shortlists[row] = candidates
    if found is not None:
        for row, shared in enumerate(found):
            shortlists[row] = unite_candidates(shared, shortlists[row] or proposed[row].tolist(), top_k)
    pairs = [(row, candidate) for row, candidates in enumerate(shortlists) for candidate in candidates]
    known = [dict(shared) for shared in found] if found is not None else [{}] * len(images)
    parts = []
    for start in range(0, len(pairs), _BLOCK_SIZE * top_k):
        block = pairs[start : start + _BLOCK_SIZE * top_k]
        x, y = images[[row for row, _ in block]], training_images[[candidate for _, candidate in block]]
        matches = [known[row].get(candidate) for row, candidate in block] if found is not None else None
        parts.append(copy_score(x, y, matches, deformation_cost=deformation_cost).score)
    length = max(len(candidates) for candidates in shortlists)
    scores, indices = torch.empty(len(images), length), torch.empty(len(images), length, dtype=torch.int64)
    for row, (candidates, values) in enumerate(
        zip(shortlists, torch.cat(parts).split([len(candidates) for candidates in shortlists]), strict=True)
    ):
        order = values.argsort(descending=True, stable=True)
        filled = torch.cat([order, order[-1:].expand(length - len(order))])
        scores[row], indices[row] = values[filled], torch.tensor(candidates)[filled]
    return scores, indices
