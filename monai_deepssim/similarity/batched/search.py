"""The search for the changes that bring many images onto others, each onto its own: all pairs of a batch at once.

The steps, bounds and constants are those of the compiled search (:mod:`monai_deepssim.similarity.kernels.search`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.batched.changed_ssim import References
from monai_deepssim.similarity.batched.least_squares import fit_least_squares
from monai_deepssim.similarity.batched.resampling import (
    SHIFTS,
    flip_rows_and_columns,
    pool_by_two,
    unchanged,
    warp,
)
from monai_deepssim.similarity.kernels import GAMMA, Search

__all__ = ["align_pairs"]

_FITTING_STEPS, _SWEEPS = 4, 2
# In SSIM: flips this close to the best get a chance; what a change has to be worth; and no score.
_CLOSE, _NOTHING, _NONE = 0.05, 1e-4, -2.0
# In correlation: coarse matches this far below the best are not.
_FAR = 0.08
_LEVELS, _BISECTIONS = 255, 12


def align_pairs(references: References, x: Tensor, y: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """Find the flips and the change that give each y the highest SSIM with its x.

    Args:
        references: x as SSIM takes it.
        x: images ``(N, H, W)`` in [0, 1].
        y: images of the same shape in [0, 1].
        search: where to search.

    Returns:
        SSIM ``(N,)``; the flips as bits, 2 rows and 4 columns, ``(N,)``; the changes, ``(N, CHANGE_SIZE)``.
    """
    plan = _Plan(search, x)
    count, flips = len(x), torch.as_tensor(search.flip_bits, device=x.device)
    pairs = torch.arange(count, device=x.device).repeat_interleave(len(flips))
    bits = flips.repeat(count)
    # A row that is left over when an image is halved is the last one after the flip.
    views = flip_rows_and_columns(y[pairs], bits)
    gamma = _gamma_by_mean(x, y, float(plan.low[GAMMA]), float(plan.high[GAMMA]))
    correlations, change = _search_coarsely(
        plan.halve(x, 2)[pairs], plan.halve(views, 2), gamma[pairs], search, plan.centre(2), plan.scale(2)
    )
    best = correlations.view(count, -1).amax(1)[pairs]
    chosen = (correlations >= best - _FAR).nonzero()[:, 0]
    fitted = fit_least_squares(
        plan.halve(x, 1)[pairs[chosen]], plan.halve(views[chosen], 1), change[chosen].clamp(plan.low, plan.high),
        free=plan.free, low=plan.low, high=plan.high, centre=plan.centre(1), scale=plan.scale(1),
        iterations=_FITTING_STEPS,
    )  # fmt: skip
    change[chosen] = fitted
    scores = torch.full_like(correlations, _NONE)
    scores[chosen] = references[pairs[chosen]].ssim(warp(views[chosen], fitted, plan.centre(0)))
    ranked, order = scores.view(count, -1).sort(dim=1, descending=True, stable=True)
    # The second best flips get a chance where they are close: brains are nearly symmetric.
    close = ranked[:, :2] >= ranked[:, :1] - _CLOSE
    tried = (torch.arange(count, device=x.device)[:, None] * len(flips) + order[:, :2])[close]
    scores[tried], change[tried] = _climb(
        references[pairs[tried]], views[tried], change[tried], scores[tried], plan, sweep=0
    )
    climbed = torch.full_like(scores, _NONE)
    climbed[tried] = scores[tried]
    # Of equal ones the one that was ahead stays so.
    place = climbed.view(count, -1).gather(1, order).argmax(1, keepdim=True)
    first = torch.arange(count, device=x.device) * len(flips) + order.gather(1, place)[:, 0]
    ssim, change, bits = scores[first], change[first], bits[first]
    for sweep in range(1, _SWEEPS):
        ssim, change = _climb(references, views[first], change, ssim, plan, sweep)
    # Where nothing has to be done, the answer is that nothing was done.
    plain = references.ssim(y)
    as_it_is = plain >= ssim - _NOTHING
    change = torch.where(as_it_is[:, None], unchanged(count, x.device), change)
    return torch.where(as_it_is, plain, ssim).clamp(max=1.0), torch.where(as_it_is, 0, bits), change


class _Plan:
    """A search on the device of images, and the sizes at which it looks at them: 0 full, 1 least squares, 2 coarse."""

    def __init__(self, search: Search, images: Tensor) -> None:
        self.levels = search.levels
        self.size = images.shape[1:]
        self.steps = search.steps.tolist()
        self.free = np.flatnonzero(search.high > search.low).tolist()
        self.low = torch.as_tensor(search.low, device=images.device)
        self.high = torch.as_tensor(search.high, device=images.device)

    def halve(self, images: Tensor, times: int) -> Tensor:
        for _ in range(min(times, self.levels)):
            images = pool_by_two(images)
        return images

    def scale(self, times: int) -> float:
        return 2.0 ** min(times, self.levels)

    def centre(self, times: int) -> list[float]:
        """The centre of the full image, seen in coarser pixels, also where a row was left over."""
        return [side / 2 / self.scale(times) - 0.5 for side in self.size]


def _gamma_by_mean(x: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    """The gammas that give y, whose values are in [0, 1], the means of x: no alignment is needed to find them."""
    levels = (y.flatten(1).double() * _LEVELS).long()
    counts = torch.zeros(len(y), _LEVELS + 1, dtype=torch.float64, device=y.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float64))
    values = torch.arange(_LEVELS + 1, device=y.device, dtype=torch.float64) / _LEVELS
    total = x.flatten(1).double().sum(1)
    smallest, largest = torch.full_like(total, low), torch.full_like(total, high)
    for _ in range(_BISECTIONS):
        middle = (smallest * largest).sqrt()
        is_bright = (counts * values ** middle[:, None]).sum(1) > total  # a larger gamma darkens
        smallest = torch.where(is_bright, middle, smallest)
        largest = torch.where(is_bright, largest, middle)
    return (smallest * largest).sqrt()


def _search_coarsely(
    x: Tensor, y: Tensor, gamma: Tensor, search: Search, centre: Sequence[float], scale: float
) -> tuple[Tensor, Tensor]:
    """Try all angles, and shifts by whole pixels, of small images.

    Returns:
        The best correlations ``(N,)``, and the changes that reach them, ``(N, CHANGE_SIZE)``.
    """
    reach = range(-search.reach, search.reach + 1)
    shifts = [(row, column) for row in reach for column in reach]
    overlaps = [_Overlap(x.double(), row, search.reach) for row in reach]
    trial = unchanged(len(x), x.device)
    trial[:, GAMMA] = gamma
    correlations = []
    for angle in search.angles.tolist():
        trial[:, 0] = angle
        warped = warp(y, trial, centre).double()
        correlations += [overlap.correlate(warped) for overlap in overlaps]
    best, place = torch.cat(correlations, 1).max(1)
    tried = torch.tensor([[angle, *shift] for angle in search.angles.tolist() for shift in shifts], dtype=trial.dtype)
    tried[:, 1:] *= scale
    change = trial
    found = tried.to(x.device)[place]
    change[:, 0], change[:, SHIFTS] = found[:, 0], found[:, 1:]
    return best, change


class _Overlap:
    """Images whose pixels are compared with those of others that are shifted by some rows, and by each of some columns.

    Args:
        x: images ``(N, H, W)``, float64.
        row: the shift along the rows.
        reach: the largest shift along the columns, in either direction.
    """

    def __init__(self, x: Tensor, row: int, reach: int) -> None:
        self.row, self.reach = row, reach
        self.rows = slice(max(0, row), x.shape[1] + min(0, row))
        part = x[:, max(0, -row) : x.shape[1] - max(0, row)]
        # Pixels that both have, for each shift by columns: (shifts, pixels).
        inside = torch.ones(part.shape[1:], dtype=x.dtype, device=x.device)
        self.inside = self._shifted(inside[None])[0]
        self.count = self.inside.sum(1)
        self.x = part.flatten(1)
        self.sum = self.x @ self.inside.T
        self.squares = self.x.square() @ self.inside.T - self.sum.square() / self.count

    def _shifted(self, images: Tensor) -> Tensor:
        """Images at each shift by columns, zeros from outside: ``(N, shifts, pixels)``."""
        views = F.pad(images, (self.reach, self.reach)).unfold(2, images.shape[2], 1)
        return views.transpose(1, 2).flatten(2)

    def correlate(self, warped: Tensor) -> Tensor:
        """Pearson correlations of each image with its shifted one, over the pixels that both have, ``(N, shifts)``."""
        w = self._shifted(warped[:, self.rows])
        total = w.sum(2)
        squares = w.square().sum(2) - total.square() / self.count
        products = (w @ self.x[..., None])[..., 0] - self.sum * total / self.count
        variances = self.squares * squares
        return torch.where(variances > 1e-12, products / variances.clamp(min=1e-12).sqrt(), 0.0)


def _climb(
    references: References, y: Tensor, change: Tensor, best: Tensor, plan: _Plan, sweep: int
) -> tuple[Tensor, Tensor]:
    """Raise SSIM along one number of the changes after the other: three trials and a parabola through them."""
    centre, count = plan.centre(0), len(y)
    both = y.repeat(2, 1, 1)
    for number in plan.free:
        step = plan.steps[number] / 3.0**sweep
        here, low, high = change[:, number], plan.low[number], plan.high[number]
        sides = change.repeat(2, 1)
        sides[:, number] = torch.cat([here - step, here + step]).clamp(low, high)
        less, more = references.ssim(warp(both, sides, centre).unflatten(0, (2, count)))
        curvature = less + more - 2 * best
        way = (0.5 * (less - more) / torch.where(curvature < 0, curvature, -1.0)).clamp(-2, 2)
        top = change.clone()
        top[:, number] = (here + way * step).clamp(low, high)
        at_top = torch.where(curvature < 0, references.ssim(warp(y, top, centre)), _NONE)
        best, place = torch.stack([best, less, more, at_top]).max(0)
        trials = torch.cat([here[None], sides[:, number].view(2, count), top[None, :, number]])
        change = change.clone()
        change[:, number] = trials.gather(0, place[None])[0]
    return best, change
