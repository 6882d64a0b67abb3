"""Which training images share local features with an image, and under which transform."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from monai_deepssim.search.descriptor_index import DescriptorIndex
from monai_deepssim.similarity import VERSIONS, LocalFeatures, LocalMatch, match_local_features

__all__ = ["LocalFeatureSearch"]

# Inliers from which a match explains its keypoints, and training images that are matched for all others.
_LEAST_EXPLAINED, _NUM_FURTHER = 12, 4


class LocalFeatureSearch:
    """A search that needs no embedding: the descriptors of an image vote, and RANSAC looks at the most voted.

    The image is looked up as it is, mirrored, with its contrast reversed, and both; descriptors of these versions are
    those of the image in another order, so that its features are extracted once.

    Args:
        num_candidates: training images, each in one version, that are matched for each query.
        index: of the descriptors; by default a :class:`DescriptorIndex`.

    Raises:
        ValueError: when ``num_candidates`` is below 1.

    References:
        Douze et al., The 2021 image similarity dataset and challenge, arXiv 2106.09672, for copy detection by voted
        local descriptors.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.similarity import extract_local_features
        >>> cohort = [item["image"].as_tensor() for item in PhantomBrainDataset(4, seed=3, progress=False)]
        >>> search = LocalFeatureSearch().fit([extract_local_features(image) for image in cohort])
        >>> found = search.query(extract_local_features(1 - cohort[2].flip(2)))
        >>> image, match = found[0]
        >>> image, match.inverted, match.num_inliers > 60
        (2, True, True)
    """

    def __init__(self, num_candidates: int = 8, index: DescriptorIndex | None = None) -> None:
        if num_candidates < 1:
            raise ValueError(f"got num_candidates={num_candidates}, want 1 or more")
        self.num_candidates = num_candidates
        self.index = DescriptorIndex() if index is None else index
        self._features: Sequence[LocalFeatures] = ()

    def fit(self, features: Sequence[LocalFeatures]) -> LocalFeatureSearch:
        """Take the features of the training images.

        Args:
            features: one entry for each image.

        Returns:
            This object.

        Raises:
            ValueError: when there are none.
        """
        self.index.fit([entry.descriptors for entry in features])
        self._features = features
        return self

    def query(self, features: LocalFeatures, exclude: Collection[int] = ()) -> list[tuple[int, LocalMatch]]:
        """Find the training images that share most local features with an image.

        Args:
            features: of the image.
            exclude: training images that are no candidates, such as the image itself.

        Returns:
            Training images, each once and with its match, most inliers first; of equal ones the first in the
            training set. At most ``num_candidates``, and 4 more that keypoints vote for which these do not explain:
            an image may have several sources.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        best = self._match(features, features.descriptors, exclude, self.num_candidates)
        is_explained = np.zeros(len(features.points), bool)
        for match in best.values():
            if match.num_inliers >= _LEAST_EXPLAINED:
                is_explained |= (features.points[:, None] == match.points).all(axis=2).any(axis=1)
        if is_explained.any():
            rest = features.descriptors[~is_explained]
            best = self._match(features, rest, [*exclude, *best], _NUM_FURTHER) | best
        return sorted(best.items(), key=lambda entry: (-entry[1].num_inliers, entry[0]))

    def _match(
        self, features: LocalFeatures, descriptors: np.ndarray, exclude: Collection[int], num_candidates: int
    ) -> dict[int, LocalMatch]:
        """The best match of each training image that some descriptors vote for."""
        votes = self.index.vote(np.stack([descriptors[:, version.order] for version in VERSIONS]))
        votes[:, list(exclude)] = 0
        order = np.argsort(-votes.ravel(), kind="stable")[:num_candidates]
        best: dict[int, LocalMatch] = {}
        for place in order[votes.ravel()[order] > 0].tolist():
            version, image = divmod(place, votes.shape[1])
            match = match_local_features(features, self._features[image], VERSIONS[version])
            if match is not None and (image not in best or match.num_inliers > best[image].num_inliers):
                best[image] = match
        return best
