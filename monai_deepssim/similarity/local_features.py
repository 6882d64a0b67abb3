"""Local features of an image, and what two images share by them: keypoints that match under one affine transform."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from monai_deepssim.similarity.hulls import in_hull

__all__ = [
    "LOCAL_FEATURES_VERSION",
    "VERSIONS",
    "LocalFeatures",
    "LocalMatch",
    "Version",
    "extract_local_features",
    "fit_local_features",
    "match_local_features",
]

#: Version of what :func:`extract_local_features` finds: features of another one are found again.
LOCAL_FEATURES_VERSION = 1

# Pixels of the longer side at which features are found; smaller images are enlarged, larger ones reduced.
_SIDE = 224
# Arandjelovic and Zisserman's RootSIFT has values up to about 0.5: 512 steps a unit fit a byte.
_STEPS = 512
_CONTRAST_THRESHOLD = 0.01
_CLAHE_CLIP, _CLAHE_TILES = 3.0, (8, 8)
# Fine keypoints, and as many coarse ones: the strongest of all are nearly all fine, and a blur or noise takes these.
_NUM_FINE, _NUM_COARSE, _COARSE_DIAMETER = 150, 150, 4.0
# Cosine of two descriptors below which they do not match.
_LEAST_SIMILARITY = 0.75
# Distance of a matching keypoint from where the transform puts it, as a share of the longer side: 1.5 pixels of 224.
# Neighbouring slices of one head match loosely; at twice the tolerance twice as many of their keypoints agree.
_TOLERANCE = 0.0067
_ITERATIONS, _FITS, _LEAST_FOR_AFFINE = 1000, 3, 8
_LEAST_ZOOM, _LARGEST_ZOOM, _LARGEST_STRETCH = 0.4, 2.5, 1.3
# Where a keypoint ends and another one begins, as a share of the side: a keypoint with two orientations is one.
_SAME_KEYPOINT = 0.0022
# With more inliers than these nobody asks whether they lie together.
_MOST_WITH_STRAYS = 40


class LocalFeatures(NamedTuple):
    """Keypoints of an image with their descriptors, the fine ones first, each kind by falling contrast."""

    #: float32 ``(n, 2)``, column and row of each keypoint in pixels of the image.
    points: np.ndarray
    #: uint8 ``(n, 128)``, RootSIFT descriptors times 512.
    descriptors: np.ndarray
    #: The image's longer side in pixels.
    side: float


class Version(NamedTuple):
    """A way to see an image: mirrored or not, with its contrast reversed or not."""

    #: Whether left and right are exchanged.
    mirrored: bool
    #: Whether dark and bright are exchanged.
    inverted: bool
    #: int64 ``(128,)``: where each number of a descriptor of this version stands in that of the image itself.
    order: np.ndarray


class LocalMatch(NamedTuple):
    """What two images share by their local features."""

    #: Distinct keypoints of the query whose partners agree on one transform.
    num_inliers: int
    #: float64 ``(2, 3)``: column and row in the training image, and 1, to column and row in the query.
    matrix: np.ndarray
    #: Whether the contrast is reversed.
    inverted: bool
    #: float32 ``(num_inliers or more, 2)``, the inliers' columns and rows in the query.
    points: np.ndarray
    #: float32 ``(k, 2)``, those of the distinct inliers that lie together, without what agrees by chance elsewhere.
    core: np.ndarray
    #: Share of the query's distinct keypoints in the core's convex hull that are of the core, 0 to 1.
    density: float


def _versions() -> tuple[Version, ...]:
    # A descriptor is 4 x 4 histograms of 8 directions about the keypoint's own orientation. A mirror exchanges the two
    # sides of that axis and the sense of the directions; a reversed contrast turns all gradients by 180 degrees, the
    # orientation with them, so that the histograms lie the other way round and keep their directions.
    places = np.arange(128).reshape(4, 4, 8)
    mirrored = places[::-1][:, :, -np.arange(8) % 8].ravel()
    inverted = places[::-1, ::-1].ravel()
    return (
        Version(False, False, places.ravel()),
        Version(True, False, mirrored),
        Version(False, True, inverted),
        Version(True, True, inverted[mirrored]),
    )


#: The four versions of a query: with any rotation of a match these are all eight poses of a square and their negatives.
VERSIONS: tuple[Version, ...] = _versions()


def extract_local_features(image: Tensor | np.ndarray) -> LocalFeatures:
    """Find the local features of an image: SIFT keypoints, after contrast-limited histogram equalisation, as RootSIFT.

    The image is brought to 224 pixels on its longer side first. The 150 keypoints of highest contrast whose diameter is
    up to 4 pixels are kept, and the 150 above that.

    Args:
        image: ``(1, H, W)`` or ``(H, W)``, any range.

    Returns:
        Up to 300 keypoints; none where the image has no structure.

    Raises:
        ValueError: when the image is not two-dimensional with one channel, or a pixel is not finite.

    References:
        Lowe, Distinctive image features from scale-invariant keypoints, IJCV 60 (2004). Arandjelovic and Zisserman,
        Three things everyone should know to improve object retrieval, CVPR 2012.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> features = extract_local_features(image)
        >>> features.points.shape[1], features.descriptors.shape[1], features.side
        (2, 128, 64)
        >>> len(extract_local_features(torch.zeros(1, 64, 64)).points)
        0
    """
    plain = image.detach().cpu() if isinstance(image, Tensor) else image
    pixels: np.ndarray = np.asarray(plain, dtype=np.float32)
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(f"got an image of shape {tuple(np.shape(image))}, want (1, H, W) with one grey channel")
    if not np.isfinite(pixels).all():
        raise ValueError("got an image with pixels that are not finite: replace NaN and infinities first")
    rows, columns = pixels.shape
    scale = _SIDE / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    if size != (columns, rows):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    low, high = float(pixels.min()), float(pixels.max())
    if high > low:
        grey = ((pixels - low) * (255 / (high - low))).round().astype(np.uint8)
        equalized = cv2.createCLAHE(_CLAHE_CLIP, _CLAHE_TILES).apply(grey)
        sift = cv2.SIFT_create(nfeatures=0, contrastThreshold=_CONTRAST_THRESHOLD)  # type: ignore[attr-defined]
        keypoints, descriptors = sift.detectAndCompute(equalized, None)
    else:
        keypoints, descriptors = (), None
    if descriptors is None or not len(keypoints):
        return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), max(rows, columns))
    others = [(point.size, point.angle, point.response) for point in keypoints]
    places = np.column_stack([cv2.KeyPoint.convert(keypoints), np.array(others, np.float32)])
    # All of it, so that the order does not depend on OpenCV's threads.
    order = np.lexsort((places[:, 3], places[:, 0], places[:, 1], -places[:, 4]))
    coarse = places[order, 2] > _COARSE_DIAMETER
    kept = np.concatenate([order[~coarse][:_NUM_FINE], order[coarse][:_NUM_COARSE]])
    points = (places[kept, :2] + 0.5) * np.array([columns / size[0], rows / size[1]], np.float32) - 0.5
    lengths = np.maximum(descriptors[kept].sum(axis=1, keepdims=True), 1e-6)
    roots = np.sqrt(descriptors[kept] / lengths)
    return LocalFeatures(points, np.minimum(roots * _STEPS, 255).round().astype(np.uint8), max(rows, columns))


def fit_local_features(features: LocalFeatures, size: tuple[int, int], image_size: tuple[int, int]) -> LocalFeatures:
    """Move keypoints to where :class:`~monai_deepssim.transforms.FitImageSize` moves what they lie on.

    An image is compared at one size; its features are found at its own, where there is more to see.

    Args:
        features: of an image.
        size: the image's rows and columns in pixels.
        image_size: rows and columns that the image is brought to, its aspect kept.

    Returns:
        The same features at their new places.

    Example:
        >>> features = LocalFeatures(np.array([[0.0, 0.0]], np.float32), np.zeros((1, 128), np.uint8), 224)
        >>> fit_local_features(features, (224, 224), (136, 112)).points.tolist()
        [[-0.25, 11.75]]
    """
    scale = min(image_size[0] / size[0], image_size[1] / size[1])
    scaled = [max(1, round(side * scale)) for side in size]
    before = [(side - part) // 2 for side, part in zip(image_size, scaled, strict=True)]
    factors = np.array([scaled[1] / size[1], scaled[0] / size[0]], np.float32)
    points = (features.points + 0.5) * factors - 0.5 + np.array([before[1], before[0]], np.float32)
    return LocalFeatures(points, features.descriptors, features.side * scale)


def match_local_features(query: LocalFeatures, training: LocalFeatures, version: Version) -> LocalMatch | None:
    """Find the transform of a training image on which most of its keypoints agree with those of a query.

    Each keypoint of the query is paired with the most similar one of the training image. RANSAC chooses the rotation,
    shift and zoom on which most pairs agree to 0.7 % of the longer side; a general affine transform is then fitted to
    these, as long as that brings more of them into agreement and stretches no more than 1.3 to 1.

    Args:
        query: features of the image that may be a copy.
        training: features of the training image.
        version: of the query, one of :data:`VERSIONS`.

    Returns:
        The match; ``None`` where no transform was found, or it zooms by less than 0.4 or more than 2.5.

    References:
        Fischler and Bolles, Random sample consensus, CACM 24 (1981).

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> image = PhantomBrainDataset(1, seed=3, progress=False)[0]["image"].as_tensor()
        >>> copy, training = extract_local_features(image.transpose(1, 2)), extract_local_features(image)
        >>> matches = [match_local_features(copy, training, version) for version in VERSIONS]
        >>> best = max((match for match in matches if match), key=lambda match: match.num_inliers)
        >>> best.num_inliers > 100, best.inverted, abs(best.matrix).round(1).tolist()
        (True, False, [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    """
    if min(len(query.points), len(training.points)) < 3:
        return None
    similarity = _unit(query.descriptors[:, version.order]) @ _unit(training.descriptors).T
    partners = similarity.argmax(axis=1)
    similar = similarity[np.arange(len(partners)), partners] > _LEAST_SIMILARITY
    if similar.sum() < 3:
        return None
    mirror = np.array([-1.0 if version.mirrored else 1.0, 1.0], np.float32)
    source, target = training.points[partners[similar]] * mirror, query.points[similar]
    tolerance = _TOLERANCE * query.side
    matrix, agree = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=tolerance, maxIters=_ITERATIONS
    )
    if matrix is None or not np.isfinite(matrix).all():
        return None
    if not _LEAST_ZOOM <= np.sqrt(abs(np.linalg.det(matrix[:, :2]))) <= _LARGEST_ZOOM:
        return None
    matrix, inliers = _fit_affine(source, target, matrix, agree.ravel() > 0, tolerance)
    matrix = matrix.copy()
    matrix[:, 0] *= mirror[0]
    points = target[inliers]
    distinct = _distinct(points, query.side)
    core, density = _find_core(distinct, _distinct(query.points, query.side))
    return LocalMatch(len(distinct), matrix, version.inverted, points, core, density)


def _distinct(points: np.ndarray, side: float) -> np.ndarray:
    """One of the points at each place."""
    columns, rows = np.round(points / (_SAME_KEYPOINT * side)).astype(np.int64).T
    # One number a place: np.unique takes several times as long for pairs.
    return points[np.unique((columns << 32) + rows, return_index=True)[1]]


def _find_core(inliers: np.ndarray, keypoints: np.ndarray) -> tuple[np.ndarray, float]:
    """Leave out inliers at the rim, one after the other, as long as the number of the others times their density grows.

    A keypoint that agrees by chance lies anywhere, and most keypoints between it and a piece of another image do not
    agree.
    """

    inside = keypoints[in_hull(keypoints, inliers)]
    core, density = inliers, _density(inliers, inside)
    if not _LEAST_FOR_AFFINE <= len(inliers) <= _MOST_WITH_STRAYS:
        return core, density
    points = inliers
    for _ in range(len(inliers) // 4):
        rim = cv2.convexHull(points.astype(np.float32), returnPoints=False)[:, 0]
        smaller = [np.delete(points, corner, axis=0) for corner in rim]
        held = [inside[in_hull(inside, some)] for some in smaller]  # no more than before
        densities = [_density(*pair) for pair in zip(smaller, held, strict=True)]
        best = int(np.argmax(densities))
        points, inside = smaller[best], held[best]
        if densities[best] * len(points) > density * len(core):
            core, density = points, densities[best]
    return core, density


def _density(points: np.ndarray, inside: np.ndarray) -> float:
    """Share of the keypoints in a hull that are of those that span it."""
    return min(1.0, len(points) / max(1, len(inside)))


def _fit_affine(
    source: np.ndarray, target: np.ndarray, matrix: np.ndarray, inliers: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit an affine transform to the inliers, and take in what agrees with it, as long as that is more."""
    positions = np.column_stack([source, np.ones(len(source), np.float32)]).astype(np.float64)
    for _ in range(_FITS):
        if inliers.sum() < _LEAST_FOR_AFFINE:
            break
        solution, _, rank, _ = np.linalg.lstsq(positions[inliers], target[inliers].astype(np.float64), rcond=None)
        if rank < 3:
            break
        stretches = np.linalg.svd(solution[:2].T, compute_uv=False)
        if stretches[0] > _LARGEST_STRETCH * stretches[1]:
            break
        agree = np.linalg.norm(positions @ solution - target, axis=1) < tolerance
        if agree.sum() < inliers.sum():
            break
        matrix, inliers = solution.T, agree
    return matrix, inliers


def _unit(descriptors: np.ndarray) -> np.ndarray:
    rows = descriptors.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
