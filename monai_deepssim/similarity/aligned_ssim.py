"""SSIM after the best alignment: whether an image is another one, flipped, turned, re-contrasted or deformed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.alignment_inputs import (
    as_volumes,
    check_pairs,
    count_levels,
    number_images,
    prepare_reference,
)
from monai_deepssim.similarity.batched import align_batch, deform_batch
from monai_deepssim.similarity.bounds import fill_in_bounds
from monai_deepssim.similarity.found_changes import describe_change, transform_by_match
from monai_deepssim.similarity.kernels import (
    CHANGE_SIZE,
    GAMMA,
    ZOOM,
    Reference,
    Search,
    align_pair,
    deform_pair,
    ensure_compiled,
)
from monai_deepssim.similarity.local_features import LocalMatch
from monai_deepssim.similarity.threads import map_in_threads
from monai_deepssim.similarity.volume_deformation import deform_aligned
from monai_deepssim.similarity.volume_search import VolumeSearch, align_volume, plan_volume_search

__all__ = [
    "ALIGNED_SSIM_VERSION",
    "DEFORMATION_COST",
    "MOST_GAINED",
    "AlignedSSIM",
    "aligned_ssim",
    "deform_onto",
]

#: SSIM that a pixel of deformation costs in a verdict. Measured on phantoms of 136 x 112 pixels: at this price a
#: deformed copy scores above a similar image that was deformed as much, and other subjects gain next to nothing
#: (``docs/design_decisions.md``). A warp of the same part of a head is twice as many pixels at twice the size.
DEFORMATION_COST = 0.1
#: Counted up when a pair's score in a verdict changes, so that stored scores are not mixed with others.
ALIGNED_SSIM_VERSION = 4

#: SSIM that climbing and a deformation add to the least squares fit, at most. Among 438 changed copies of real slices
#: 0.35 was the most, among 1,400 pairs of different images 0.1.
MOST_GAINED = 0.4

# Around the transform of a match: largest angle, shift and zoom that the search adds, and the gammas that it tries.
_ROTATION_DEGREES, _SHIFT_PIXELS, _ZOOM, _GAMMA = 4.0, 3.0, 0.05, (0.4, 2.5)
# What was prepared of an image is kept for its other candidates, which follow it: so many, for as many threads.
_REFERENCES_KEPT = 128
# In SSIM: a deformation has to be worth this much.
_NO_GAIN = 1e-4


@dataclass(frozen=True)
class AlignedSSIM:
    """The result of :func:`aligned_ssim` for a batch of pairs.

    Attributes:
        ssim: ``(B,)`` float32, the highest SSIM that was found, less what its deformation costs, on the device of x.
        alignments: for each pair the change of y that reaches it.
        stopped: ``(B,)`` bool, where the search was given up because ``least_ssim`` was out of reach: the SSIM is NaN,
            and the alignment the best that was seen until then.
    """

    ssim: Tensor
    alignments: list[Alignment]
    stopped: Tensor


@torch.no_grad()
def aligned_ssim(
    x: Tensor,
    y: Tensor,
    *,
    rotation_degrees: float | None = None,
    shift_pixels: float | None = None,
    zoom: float | None = None,
    gamma: Sequence[float] | None = None,
    deformation_cost: float | None = None,
    matches: Sequence[LocalMatch | None] | None = None,
    least_ssim: Tensor | float | None = None,
    batched: bool | None = None,
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
       0.06 in gamma, then by a third of that. At 0.9999 there is nothing left to gain: the search ends, also without 6.
    5. If y as it is does as well, to 1e-4, it is left as it is.
    6. With a ``deformation_cost``, y is then deformed onto x: at half the size (at full size where a side is below 32
       pixels), eight steps of a dense, damped and smoothed optical flow (Lucas and Kanade 1981), whose displacements
       change over some ten of its pixels. It is kept where SSIM less ``deformation_cost`` times the length of the
       displacements in pixels is higher than without.

    A volume is searched likewise, with these differences: the axes of a cube may be exchanged, too (48 orientations),
    and each axis has a zoom of its own. Orientations are compared at a quarter of the size by their correlation at all
    shifts, each as it is and stretched along its axes until the two foregrounds are of one size. The best 16 are fitted
    by least squares there, the best four of these at half the size, and one or two at full size, where SSIM is climbed
    once. An axis of less than 28 voxels is not halved.

    A match of local features shows a change beyond these bounds: with one, y is transformed by it first, and the search
    goes on from there, within 4 degrees, 3 pixels and 5 %, without flips.

    The bounds hold for a change and for its inverse: a copy that was made with gamma 0.5 needs gamma 2 to become the
    original again. For images that have nothing to do with each other the result is a local maximum.

    The search is compiled code for the CPU, on as many threads as torch uses, and for images on a GPU the same steps in
    torch operations, on all pairs at once and without a transfer: equal to 1e-3 in SSIM for copies; some 2 % of the
    pairs that have nothing to do with each other differ by more, up to 0.01. Volumes, and tensors of other devices, are
    brought to the CPU and the result back. It is meant for a shortlist, not for all pairs of two sets.

    Args:
        x: images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, any range.
        y: images of the same shape, whose smallest value is that of the background.
        rotation_degrees: largest angle, in 3-D about each axis; 12 by default, and 15 for volumes.
        shift_pixels: largest shift along each axis; 4 by default, and an eighth of the longest side for volumes.
        zoom: largest change of size: 0.05, the default, stands for factors from 0.95 to 1.05. For images the coarse
            search does not try sizes, so that above 0.07 or so the right one is not always found. For volumes it is 0.2
            by default, along each axis, and around the stretches that are tried.
        gamma: smallest and largest exponent; 0.5 and 1.5 by default, and 0.4 and 2.5 for volumes.
        deformation_cost: SSIM that a pixel of deformation costs, 0 or more; :data:`DEFORMATION_COST` in verdicts, which
            was measured on slices of 136 x 112 pixels and not on volumes. By default nothing is deformed.
        matches: for each pair of 2-D images what :func:`match_local_features` found, x being the query, or ``None``. By
            default there are none.
        least_ssim: one for all pairs or ``(B,)``, what an SSIM has to reach to be of use. The search of a pair of
            images ends after step 3 where it is :data:`MOST_GAINED` below, which is more than the remaining steps have
            been seen to gain. Of volumes, and in torch operations, every pair is searched to the end.
        batched: whether images are aligned in torch operations where they are; by default those on a CUDA device are.

    Returns:
        SSIM and change of each pair.

    Raises:
        ValueError: when the shapes are not as above, a side is below 16 pixels, a pixel or a least SSIM is not finite,
            the cost is below 0, or volumes are to be aligned in torch operations.

    Example:
        >>> from monai_deepssim.transforms import RandStructurePreserving
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> image = PhantomBrainDataset(1, seed=3, progress=False)[0]["image"]
        >>> from monai.transforms import Affine
        >>> copy = Affine(rotate_params=0.1, padding_mode="zeros", image_only=True)(image.flip(2))
        >>> found = aligned_ssim(copy[None], image[None])
        >>> bool(found.ssim > 0.98), found.alignments[0].flips, [round(a) for a in found.alignments[0].rotation_degrees]
        (True, (1,), [6])
    """
    x, y = _check(x, y, deformation_cost, matches, batched)
    spatial_dims = x.ndim - 2
    bounds = fill_in_bounds(x.shape[2:], rotation_degrees, shift_pixels, zoom, gamma)
    levels, size = count_levels(x.shape[2:]), (x.shape[2], x.shape[3])
    least = _spread(least_ssim, len(x)) - MOST_GAINED
    near = _plan_search(levels, _ROTATION_DEGREES, _SHIFT_PIXELS, _ZOOM, _GAMMA)._replace(
        angles=np.deg2rad([-_ROTATION_DEGREES / 2, 0.0, _ROTATION_DEGREES / 2]), reach=1, flip_bits=np.array([0])
    )
    search = _plan_search(levels, *bounds) if spatial_dims == 2 else None
    if search is not None and (x.is_cuda if batched is None else batched):
        return _align_batched(x, y, search, near, deformation_cost, matches)
    ensure_compiled(spatial_dims)
    x_volumes, y_volumes = as_volumes(x), as_volumes(y)
    numbers, first = number_images(x.cpu().numpy())
    prepare = lru_cache(maxsize=_REFERENCES_KEPT)(lambda number: prepare_reference(x[first[number]]))
    volume_search = plan_volume_search(x.shape[2:], *bounds)

    def align(i: int) -> tuple[float, Alignment]:
        constant = [side[i].min() == side[i].max() for side in (x_volumes, y_volumes)]
        if any(constant):
            # No change makes them more alike; the rule is that of pairwise_ssim.
            ssim = float(all(constant) and x[i].flatten()[0] == y[i].flatten()[0])
            return ssim, Alignment((), (0.0,) * (2 * spatial_dims - 3), (0.0,) * spatial_dims, 1.0, 1.0)
        reference = prepare(numbers[i])
        if search is None:
            return _align_volume(reference, x_volumes[i], y_volumes[i], volume_search, deformation_cost)
        match = None if matches is None else matches[i]
        start = y_volumes[i] if match is None else transform_by_match(y_volumes[i], match)
        image, flat, change = x_volumes[i].reshape(-1), start.reshape(-1), np.zeros(CHANGE_SIZE)
        plan = search if match is None else near
        ssim, flips, stopped = align_pair(reference, image, flat, size, plan, least[i], change)
        if stopped:
            return float("nan"), describe_change(match, x.shape[2:], flips, change, 0.0)
        deformation = 0.0
        if deformation_cost is not None and ssim < 1.0 - _NO_GAIN:
            after, pixels = deform_pair(reference, flat, size, flips, change, levels > 0, np.empty_like(flat))
            score = min(after, 1.0) - deformation_cost * pixels
            if score > ssim + _NO_GAIN:
                ssim, deformation = score, pixels
        return ssim, describe_change(match, x.shape[2:], flips, change, deformation)

    aligned = map_in_threads(align, len(x))
    ssim = torch.tensor([score for score, _ in aligned], dtype=torch.float32, device=x.device)
    return AlignedSSIM(ssim, [alignment for _, alignment in aligned], ssim.isnan())


