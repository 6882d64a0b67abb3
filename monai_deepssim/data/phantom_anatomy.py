"""An individual head from ICBM152's maps: a pose, proportions, lobes and folds of its own, bone and scalp around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

__all__ = [
    "fitting_voxel_size",
    "head_around",
    "icbm152_maps",
    "individual_tissues",
    "pixel_axes",
    "unevenness",
    "volume_axes",
]

# (spacing of the control points, standard deviation of the displacement), both in mm: individual proportions, lobes
# and gyri. With these, two subjects look like two people (docs/phantom_cohort.md shows them).
_WARPS_MM = ((40.0, 2.2), (16.0, 1.4), (7.0, 0.8))
# Spacing in mm and strength of the field that shifts the balance of GM, WM and CSF, so that each has folds of its own:
# the maps of an average brain have none.
_FOLDS_MM, _FOLDS_STRENGTH = 6.0, 1.1
_SHARPNESS = 2.0
# Middle of the brain in mm of MNI space, along the axes of an image in each plane: columns, rows.
_MIDDLE_MM = {"axial": (0.0, -18.0), "coronal": (0.0, 8.0), "sagittal": (-18.0, 8.0)}
# Middle and extent of the brain mask along x, y and z.
_MIDDLE_OF_VOLUME_MM, _EXTENT_MM = (0.0, -17.0, 5.0), (144.0, 180.0, 154.0)
# A brain of usual size leaves this share of the longest side as a margin.
_MARGIN = 1.06


@lru_cache(maxsize=1)
def icbm152_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Grey matter, white matter and brain mask of ICBM152 at 1 mm, and the affine from voxels to MNI millimetres."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise ImportError(
            "the phantom cohort is made from the ICBM152 maps that nilearn ships: pip install 'monai-deepssim[demo]'"
        ) from error
    grey = datasets.load_mni152_gm_template(resolution=1)
    white = datasets.load_mni152_wm_template(resolution=1)
    mask = datasets.load_mni152_brain_mask(resolution=1)
    maps = [np.ascontiguousarray(image.get_fdata(dtype=np.float32)) for image in (grey, white, mask)]
    return maps[0], maps[1], maps[2], np.asarray(grey.affine)


def pixel_axes(
    image_size: tuple[int, ...], pixel_size: Sequence[float], shift: Sequence[float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the middle of the image in mm: forwards or upwards of its rows, to the left of its columns."""
    rows, columns = image_size
    return (
        (rows / 2 - 0.5 - np.arange(rows) + shift[0] * rows) * pixel_size[0],
        (np.arange(columns) - columns / 2 + 0.5 + shift[1] * columns) * pixel_size[1],
    )


