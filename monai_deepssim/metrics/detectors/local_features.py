"""A copy detector by local features: how many keypoints of two images agree on one transform."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.search import Embeddings, LocalFeatureSearch
from monai_deepssim.similarity import VERSIONS, LocalFeatures, LocalMatch, extract_local_features, match_local_features

__all__ = ["LocalFeaturesDetector", "best_local_match"]

_MOST_KEYPOINTS = 300
_HEADER = 2
# Numbers that represent an image: how many keypoints, its longer side, then place and descriptor of each.
_DIM = _HEADER + _MOST_KEYPOINTS * (2 + 128)


class LocalFeaturesDetector(CopyDetectionMetric):
    """The number of an image's keypoints that match a training image under one affine transform (SIFT and RANSAC).

    It knows all eight poses of a square, any rotation and shift, zooms from 0.4 to 2.5, reversed contrast, and copies
    of a part. It learns nothing, and sees little where an image is smooth. A representation is 156 kB per image.

    Args:
        threshold: inliers above which an image is a copy. The default was chosen on brain MRI of other patients.
        device: taken for the sake of the other detectors; the features are found on the CPU.
        num_candidates: training images that are matched for each image.

    References:
        Lowe, IJCV 60 (2004); Arandjelovic and Zisserman, CVPR 2012; Fischler and Bolles, CACM 24 (1981).

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> cohort = PhantomBrainDataset(4, seed=3, progress=False)
        >>> training = torch.stack([item["image"].as_tensor() for item in cohort])
        >>> detector = LocalFeaturesDetector().fit([training])
        >>> detector(training[1:3].transpose(2, 3))[:, 1]
        tensor([1., 2.])
        >>> bool(detector.aggregate() == 1)
        True
    """

    title = "Local features"
    default_threshold = 16.0
    threshold_source = "a false-positive rate of about 1 % on brain MRI of other patients (docs/measured.md)"

    def __init__(
        self, threshold: float | None = None, device: torch.device | str | None = None, num_candidates: int = 8
    ) -> None:
        super().__init__(threshold, device)
        self.num_candidates = num_candidates
        self._training_features: list[LocalFeatures] = []
        self._search = LocalFeatureSearch(num_candidates)

    def represent(self, images: Tensor) -> Tensor:
        """Extract the local features of images ``(B, 1, H, W)``, as ``(B, D)``."""
        return torch.stack([_pack(extract_local_features(image)) for image in images.cpu()])

    def fit_representations(self, training: Embeddings) -> LocalFeaturesDetector:
        super().fit_representations(training)
        self._training_features = [_unpack(row) for row in self.training_representations]
        self._search.fit(self._training_features)
        return self

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images with most inliers.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, M))``, most inliers first. Where fewer
            training images match, others follow with 0.
        """
        count = min(num_neighbors, len(self.training_representations))
        scores = torch.zeros(len(representations), count)
        indices = torch.zeros(len(representations), count, dtype=torch.int64)
        for row, features in enumerate(map(_unpack, representations)):
            found = self._search.query(features)[:count]
            matched = [image for image, _ in found]
            others = (image for image in range(len(self._training_features)) if image not in set(matched))
            indices[row] = torch.tensor([*matched, *(next(others) for _ in range(count - len(matched)))])
            scores[row, : len(found)] = torch.tensor([float(match.num_inliers) for _, match in found])
        return scores, indices

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: the most inliers over mirrored and inverted versions, ``(n, m)``."""
        first, second = ([_unpack(row) for row in rows] for rows in (queries, training))
        matches = [[best_local_match(one, other) for other in second] for one in first]
        return torch.tensor([[0.0 if match is None else float(match.num_inliers) for match in row] for row in matches])


def best_local_match(query: LocalFeatures, training: LocalFeatures) -> LocalMatch | None:
    """The match of two images with the most inliers over mirrored and inverted versions; ``None`` if there is none."""
    matches = [match_local_features(query, training, version) for version in VERSIONS]
    return max((match for match in matches if match), key=lambda match: match.num_inliers, default=None)


def _pack(features: LocalFeatures) -> Tensor:
    """Write local features as a row of numbers.

    Args:
        features: local features of one image.

    Returns:
        float32 ``(_DIM,)``; places of keypoints that the image does not have are 0.

    Example:
        >>> features = extract_local_features(torch.rand(1, 64, 64))
        >>> np.array_equal(_unpack(_pack(features)).points, features.points)
        True
    """
    count = min(len(features.points), _MOST_KEYPOINTS)
    row = np.zeros(_DIM, np.float32)
    row[:_HEADER] = count, features.side
    places = row[_HEADER:].reshape(_MOST_KEYPOINTS, 130)
    places[:count, :2] = features.points[:count]
    places[:count, 2:] = features.descriptors[:count]
    return torch.from_numpy(row)


def _unpack(row: Tensor) -> LocalFeatures:
    """Read local features from a row that :func:`_pack` wrote."""
    numbers = row.numpy()
    places = numbers[_HEADER:].reshape(_MOST_KEYPOINTS, 130)[: int(numbers[0])]
    return LocalFeatures(places[:, :2].copy(), places[:, 2:].astype(np.uint8), float(numbers[1]))