@torch.no_grad()
def deform_onto(x: Tensor, y: Tensor, *, batched: bool | None = None) -> Tensor:
    """Deform each ``y[i]``, which is aligned to ``x[i]``, a little, so that it fits better.

    What :func:`aligned_ssim` does last, by itself: to look at what its deformations made of an image.

    Args:
        x: images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, any range.
        y: images of the same shape, changed by :meth:`Alignment.apply`.
        batched: as for :func:`aligned_ssim`.

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
        >>> bool(found.alignments[0].deformation_pixels > 0.5)
        True
        >>> deformed = deform_onto(warped[None], found.alignments[0].apply(image)[None])
        >>> deformed.shape
        torch.Size([1, 1, 136, 112])
    """
    x, y = check_pairs(x, y)
    halve = count_levels(x.shape[2:]) > 0
    if x.ndim == 4 and (x.is_cuda if batched is None else batched):
        return deform_batch(x, y, halve)
    ensure_compiled(x.ndim - 2)
    volumes = as_volumes(y)
    plain = y.detach().cpu().float()
    out = plain.clone()
    unchanged = np.zeros(CHANGE_SIZE)
    unchanged[ZOOM], unchanged[GAMMA] = 1.0, 1.0

    def deform(i: int) -> None:
        if x[i].min() == x[i].max() or y[i].min() == y[i].max():
            return
        if x.ndim == 5:
            _, _, deformed = deform_aligned(prepare_reference(x[i]), volumes[i])
        else:
            deformed = np.empty_like(volumes[i])
            size = (x.shape[2], x.shape[3])
            deform_pair(
                prepare_reference(x[i]), volumes[i].reshape(-1), size, 0, unchanged, halve, deformed.reshape(-1)
            )
        mean, deviation = plain[i].mean(), plain[i].std(correction=0)
        out[i] = torch.from_numpy(deformed).view_as(out[i]) * deviation + mean

    map_in_threads(deform, len(x))
    return out.to(y.device)