def volume_axes(
    image_size: Sequence[int], voxel_size: Sequence[float], shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place of each voxel in mm of MNI space along x, y and z, of a volume around the middle of the brain."""
    x, y, z = (
        (np.arange(side) - side / 2 + 0.5 + moved * side) * size + middle
        for side, size, moved, middle in zip(image_size, voxel_size, shift, _MIDDLE_OF_VOLUME_MM, strict=True)
    )
    return x, y, z


def fitting_voxel_size(image_size: Sequence[int]) -> float:
    """Side of a cubic voxel in mm with which a brain of usual size just fits into a volume.

    Example:
        >>> round(fitting_voxel_size((64, 64, 64)), 2)
        2.98
    """
    return _MARGIN * max(extent / side for extent, side in zip(_EXTENT_MM, image_size, strict=True))


def _posed_points(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, height: float, plane: str
) -> np.ndarray:
    """MNI coordinates in mm ``(3, rows, columns)`` of a slice with a pose and a head size of its own."""
    y, x = np.meshgrid(rows, columns, indexing="ij")
    angle = np.deg2rad(rng.normal(0, 1.0))
    width, length = rng.normal(1.0, 0.025, 2)
    x, y = x / width, y / length
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    across, along = (axis + rng.normal(0, 1.0) + middle for axis, middle in zip((x, y), _MIDDLE_MM[plane], strict=True))
    normal = np.full_like(x, height)
    axes = {"axial": (across, along, normal), "coronal": (across, normal, along), "sagittal": (normal, across, along)}
    return np.stack(axes[plane])


def _posed_volume(rng: np.random.Generator, axes: Sequence[np.ndarray], tilt_degrees: float) -> np.ndarray:
    """MNI coordinates in mm ``(3, X, Y, Z)`` of a volume with a pose and a head size of its own."""
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - _MIDDLE_OF_VOLUME_MM
    scaled = points / rng.normal(1.0, 0.025, 3)
    turned = scaled @ Rotation.from_euler("xyz", rng.normal(0, tilt_degrees, 3), degrees=True).as_matrix()
    return np.moveaxis(turned + rng.normal(0, 1.0, 3) + _MIDDLE_OF_VOLUME_MM, -1, 0)


def _spline_matrix(positions: np.ndarray, size: int) -> np.ndarray:
    """Uniform cubic B-spline weights ``(len(positions), size)`` of the control points around each position."""
    first = np.floor(positions).astype(int)
    t = positions - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    matrix = np.zeros((len(positions), size))
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights, axis=1)
    return matrix


def _smooth_field(rng: np.random.Generator, spacing: float, axes: Sequence[np.ndarray]) -> np.ndarray:
    """Three random fields of unit variance ``(3, *lengths of the axes)``, cubic B-splines through white noise in 3-D.

    Each plane of noise along the third axis has a seed of its own, so that neighbouring slices of a subject fit
    together although only the planes around a slice are drawn.
    """
    key = int(rng.integers(2**62))
    low = np.array([axis.min() for axis in axes[:2]])
    size = np.ceil((np.array([axis.max() for axis in axes[:2]]) - low) / spacing).astype(int) + 4
    at_heights = axes[2] / spacing + 1000.0  # seeds are not negative
    below, above = int(np.floor(at_heights.min())), int(np.floor(at_heights.max())) + 4
    planes = [np.random.default_rng([key, plane]).standard_normal((3, *size)) for plane in range(below, above)]
    control = np.tensordot(np.stack(planes, axis=-1), _spline_matrix(at_heights - below, above - below), (3, 1))
    for position in (1, 0):
        along = _spline_matrix((axes[position] - low[position]) / spacing, size[position])
        control = np.moveaxis(np.tensordot(control, along, (position + 1, 1)), -1, position + 1)
    # A cubic B-spline leaves 151/315 of the variance of white noise along each axis, on average over the positions.
    return control / (151 / 315) ** 1.5


def individual_tissues(
    rng: np.random.Generator,
    axes: Sequence[np.ndarray],
    height: float = 0.0,
    plane: str = "axial",
    tilt_degrees: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of grey matter, white matter and CSF of one subject, and its brain mask.

    Args:
        rng: what is drawn from.
        axes: rows and columns of a slice (:func:`pixel_axes`), or the three axes of a volume (:func:`volume_axes`).
        height: of a slice, along the normal of its plane, in mm of MNI space.
        plane: of a slice, ``axial``, ``coronal`` or ``sagittal``.
        tilt_degrees: of a volume, standard deviation of its rotation about each axis.

    Returns:
        ``(3, *lengths of the axes)`` and ``(*lengths of the axes)``.
    """
    if len(axes) == 3:
        points, grid = _posed_volume(rng, axes, tilt_degrees), tuple(axes)
    else:
        points, grid = _posed_points(rng, axes[0], axes[1], height, plane), (*axes, np.array([height]))
    for spacing, amplitude in _WARPS_MM:
        points = points + amplitude * _smooth_field(rng, spacing, grid).reshape(points.shape)
    grey, white, mask, affine = icbm152_maps()
    to_voxels = np.linalg.inv(affine)
    voxels = (to_voxels[:3, :3] @ points.reshape(3, -1) + to_voxels[:3, 3:]).reshape(points.shape)
    grey, white, mask = (map_coordinates(tissue, voxels, order=1) for tissue in (grey, white, mask))
    fluid = np.clip(mask - grey - white, 0, 1)
    # The maps are an average; folds of its own and sharper borders make an individual of it.
    folds = np.exp(_FOLDS_STRENGTH * _smooth_field(rng, _FOLDS_MM, grid).reshape(points.shape))
    shares = np.clip(np.stack([grey, white, fluid]), 1e-4, 1) ** _SHARPNESS * folds
    return mask * shares / shares.sum(0), mask


def unevenness(rng: np.random.Generator, offsets: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """By how much a disc or a ball is larger in each direction, as a share of its radius from -0.5 to 0.5.

    Args:
        rng: what is drawn from.
        offsets: distance from its centre along each axis, two of a slice or three of a volume.
        strength: standard deviation of the slowest of four waves.
    """
    uneven = np.zeros_like(offsets[0], dtype=float)
    for k in (1, 2, 3, 4):
        amplitude = rng.normal(0, strength / k)
        if len(offsets) == 2:
            uneven = uneven + amplitude * np.cos(k * np.arctan2(*offsets) + rng.uniform(0, 2 * np.pi))
            continue
        # In space, waves about an axis of their own each: without a phase they are smooth at its poles.
        direction = rng.standard_normal(3)
        radius = np.sqrt(sum(offset**2 for offset in offsets)) + 1e-6
        cosine = sum(part * offset for part, offset in zip(direction, offsets, strict=True)) / radius
        uneven = uneven + amplitude * np.cos(k * np.arccos(np.clip(cosine / np.linalg.norm(direction), -1, 1)))
    return np.clip(uneven, -0.5, 0.5)


def head_around(rng: np.random.Generator, mask: np.ndarray, fluid: float, pixel_size: float) -> np.ndarray:
    """Fluid, dark bone with a line of marrow, and bright scalp around the brain, of uneven thickness."""
    distance = distance_transform_edt(gaussian_filter(mask, 1.0) < 0.5) * pixel_size
    offsets = np.meshgrid(*(np.arange(side) - side / 2 for side in mask.shape), indexing="ij")
    distance = distance / (1 + unevenness(rng, offsets, 0.12))
    space, bone, scalp = rng.uniform(1.0, 3.0), rng.uniform(4.0, 7.0), rng.uniform(3.0, 6.0)

    def band(inner: float, outer: float) -> np.ndarray:
        edge = pixel_size / 2
        return 1 / (1 + np.exp((inner - distance) / edge)) / (1 + np.exp((distance - outer) / edge))

    outside = distance > 0
    return outside * (
        fluid * band(-10.0, space)
        + rng.uniform(0.2, 0.5) * band(space + 0.35 * bone, space + 0.65 * bone)
        + rng.uniform(0.6, 1.1) * band(space + bone, space + bone + scalp)
    )
