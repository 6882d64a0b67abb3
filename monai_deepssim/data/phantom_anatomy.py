"""An individual head from ICBM152's maps: a pose, proportions, lobes and folds of its own, bone and scalp around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

__all__ = ["head_around", "icbm152_maps", "individual_tissues", "pixel_axes"]

# (spacing of the control points, standard deviation of the displacement), both in mm: individual proportions, lobes
# and gyri. With these, two subjects look like two people (docs/phantom_cohort.md shows them).
_WARPS_MM = ((40.0, 2.2), (16.0, 1.4), (7.0, 0.8))
# Spacing in mm and strength of the field that shifts the balance of GM, WM and CSF, so that each has folds of its own:
# the maps of an average brain have none.
_FOLDS_MM, _FOLDS_STRENGTH = 6.0, 1.1
_SHARPNESS = 2.0
# Middle of the brain in mm of MNI space, along the axes of an image in each plane: columns, rows.
_MIDDLE_MM = {"axial": (0.0, -18.0), "coronal": (0.0, 8.0), "sagittal": (-18.0, 8.0)}


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


def _spline_matrix(positions: np.ndarray, size: int) -> np.ndarray:
    """Uniform cubic B-spline weights ``(len(positions), size)`` of the control points around each position."""
    first = np.floor(positions).astype(int)
    t = positions - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    matrix = np.zeros((len(positions), size))
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights, axis=1)
    return matrix


def _smooth_field(
    rng: np.random.Generator, spacing: float, rows: np.ndarray, columns: np.ndarray, height: float
) -> np.ndarray:
    """Three random fields of unit variance ``(3, rows, columns)``, cubic B-splines through white noise in 3-D.

    Each plane of noise has a seed of its own, so that neighbouring slices of a subject fit together although only the
    planes around ``height`` are drawn.
    """
    key = int(rng.integers(2**62))
    low = np.array([rows.min(), columns.min()])
    size = np.ceil((np.array([rows.max(), columns.max()]) - low) / spacing).astype(int) + 4
    at_height = height / spacing + 1000.0  # seeds are not negative
    below = int(np.floor(at_height))
    planes = [np.random.default_rng([key, plane]).standard_normal((3, *size)) for plane in range(below, below + 4)]
    weights = _spline_matrix(np.array([at_height - below]), 4)[0]
    control = sum(weight * plane for weight, plane in zip(weights, planes, strict=True))
    along_rows = _spline_matrix((rows - low[0]) / spacing, size[0])
    along_columns = _spline_matrix((columns - low[1]) / spacing, size[1])
    # A cubic B-spline leaves 151/315 of the variance of white noise along each axis, on average over the positions.
    return along_rows @ control @ along_columns.T / (151 / 315) ** 1.5


def individual_tissues(
    rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, height: float, plane: str = "axial"
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of grey matter, white matter and CSF ``(3, rows, columns)`` of one subject, and its brain mask."""
    points = _posed_points(rng, rows, columns, height, plane)
    for spacing, amplitude in _WARPS_MM:
        points = points + amplitude * _smooth_field(rng, spacing, rows, columns, height)
    grey, white, mask, affine = icbm152_maps()
    to_voxels = np.linalg.inv(affine)
    voxels = (to_voxels[:3, :3] @ points.reshape(3, -1) + to_voxels[:3, 3:]).reshape(points.shape)
    grey, white, mask = (map_coordinates(tissue, voxels, order=1) for tissue in (grey, white, mask))
    fluid = np.clip(mask - grey - white, 0, 1)
    # The maps are an average; folds of its own and sharper borders make an individual of it.
    folds = np.exp(_FOLDS_STRENGTH * _smooth_field(rng, _FOLDS_MM, rows, columns, height))
    shares = np.clip(np.stack([grey, white, fluid]), 1e-4, 1) ** _SHARPNESS * folds
    return mask * shares / shares.sum(0), mask


def head_around(rng: np.random.Generator, mask: np.ndarray, fluid: float, pixel_size: float) -> np.ndarray:
    """Fluid, dark bone with a line of marrow, and bright scalp around the brain, of uneven thickness."""
    distance = distance_transform_edt(gaussian_filter(mask, 1.0) < 0.5) * pixel_size
    rows, columns = mask.shape
    angle = np.arctan2(*np.meshgrid(np.arange(rows) - rows / 2, np.arange(columns) - columns / 2, indexing="ij"))
    unevenness = sum(rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3, 4))
    distance = distance / (1 + np.clip(unevenness, -0.5, 0.5))
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