def _align_batched(
    x: Tensor,
    y: Tensor,
    search: Search,
    near: Search,
    deformation_cost: float | None,
    matches: Sequence[LocalMatch | None] | None,
) -> AlignedSSIM:
    found = align_batch(x, y, search, near, deformation_cost, matches)
    return AlignedSSIM(
        found.ssim,
        [
            describe_change(match, x.shape[2:], int(flips), change, float(pixels))
            for match, flips, change, pixels in zip(
                matches or [None] * len(x), found.flips, found.change, found.deformation_pixels, strict=True
            )
        ],
        torch.zeros(len(x), dtype=torch.bool, device=x.device),
    )


def _align_volume(
    reference: Reference, x: np.ndarray, y: np.ndarray, search: VolumeSearch, deformation_cost: float | None
) -> tuple[float, Alignment]:
    ssim, change = align_volume(reference, x, y, search)
    deformation = 0.0
    if deformation_cost is not None:
        after, voxels, _ = deform_aligned(reference, change.apply(y))
        score = min(after, 1.0) - deformation_cost * voxels
        if score > ssim + _NO_GAIN:
            ssim, deformation = score, voxels
    return ssim, change.describe(deformation)


def _check(
    x: Tensor,
    y: Tensor,
    deformation_cost: float | None,
    matches: Sequence[LocalMatch | None] | None,
    batched: bool | None,
) -> tuple[Tensor, Tensor]:
    x, y = check_pairs(x, y)
    if batched and x.ndim != 4:
        raise ValueError(f"got batched=True for x {tuple(x.shape)}, want images (B, 1, H, W): volumes take False")
    if matches is not None and (len(matches) != len(x) or x.ndim != 4):
        raise ValueError(f"got {len(matches)} matches for x {tuple(x.shape)}, want one for each pair of 2-D images")
    if deformation_cost is not None and not deformation_cost >= 0:
        raise ValueError(f"got deformation_cost={deformation_cost}, want 0 or more, or None")
    return x, y


