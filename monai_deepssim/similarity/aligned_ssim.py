"""SSIM after the best alignment: whether an image is another one, flipped, turned, re-contrasted or deformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import AdjustContrast, Affine, Flip
from torch import Tensor

from .alignment_deformation import deform_pair
from .alignment_resampling import CHANGE_SIZE, GAMMA, ZOOM
from .alignment_search import align_pair
from .ssim_kernel import window_means
from .standardize import standardize

__all__ = ["DEFORMATION_COST", "AlignedSSIM", "Alignment", "aligned_ssim", "deform_onto"]

#: SSIM that a pixel of deformation costs in a verdict. At this price a deformed copy scores above a similar image that
#: was deformed as much, and images of different people gain nothing (``docs/detectors.md``).
DEFORMATION_COST = 0.1

_WIN_SIZE, _K1, _K2 = 7, 0.01, 0.03
# A coarse image keeps at least so many pixels a side, or there is nothing left to align.
_SMALLEST_SIDE = 16
# In SSIM: a deformation has to be worth this much.
_NO_GAIN = 1e-4
# What a negative and a positive shift along each axis is called, in 2-D and 3-D.
_DIRECTIONS = {
    2: (("up", "down"), ("left", "right")),
    3: tuple((f"down axis {axis}", f"up axis {axis}") for axis in range(3)),
}


@dataclass(frozen=True)
class Alignment:
    """A change of an image, in the order in which it happens: flips, then rotation, shift and zoom at once, then gamma.

    A deformation may follow; it depends on the other image, and :func:`deform_onto` makes it.

    Attributes:
        flips: the spatial axes that are flipped, counted from 0.
        rotation_degrees: one angle in 2-D, positive clockwise as the image is shown; in 3-D one about each axis.
            As in MONAI's ``Affine``, whose angles are in radians.
        shift_pixels: how far the content moves along each axis once it is turned: positive is down, and to the
            right.
        zoom: factor of size; above 1 the content is larger.
        gamma: exponent of the intensities between the smallest and the largest.
        deformation_pixels: length of the displacements by which the image is deformed after all this, root mean square
            where it has structure.

    Example:
        >>> print(Alignment(flips=(1,), rotation_degrees=(6.5,), shift_pixels=(0.0, 0.0), zoom=1.0, gamma=1.2))
        flipped left-right, rotated 6.5° clockwise, gamma 1.20
    """

    flips: tuple[int, ...]
    rotation_degrees: tuple[float, ...]
    shift_pixels: tuple[float, ...]
    zoom: float
    gamma: float
    deformation_pixels: float = 0.0

    def apply(self, image: Tensor) -> Tensor:
        """Change an image, by MONAI's transforms; all but the deformation.

        Args:
            image: ``(1, H, W)`` or ``(1, H, W, D)``; outside of it are zeros.

        Returns:
            The changed image, of the same shape, float32.

        Example:
            >>> image = torch.rand(1, 8, 8)
            >>> bool(torch.equal(Alignment((0,), (0.0,), (0.0, 0.0), 1.0, 1.0).apply(image), image.flip(1)))
            True
        """
        changed = image.as_tensor() if hasattr(image, "as_tensor") else image
        if self.flips:
            changed = Flip(self.flips)(changed)
        if any(self.rotation_degrees) or any(self.shift_pixels) or self.zoom != 1:
            changed = Affine(
                rotate_params=[float(np.deg2rad(angle)) for angle in self.rotation_degrees],
                # Affine's translation is that of the position that is read, before the zoom.
                translate_params=[-shift / self.zoom for shift in self.shift_pixels],
                scale_params=[1 / self.zoom] * len(self.shift_pixels),
                padding_mode="zeros",
                image_only=True,
            )(changed)
        if self.gamma != 1:
            changed = AdjustContrast(self.gamma)(changed)
        return changed.as_tensor() if hasattr(changed, "as_tensor") else changed

    def __str__(self) -> str:
        """The change in words; what is too small to be seen is left out."""
        words = []
        if self.flips:
            names = ("top-bottom", "left-right", "front-back")
            words.append("flipped " + " and ".join(names[axis] for axis in self.flips))
        if len(self.rotation_degrees) == 1:
            angle = self.rotation_degrees[0]
            if abs(angle) >= 0.25:
                words.append(f"rotated {abs(angle):.1f}° {'clockwise' if angle > 0 else 'counter-clockwise'}")
        elif max(abs(angle) for angle in self.rotation_degrees) >= 0.25:
            words.append("rotated " + ", ".join(f"{angle:.1f}°" for angle in self.rotation_degrees) + " about the axes")
        moves = [
            f"{abs(shift):.1f} pixels {way[shift > 0]}"
            for shift, way in zip(self.shift_pixels, _DIRECTIONS[len(self.shift_pixels)], strict=True)
            if abs(shift) >= 0.25
        ]
        if moves:
            words.append("shifted " + " and ".join(moves))
        if abs(self.zoom - 1) >= 0.005:
            words.append(f"{'enlarged' if self.zoom > 1 else 'shrunk'} to {100 * self.zoom:.1f} %")
        if abs(self.gamma - 1) >= 0.03:
            words.append(f"gamma {self.gamma:.2f}")
        if self.deformation_pixels >= 0.05:
            words.append(f"deformed by {self.deformation_pixels:.1f} pixels")
        return ", ".join(words) or "unchanged"


@dataclass(frozen=True)
class AlignedSSIM:
    """The result of :func:`aligned_ssim` for a batch of pairs.

    Attributes:
        ssim: ``(B,)`` float32, the highest SSIM that was found, less what its deformation costs, on the device of x.
        alignments: for each pair the change of y that reaches it.
    """

    ssim: Tensor
    alignments: list[Alignment]


@torch.no_grad()
def aligned_ssim(
    x: Tensor,
    y: Tensor,
    *,
    rotation_degrees: float = 12.0,
    shift_pixels: float = 4.0,
    zoom: float = 0.05,
    gamma: Sequence[float] = (0.5, 1.5),
    deformation_cost: float | None = None,
) -> AlignedSSIM:
    """Find the change of each ``y[i]`` that gives it the highest SSIM with ``x[i]``.

    A change is a flip of any of the axes, a rotation, a shift, a zoom and a gamma. The SSIM is
    ``pairwise_ssim(standardize(x), standardize(change(y)))``: of the z-scores, with x's own range. It is searched so:

    1. Gamma is set such that y has the mean of x, for which nothing needs to be aligned.
    2. For each combination of flips, images of a quarter of the size are compared at every rotation in steps of a third
       of the largest angle and every shift by whole (coarse) pixels, by their correlation.
    3. From the best of these, four Gauss-Newton steps on images of half the size fit rotation, shift, zoom and gamma
       together, with gain and offset, in the least squares sense.
    4. SSIM at full size ranks the flips; from the best, and the second best if it is close, SSIM is climbed along one
       number after the other, three trials and a parabola through them, first by 0.6 degrees, 0.3 pixels, 0.6 % and
       0.06 in gamma, then by a third of that.
    5. If y as it is does as well, to 1e-4, it is left as it is.
    6. With a ``deformation_cost``, y is then deformed onto x: at half the size, eight steps of a dense, damped and
       smoothed optical flow (Lucas and Kanade 1981), whose displacements change over some ten pixels. It is kept where
       SSIM less ``deformation_cost`` times the length of the displacements in pixels is higher than without.

    The bounds hold for a change and for its inverse: a copy that was made with gamma 0.5 needs gamma 2 to become the
    original again. For images that have nothing to do with each other the result is a local maximum.

    The search is compiled code for the CPU, on as many threads as torch uses; tensors of other devices are brought
    there and the result back. It is meant for a shortlist, not for all pairs of two sets.

    Args:
        x: images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, any range.
        y: images of the same shape, whose smallest value is that of the background.
        rotation_degrees: largest angle, in 3-D about each axis.
        shift_pixels: largest shift along each axis.
        zoom: largest change of size: 0.05 stands for factors from 0.95 to 1.05. The coarse search does not try sizes,
            so that above 0.07 or so the right one is not always found.
        gamma: smallest and largest exponent.
        deformation_cost: SSIM that a pixel of deformation costs, 0 or more; :data:`DEFORMATION_COST` in verdicts. By
            default nothing is deformed.

    Returns:
        SSIM and change of each pair.

    Raises:
        ValueError: when the shapes are not as above, a side is below 16 pixels, a pixel is not finite, or the cost is
            below 0.

    Example:
        >>> from monai_deepssim.transforms import RandStructurePreserving
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> image = PhantomBrainDataset(1, seed=3, progress=False)[0]["image"]
        >>> copy = Affine(rotate_params=0.1, padding_mode="zeros", image_only=True)(image.flip(2))
        >>> found = aligned_ssim(copy[None], image[None])
        >>> bool(found.ssim > 0.98), found.alignments[0].flips, [round(a) for a in found.alignments[0].rotation_degrees]
        (True, (1,), [6])
    """
    _check(x, y)
    if deformation_cost is not None and not deformation_cost >= 0:
        raise ValueError(f"got deformation_cost={deformation_cost}, want 0 or more, or None")
    spatial = x.ndim - 2
    references, volumes = _References(x), _volumes(y)
    x_volumes = _volumes(x)
    low, high, free, steps = _bounds(spatial, rotation_degrees, shift_pixels, zoom, gamma)
    radians = np.deg2rad(rotation_degrees)
    angles = np.linspace(-radians, radians, 7 if spatial == 2 else 3)
    levels = references.levels
    reach = int(np.ceil(shift_pixels / 2**levels))
    flip_bits = np.array([0, 2, 4, 6] if spatial == 2 else range(8))
    ssim = torch.empty(len(x))
    changes = np.zeros((len(x), CHANGE_SIZE))
    flips = np.zeros(len(x), np.int64)
    deformations = np.zeros(len(x))

    def align(i: int) -> None:
        constant = [side[i].min() == side[i].max() for side in (x_volumes, volumes)]
        if any(constant):
            # No change makes them more alike; the rule is that of pairwise_ssim.
            ssim[i] = float(all(constant) and x[i].flatten()[0] == y[i].flatten()[0])
            changes[i, ZOOM:] = 1.0
            return
        reference = references.prepare(i)
        ssim[i], flips[i] = align_pair(
            x_volumes[i], *reference, volumes[i], levels, free, angles, reach, steps, low, high, flip_bits, changes[i]
        )
        if deformation_cost is None:
            return
        deformed = np.empty_like(volumes[i])
        after, pixels = deform_pair(*reference, volumes[i], flips[i], changes[i], levels > 0, deformed)
        if min(after, 1.0) - deformation_cost * pixels > ssim[i] + _NO_GAIN:
            ssim[i], deformations[i] = min(after, 1.0) - deformation_cost * pixels, pixels

    _for_each(align, len(x))
    alignments = [
        _alignment(spatial, bits, change, deformation)
        for bits, change, deformation in zip(flips.tolist(), changes, deformations.tolist(), strict=True)
    ]
    return AlignedSSIM(ssim.to(x.device), alignments)


@torch.no_grad()
def deform_onto(x: Tensor, y: Tensor) -> Tensor:
    """Deform each ``y[i]``, which is aligned to ``x[i]``, a little, so that it fits better.

    What :func:`aligned_ssim` does last, by itself: to look at what its deformations made of an image.

    Args:
        x: images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, any range.
        y: images of the same shape, changed by :meth:`Alignment.apply`.

    Returns:
        The deformed y, with the intensities of y, float32, on its device. A constant image stays as it is.

    Raises:
        ValueError: when the shapes are not as above, a side is below 16 pixels or a pixel is not finite.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.transforms import RandWarp
        >>> image = PhantomBrainDataset(1, seed=3, progress=False)[0]["image"].as_tensor()
        >>> warped = RandWarp().set_random_state(0)(image)
        >>> found = aligned_ssim(warped[None], image[None], deformation_cost=0.0)
        >>> print(found.alignments[0])
        >>> deformed = deform_onto(warped[None], found.alignments[0].apply(image)[None])
    """
    _check(x, y)
    references, volumes = _References(x), _volumes(y)
    plain = y.detach().cpu().float()
    out = plain.clone()
    unchanged = np.zeros(CHANGE_SIZE)
    unchanged[ZOOM], unchanged[GAMMA] = 1.0, 1.0

    def deform(i: int) -> None:
        if x[i].min() == x[i].max() or y[i].min() == y[i].max():
            return
        deformed = np.empty_like(volumes[i])
        deform_pair(*references.prepare(i), volumes[i], 0, unchanged, references.levels > 0, deformed)
        mean, deviation = plain[i].mean(), plain[i].std(correction=0)
        out[i] = torch.from_numpy(deformed).view_as(out[i]) * deviation + mean

    _for_each(deform, len(x))
    return out.to(y.device)


class _References:
    """The images that others are compared with, as the compiled functions take them."""

    def __init__(self, x: Tensor) -> None:
        self._images = x.detach().cpu()
        self.levels = max(0, min(2, int(np.log2(min(x.shape[2:]) / _SMALLEST_SIDE))))
        self._win_planes = 1 if x.ndim == 4 else _WIN_SIZE
        self._ranges = _ranges(standardize(self._images))

    def prepare(self, i: int) -> tuple:
        """Image i standardised ``(P, H, W)``, its window statistics, SSIM's constants and the sides of its window."""
        z = standardize(self._images[i : i + 1].double())
        z = (z[0] if z.ndim == 4 else z[0, 0]).contiguous()
        valid = [z.shape[0] - self._win_planes + 1, *(side - _WIN_SIZE + 1 for side in z.shape[1:])]
        mean, var = np.empty((1, *valid), np.float32), np.empty((1, *valid), np.float32)
        window_means(z[None].numpy(), self._win_planes, _WIN_SIZE, mean, var)
        c1, c2 = (_K1 * self._ranges[i]) ** 2, (_K2 * self._ranges[i]) ** 2
        return z.float().numpy(), mean[0], var[0], c1, c2, self._win_planes, _WIN_SIZE


