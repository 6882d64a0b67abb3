"""Which training images share local features with an image, and under which transform."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from scipy.spatial import KDTree

from monai_deepssim.ranks import current_ranks
from monai_deepssim.search.descriptor_index import DescriptorIndex
from monai_deepssim.search.feature_table import FeatureTable
from monai_deepssim.similarity import VERSIONS, LocalFeatures, LocalMatch, map_in_threads, match_local_features

__all__ = ["LocalFeatureSearch", "drop_common_features"]

# Inliers from which a match is a source, and training images that are matched to what it leaves of the image.
_LEAST_OF_SOURCE, _NUM_FURTHER = 12, 4
# Images that a training image is compared with to see which of its keypoints are in many; distance, in shares of the
# longer side, and cosine from which two keypoints are the same; and from which share and number of images on it is in
# many. An image that shares half of all keypoints is a repeat, and says nothing.
_NUM_COMPARED, _SAME_PLACE, _SAME_DESCRIPTOR = 100, 0.0067, 0.9
_COMMON_SHARE, _LEAST_COMMON, _SHARE_OF_REPEAT = 0.05, 5, 0.5
# Images that a rank looks through before it takes others.
_IMAGES_AT_ONCE = 256


class LocalFeatureSearch:
    """A search that needs no embedding: the descriptors of an image vote, and RANSAC looks at the most voted.

    The image is looked up as it is, mirrored, with its contrast reversed, and both; descriptors of these versions are
    those of the image in another order, so that its features are extracted once. Keypoints that many training images
    have at one place, such as those of burnt-in text, count for none of them (:func:`drop_common_features`).

    Args:
        num_candidates: training images, each in one version, that are matched for each query.
        index: index of the descriptors; a :class:`DescriptorIndex` by default.

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
        """Take the features of the training images; of several ranks all have to call this alike.

        Args:
            features: the local features of each image, copied; or a table of them, which stays where it is.

        Returns:
            This object.

        Raises:
            ValueError: when there are none.
        """
        self._features = drop_common_features(features)
        self.index.fit(self._features)
        return self

    def query(
        self,
        features: LocalFeatures,
        exclude: Collection[int] = (),
        rest: Callable[[int, LocalMatch], LocalFeatures | None] | None = None,
    ) -> list[tuple[int, LocalMatch]]:
        """Find the training images that share most local features with an image.

        Args:
            features: features of the image.
            exclude: training images that are not candidates, such as the image itself.
            rest: returns the features of what a training image with its match does not explain of the image
                (:func:`~monai_deepssim.similarity.extract_rest`). They are looked up as well, since an image may have
                several sources; by default they are not.

        Returns:
            Training images, each once and with its match, most inliers first; of equal ones the first in the
            training set. At most ``num_candidates``, and 4 more that the rest votes for.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        best = self._match(features, exclude, self.num_candidates)
        source = max(best, key=lambda image: (best[image].num_inliers, -image), default=None)
        if rest is not None and source is not None and best[source].num_inliers >= _LEAST_OF_SOURCE:
            left = rest(source, best[source])
            further = {} if left is None else self._match(left, [*exclude, source], _NUM_FURTHER)
            for image, match in further.items():
                if image not in best or match.num_inliers > best[image].num_inliers:
                    best[image] = match
        return sorted(best.items(), key=lambda entry: (-entry[1].num_inliers, entry[0]))

    def _match(self, features: LocalFeatures, exclude: Collection[int], num_candidates: int) -> dict[int, LocalMatch]:
        """The best match of each training image that the descriptors vote for."""
        queries = np.stack([features.descriptors[:, version.order] for version in VERSIONS])
        places, weights = self.index.find_voted(queries)  # few of many images: all of them are sorted in no query
        is_wanted = ~np.isin(places % self.index.num_images, list(exclude))
        places, weights = places[is_wanted], weights[is_wanted]
        best: dict[int, LocalMatch] = {}
        for place in places[np.argsort(-weights, kind="stable")[:num_candidates]].tolist():
            version, image = divmod(place, self.index.num_images)
            match = match_local_features(features, self._features[image], VERSIONS[version])
            if match is not None and (image not in best or match.num_inliers > best[image].num_inliers):
                best[image] = match
        return best


def drop_common_features(features: Sequence[LocalFeatures]) -> FeatureTable:
    """Leave out keypoints that many images have at one place: a scanner's text, a frame, a marker of the side.

    They say that two images come from one machine, not that one is a copy of the other. A keypoint is left out where
    5 % of up to 100 other images, and 5 at least, have one with nearly the same descriptor within 0.7 % of the longer
    side. Images that share half of all keypoints with this one are its repeats, and are not counted.

    Args:
        features: features of the images of one set.

    Returns:
        The features without those.

    Example:
        >>> random = np.random.default_rng(0)
        >>> def image(own):
        ...     points = np.concatenate([[[5, 5]], random.uniform(20, 200, (own, 2))]).astype(np.float32)
        ...     descriptors = np.concatenate([np.full((1, 128), 45), random.integers(0, 90, (own, 128))])
        ...     return LocalFeatures(points, descriptors.astype(np.uint8), 224)
        >>> kept = drop_common_features([image(10) for _ in range(8)])
        >>> [len(entry.points) for entry in kept]
        [10, 10, 10, 10, 10, 10, 10, 10]
    """
    table = FeatureTable.of(features)
    compared = np.unique(np.linspace(0, len(table) - 1, min(len(table), _NUM_COMPARED)).round().astype(int))
    owners = np.repeat(compared, [len(table[image].points) for image in compared])
    if not len(owners):
        return table
    places = KDTree(np.concatenate([_places(table[image]) for image in compared]))
    descriptors = np.concatenate([_unit_descriptors(table[image]) for image in compared])

    def find_common(image: int) -> np.ndarray:
        entry = table[image]
        near = places.query_ball_point(_places(entry), _SAME_PLACE) if len(entry.points) else []
        rows = np.repeat(np.arange(len(entry.points)), [len(others) for others in near])
        others = np.array([other for line in near for other in line], np.int64)
        cosines = np.einsum("ij,ij->i", _unit_descriptors(entry)[rows], descriptors[others])
        is_same = (cosines > _SAME_DESCRIPTOR) & (owners[others] != image)
        pairs = np.unique(np.column_stack([rows[is_same], owners[others[is_same]]]), axis=0)
        _, numbers, shared = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
        counted = pairs[shared[numbers] < _SHARE_OF_REPEAT * len(entry.points), 0]
        return np.bincount(counted, minlength=len(entry.points)) >= max(_LEAST_COMMON, _COMMON_SHARE * len(compared))

    def work(unit: int) -> bytes:
        images = range(unit * _IMAGES_AT_ONCE, min((unit + 1) * _IMAGES_AT_ONCE, len(table)))
        return np.concatenate(map_in_threads(lambda number: find_common(images[number]), len(images))).tobytes()

    units = current_ranks().share(-(-len(table) // _IMAGES_AT_ONCE), work)
    return table.without(np.frombuffer(b"".join(units), bool))


def _places(features: LocalFeatures) -> np.ndarray:
    return features.points / features.side


def _unit_descriptors(features: LocalFeatures) -> np.ndarray:
    rows = features.descriptors.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