def _spread(least: Tensor | float | None, count: int) -> np.ndarray:
    """A least SSIM for each pair, float64 ``(B,)``; -2, which every pair reaches, where none is asked for."""
    values = torch.as_tensor(-2.0 if least is None else least, dtype=torch.float64).cpu()
    if values.ndim > 1 or (values.ndim and len(values) != count) or not values.isfinite().all():
        raise ValueError(f"got least_ssim of shape {tuple(values.shape)}, want one finite number, or {count} of them")
    return values.expand(count).numpy()


def _plan_search(
    levels: int, rotation_degrees: float, shift_pixels: float, zoom: float, gamma: Sequence[float]
) -> Search:
    radians = np.deg2rad(rotation_degrees)
    # A shift undone after a rotation and a zoom is a little longer, and may lie along another axis.
    shift = shift_pixels * np.sqrt(2) * (1 + zoom)
    high = np.array([radians, shift, shift, max(1 + zoom, 1 / (1 - zoom)), max(*gamma, 1 / min(gamma))])
    low = -high
    low[ZOOM], low[GAMMA] = min(1 - zoom, 1 / (1 + zoom)), min(*gamma, 1 / max(gamma))
    return Search(
        low=low,
        high=high,
        steps=np.array([np.deg2rad(0.6), 0.3, 0.3, 0.006, 0.06]),
        angles=np.linspace(-radians, radians, 7),
        reach=int(np.ceil(shift_pixels / 2**levels)),
        levels=levels,
        flip_bits=np.array([0, 2, 4, 6]),
    )