def _for_each(function: Callable[[int], None], count: int) -> None:
    """Call a function whose work is compiled, and holds no lock, on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        for i in range(count):
            function(i)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, range(count)))


def _bounds(spatial: int, rotation_degrees: float, shift_pixels: float, zoom: float, gamma: Sequence[float]):
    radians = np.deg2rad(rotation_degrees)
    # A shift undone after a rotation and a zoom is a little longer, and may lie along another axis.
    shift = shift_pixels * (np.sqrt(2) if spatial == 2 else np.sqrt(3)) * (1 + zoom)
    low, high = np.zeros(CHANGE_SIZE), np.zeros(CHANGE_SIZE)
    free = [0, 4, 5, 6, 7] if spatial == 2 else list(range(CHANGE_SIZE))
    for k in free[: len(free) - 2]:
        high[k] = radians if k < 3 else shift
        low[k] = -high[k]
    low[ZOOM], high[ZOOM] = min(1 - zoom, 1 / (1 + zoom)), max(1 + zoom, 1 / (1 - zoom))
    low[GAMMA], high[GAMMA] = min(*gamma, 1 / max(gamma)), max(*gamma, 1 / min(gamma))
    steps = np.array([np.deg2rad(0.6)] * 3 + [0.3] * 3 + [0.006, 0.06])
    return low, high, np.array(free), steps


def _alignment(spatial: int, flips: int, change: np.ndarray, deformation_pixels: float) -> Alignment:
    first = 3 - spatial  # a 2-D image has no planes
    return Alignment(
        flips=tuple(axis for axis in range(spatial) if flips >> (axis + first) & 1),
        rotation_degrees=tuple(np.rad2deg(change[: 1 if spatial == 2 else 3]).tolist()),
        shift_pixels=tuple((-change[ZOOM] * change[3 + first : ZOOM]).tolist()),
        zoom=float(change[ZOOM]),
        gamma=float(change[GAMMA]),
        deformation_pixels=deformation_pixels,
    )


def _volumes(images: Tensor) -> np.ndarray:
    """Images in [0, 1] as ``(B, P, H, W)`` float32."""
    plain = images.detach().cpu().float()
    plain = plain if plain.ndim == 4 else plain[:, 0]
    axes = (1, 2, 3)
    lowest = plain.amin(axes, keepdim=True)
    extent = plain.amax(axes, keepdim=True) - lowest
    return ((plain - lowest) / torch.where(extent > 0, extent, 1.0)).contiguous().numpy()


def _ranges(images: Tensor) -> np.ndarray:
    axes = tuple(range(1, images.ndim))
    return (images.amax(axes) - images.amin(axes)).double().numpy()


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim not in (4, 5) or x.shape[1] != 1 or x.shape != y.shape or min(x.shape[2:]) < _SMALLEST_SIDE:
        raise ValueError(
            f"got x {tuple(x.shape)} and y {tuple(y.shape)}, want pairs of one shape (B, 1, H, W) or (B, 1, H, W, D) "
            f"with sides of at least {_SMALLEST_SIDE} pixels"
        )
    for name, images in (("x", x), ("y", y)):
        finite = images.flatten(1).isfinite().all(1)
        if not finite.all():
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"{name} has NaN or infinite pixels in image {bad[:5]}: repair or leave out these images")
