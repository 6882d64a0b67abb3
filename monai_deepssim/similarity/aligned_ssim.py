"""SSIM after the best alignment: whether an image is another one that was flipped, turned, shifted or re-contrasted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import AdjustContrast, Affine, Flip
from torch import Tensor

from .alignment_resampling import CHANGE_SIZE
from .alignment_search import align_pair
from .ssim_kernel import window_means
from .standardize import standardize

__all__ = ["AlignedSSIM", "Alignment", "aligned_ssim"]

_WIN_SIZE, _K1, _K2 = 7, 0.01, 0.03
# A coarse image keeps at least so many pixels a side, or there is nothing left to align.
_SMALLEST_SIDE = 16
# What a negative and a positive shift along each axis is called, in 2-D and 3-D.
_DIRECTIONS = {
    2: (("up", "down"), ("left", "right")),
    3: tuple((f"down axis {axis}", f"up axis {axis}") for axis in range(3)),
}


@dataclass(frozen=True)
class Alignment:
    """A change of an image, in the order in which it happens: flips, then rotation, shift and zoom at once, then gamma.

    Attributes:
        flips: the spatial axes that are flipped, counted from 0.
        rotation_degrees: one angle in 2-D, positive clockwise as the image is shown; in 3-D one about each axis.
            As in MONAI's ``Affine``, whose angles are in radians.
        shift_pixels: how far the content moves along each axis once it is turned: positive is down, and to the
            right.
        zoom: factor of size; above 1 the content is larger.
        gamma: exponent of the intensities between the smallest and the largest.

    Example:
        >>> print(Alignment(flips=(1,), rotation_degrees=(6.5,), shift_pixels=(0.0, 0.0), zoom=1.0, gamma=1.2))
        flipped left-right, rotated 6.5° clockwise, gamma 1.20
    """

    flips: tuple[int, ...]
    rotation_degrees: tuple[float, ...]
    shift_pixels: tuple[float, ...]
    zoom: float
    gamma: float

    def apply(self, image: Tensor) -> Tensor:
        """Change an image, by MONAI's transforms.

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
        return ", ".join(words) or "unchanged"


@dataclass(frozen=True)
class AlignedSSIM:
    """The result of :func:`aligned_ssim` for a batch of pairs.

    Attributes:
        ssim: ``(B,)`` float32, the highest SSIM that was found, on the device of x.
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

    Returns:
        SSIM and change of each pair.

    Raises:
        ValueError: when the shapes are not as above, a side is below 16 pixels or a pixel is not finite.

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
    spatial = x.ndim - 2
    x_volumes, y_volumes = _volumes(x), _volumes(y)
    levels = max(0, min(2, int(np.log2(min(x.shape[2:]) / _SMALLEST_SIDE))))
    low, high, free, steps = _bounds(spatial, rotation_degrees, shift_pixels, zoom, gamma)
    radians = np.deg2rad(rotation_degrees)
    angles = np.linspace(-radians, radians, 7 if spatial == 2 else 3)
    reach = int(np.ceil(shift_pixels / 2**levels))
    flip_bits = np.array([0, 2, 4, 6] if spatial == 2 else range(8))
    ssim = torch.empty(len(x))
    changes = np.zeros((len(x), CHANGE_SIZE))
    flips = np.zeros(len(x), np.int64)
    ranges = _ranges(standardize(x.detach().cpu()))
    c1, c2 = (_K1 * ranges) ** 2, (_K2 * ranges) ** 2
    win_planes = 1 if spatial == 2 else _WIN_SIZE

    def align(i: int) -> None:
        constant = [volumes[i].min() == volumes[i].max() for volumes in (x_volumes, y_volumes)]
        if any(constant):
            # No change makes them more alike; the rule is that of pairwise_ssim.
            ssim[i] = float(all(constant) and x[i].flatten()[0] == y[i].flatten()[0])
            changes[i, 6:] = 1.0
            return
        z = standardize(x[i : i + 1].detach().cpu().double())
        z = (z[0] if spatial == 2 else z[0, 0]).contiguous()
        valid = [z.shape[0] - win_planes + 1, *(side - _WIN_SIZE + 1 for side in z.shape[1:])]
        mean, var = np.empty((1, *valid), np.float32), np.empty((1, *valid), np.float32)
        window_means(z[None].numpy(), win_planes, _WIN_SIZE, mean, var)
        ssim[i], flips[i] = align_pair(
            x_volumes[i], z.float().numpy(), mean[0], var[0], c1[i], c2[i], win_planes, _WIN_SIZE,
            y_volumes[i], levels, free, angles, reach, steps, low, high, flip_bits, changes[i],
        )  # fmt: skip

    threads = min(torch.get_num_threads(), len(x))
    if threads <= 1:
        for i in range(len(x)):
            align(i)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(align, range(len(x))))
    alignments = [_alignment(spatial, bits, change) for bits, change in zip(flips.tolist(), changes, strict=True)]
    return AlignedSSIM(ssim.to(x.device), alignments)


def _bounds(spatial: int, rotation_degrees: float, shift_pixels: float, zoom: float, gamma: Sequence[float]):
    radians = np.deg2rad(rotation_degrees)
    # A shift undone after a rotation and a zoom is a little longer, and may lie along another axis.
    shift = shift_pixels * (np.sqrt(2) if spatial == 2 else np.sqrt(3)) * (1 + zoom)
    low, high = np.zeros(CHANGE_SIZE), np.zeros(CHANGE_SIZE)
    free = [0, 4, 5, 6, 7] if spatial == 2 else list(range(CHANGE_SIZE))
    for k in free[: len(free) - 2]:
        high[k] = radians if k < 3 else shift
        low[k] = -high[k]
    low[6], high[6] = min(1 - zoom, 1 / (1 + zoom)), max(1 + zoom, 1 / (1 - zoom))
    low[7], high[7] = min(*gamma, 1 / max(gamma)), max(*gamma, 1 / min(gamma))
    steps = np.array([np.deg2rad(0.6)] * 3 + [0.3] * 3 + [0.006, 0.06])
    return low, high, np.array(free), steps


def _alignment(spatial: int, flips: int, change: np.ndarray) -> Alignment:
    first = 3 - spatial  # a 2-D image has no planes
    return Alignment(
        flips=tuple(axis for axis in range(spatial) if flips >> (axis + first) & 1),
        rotation_degrees=tuple(np.rad2deg(change[: 1 if spatial == 2 else 3]).tolist()),
        shift_pixels=tuple((-change[6] * change[3 + first : 6]).tolist()),
        zoom=float(change[6]),
        gamma=float(change[7]),
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
