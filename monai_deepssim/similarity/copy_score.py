"""The score that a verdict rests on: aligned SSIM, raised by local features that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor

from monai_deepssim.similarity.aligned_ssim import DEFORMATION_COST, AlignedSSIM, aligned_ssim
from monai_deepssim.similarity.alignment import Alignment
from monai_deepssim.similarity.alignment_inputs import number_images
from monai_deepssim.similarity.batched import band_of, correlate_bands
from monai_deepssim.similarity.local_features import LocalMatch
from monai_deepssim.similarity.matched_region import keep_matches, piece_certainty
from monai_deepssim.similarity.structure import REFERENCE_ROWS, change_onto, correlate, smooth, to_array
from monai_deepssim.similarity.threads import map_in_threads

__all__ = ["COPY_SCORE_VERSION", "CopyScore", "copy_score", "fuse_scores"]

#: Counted up when a pair's score in a verdict changes, so that stored scores are not mixed with others.
COPY_SCORE_VERSION = 5

# Inliers at which the distance of SSIM from 1 is halved: more than most images of other patients reach.
_HALVING_INLIERS, _STEEPNESS = 17.0, 4
# Likewise where the inliers lie as close as in a piece of the training image, which is there pixel by pixel.
_HALVING_INLIERS_OF_PIECE = 8.5
# From where to where inliers go from chance to a sign of a copy, and the SSIM of other patients. Less than that, as
# where the contrast of some tissues is reversed, then says nothing against one.
_INLIERS_OF_COPY, _SSIM_OF_OTHERS = (12.0, 17.0), 0.45
# Standard deviations of the band in which coarse structure is compared, and the blur of the training image, in pixels
# of an image of 136 rows.
_COARSE_BAND, _BLUR = (0.7, 2.0), 2.0
# What of its distance from 1 the correlation of coarse structure keeps in the score: 0.7 is as much as an SSIM of 0.86.
_COARSE_SHARE = 0.47
# From where to where the correlation of coarse structure goes from that of other patients to that of a copy. Images of
# other patients, of brains, chests and phantoms, stay below 0.7; a generator's blurred copies have 0.74 and more.
_COARSE_OF_COPY = (0.6, 0.7)
# What climbing and a deformation add to the correlation of coarse structure after the least squares fit, at most.
_MOST_GAINED = 0.3
# Of volumes, where other subjects stay below 0.35, and warps of a subject that are merely alike below 0.7.
_COARSE_OF_VOLUME_COPY = (0.7, 0.8)
# The head is where the smoothed image is above a share of its brightest; its outline is this many pixels wide, and
# where less than this share of the frame is left there is no inside.
_HEAD_SMOOTHING, _HEAD_SHARE, _OUTLINE, _LEAST_INSIDE = 3.0, 0.1, 10.0, 0.01
# Share of the frame that a head has usually; where it is less, its background lifts SSIM. And the least that counts.
_USUAL_HEAD, _LEAST_HEAD = 0.45, 0.05
# A match with fewer inliers is no start for an alignment.
_LEAST_INLIERS = 8


@dataclass(frozen=True)
class CopyScore:
    """The result of :func:`copy_score` for a batch of pairs.

    Attributes:
        score: ``(B,)`` float32, at most 1, on the device of x.
        ssim: ``(B,)`` float32, aligned SSIM over the whole frame.
        coarse_correlation: ``(B,)`` float32, of the coarse structure of the aligned pair, see :func:`copy_score`.
        inliers: ``(B,)`` int64, keypoints that agree.
        alignments: for each pair the change of y that reaches the SSIM.
        stopped: ``(B,)`` bool, where ``least_score`` was out of reach and the search was given up: score, SSIM and
            coarse correlation are NaN, and the alignment is not the best.
    """

    score: Tensor
    ssim: Tensor
    coarse_correlation: Tensor
    inliers: Tensor
    alignments: list[Alignment]
    stopped: Tensor


def copy_score(
    x: Tensor,
    y: Tensor,
    matches: Sequence[LocalMatch | None] | None = None,
    *,
    deformation_cost: float | None = DEFORMATION_COST,
    least_score: Tensor | float | None = None,
) -> CopyScore:
    """Score how much each ``x[i]`` is a copy of ``y[i]``.

    With S the aligned SSIM (:func:`aligned_ssim`, from the match's transform where there is one, and at that transform
    where 17 inliers or more agree on what the search has left, as on a bright canvas; where the head is less than 0.45
    of the frame, its distance from 1 is divided by the head's share and multiplied by 0.45, since background is like
    background), r the correlation of the coarse structure of the aligned pair, over the frame and within the head in
    equal parts, less the cost of its deformation, and n the number of inliers (:class:`LocalMatch`), the score is

        1 - (1 - max(S, 1 - 0.47 (1 - r))) / (1 + (n / m)⁴)

    where r counts in full from 0.7 on, and not at all below 0.6, where images of other patients are. Of volumes it
    counts from 0.7 to 0.8, and is the higher one with y blurred and as it is.

    SSIM sees what is smooth or averaged. Structure, the difference of an image smoothed by 0.7 and by 2 pixels of 136
    rows, is still there in a copy that a generator blurred; y is blurred by 2 such pixels before, so that it is the
    coarse structure that has to agree. Local features see what was cropped, inverted, windowed, painted over or copied
    in part, and a contrast that is another one in each tissue: from 12 inliers on an SSIM below 0.45, which is less
    than images of other patients have, counts for less, and from 17 on as 0.45. m is 17, and falls to 8.5 for the
    inliers that bound a piece of y in another image: most keypoints between them are inliers, too, and the fine
    structure there is that of y (correlation of 0.95 in bands of 0.6 to 4 pixels).

    Args:
        x: images ``(B, 1, H, W)`` or ``(B, 1, H, W, D)``, any range: those that may be copies.
        y: training images of the same shape.
        matches: for each pair of 2-D images what :func:`match_local_features` found, x being the query, or ``None``.
        deformation_cost: see :func:`aligned_ssim`.
        least_score: one for all pairs or ``(B,)``, below which nobody needs to know a score. A pair of images is given
            up after the least squares fit where the SSIM is more than :data:`MOST_GAINED` below what that score takes
            and the correlation more than 0.3 below what counts. Volumes, and pairs with inliers, are computed to the
            end.

    Returns:
        The scores.

    Raises:
        ValueError: as :func:`aligned_ssim`.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.similarity import VERSIONS, extract_local_features, match_local_features
        >>> image = PhantomBrainDataset(1, seed=3, progress=False)[0]["image"].as_tensor()
        >>> turned = image[:, 12:124].transpose(1, 2)
        >>> features = extract_local_features(turned), extract_local_features(image[:, 12:124])
        >>> found = [match_local_features(*features, version) for version in VERSIONS]
        >>> match = max((match for match in found if match), key=lambda match: match.num_inliers)
        >>> bool(copy_score(turned[None], image[None, :, 12:124], [match]).score > 0.99)
        True
    """
    matches = [None] * len(x) if matches is None else list(matches)
    starts = [match if match is not None and match.num_inliers >= _LEAST_INLIERS else None for match in matches]
    queries = _describe_queries(x)
    shown = torch.tensor([query.head for query in queries])
    background = (_USUAL_HEAD / shown.clamp(min=_LEAST_HEAD)).clamp(min=1)
    inliers = torch.tensor([match.num_inliers if match else 0 for match in matches], dtype=torch.int64)
    aligned, coarse = _align(x, y, starts, queries, deformation_cost, _least_ssim(least_score, background, inliers))
    deformed = torch.tensor([alignment.deformation_pixels for alignment in aligned.alignments])
    paid = coarse - deformed * (deformation_cost or 0.0)
    low, high = _COARSE_OF_COPY if x.ndim == 4 else _COARSE_OF_VOLUME_COPY
    lift = ((paid - low) / (high - low)).clamp(0, 1)
    ssim = 1 - (1 - aligned.ssim.cpu()) * background
    best = ssim + lift * (1 - _COARSE_SHARE * (1 - paid) - ssim).clamp(min=0)
    few, many = _INLIERS_OF_COPY
    best = best + ((inliers - few) / (many - few)).clamp(0, 1) * (_SSIM_OF_OTHERS - best).clamp(min=0)
    in_core = torch.tensor([len(match.core) if match else 0 for match in starts], dtype=torch.int64)
    piece = torch.tensor([piece_certainty(x[i], y[i], match) if match else 0.0 for i, match in enumerate(starts)])
    score = torch.maximum(fuse_scores(best, inliers), fuse_scores(best, in_core, piece))
    return CopyScore(
        score.to(x.device), aligned.ssim, coarse.to(x.device), inliers.to(x.device), aligned.alignments, aligned.stopped
    )


@dataclass(frozen=True)
class _Query:
    """What is known of an image alone: the same for all of its candidates."""

    #: Share of the frame that the head has, and where it is without its outline.
    head: float
    inside: np.ndarray
    #: Its coarse structure.
    structure: np.ndarray


def _describe_queries(x: Tensor) -> list[_Query]:
    """One description per image; candidates of one image follow each other, and share it."""
    pixels = x[:, 0].detach().cpu().float().numpy()
    numbers, first = number_images(pixels)

    def describe(number: int) -> _Query:
        image = pixels[first[number]]
        head = _find_head(image)
        return _Query(float(head.mean()), _inside(head), _coarse_structure(image, 0.0))

    described = map_in_threads(describe, len(first))
    return [described[number] for number in numbers]


def _least_ssim(least_score: Tensor | float | None, background: Tensor, inliers: Tensor) -> Tensor | None:
    """The SSIM without which only coarse structure brings a pair to that score; -2 where there are inliers."""
    if least_score is None:
        return None
    ssim = 1 - (1 - torch.as_tensor(least_score, dtype=torch.float64).cpu()) / background
    return torch.where(inliers > 0, -2.0, ssim)


def _align(
    x: Tensor,
    y: Tensor,
    starts: Sequence[LocalMatch | None],
    queries: Sequence[_Query],
    deformation_cost: float | None,
    least_ssim: Tensor | None,
) -> tuple[AlignedSSIM, Tensor]:
    """Align pairs and correlate their coarse structure, which is NaN where the search was given up."""
    matches = starts if any(starts) else None
    aligned = aligned_ssim(x, y, deformation_cost=deformation_cost, matches=matches, least_ssim=least_ssim)
    aligned = keep_matches(x, y, starts, aligned)
    ssim, stopped, alignments = aligned.ssim, aligned.stopped.cpu(), list(aligned.alignments)
    coarse = _correlate_all(queries, x, y, alignments)
    again = (stopped & (coarse > _COARSE_OF_COPY[0] - _MOST_GAINED)).nonzero().flatten()
    if len(again):
        rest = aligned_ssim(x[again], y[again], deformation_cost=deformation_cost)
        ssim = ssim.index_copy(0, again.to(ssim.device), rest.ssim)
        stopped[again] = False
        for place, i in enumerate(again.tolist()):
            alignments[i] = rest.alignments[place]
        coarse[again] = _correlate_all([queries[i] for i in again.tolist()], x[again], y[again], rest.alignments)
    coarse[stopped] = torch.nan
    return AlignedSSIM(ssim, alignments, stopped.to(ssim.device)), coarse


def fuse_scores(ssim: Tensor, inliers: Tensor, piece: Tensor | float = 0.0) -> Tensor:
    """Join what the pixels of a pair say and the inliers of its local features, see :func:`copy_score`.

    Args:
        ssim: any shape, at most 1, ``max(S, 1 - 0.47 (1 - r))``.
        inliers: of the same shape, 0 or more.
        piece: of the same shape, 0 to 1, how surely the inliers bound a piece of the training image.

    Returns:
        The scores, of the same shape.

    Example:
        >>> fuse_scores(torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0, 17, 34])).tolist()
        [0.5, 0.75, 0.970588207244873]
        >>> fuse_scores(torch.tensor([0.5]), torch.tensor([17]), piece=1.0).tolist()
        [0.970588207244873]
    """
    halving = _HALVING_INLIERS + (_HALVING_INLIERS_OF_PIECE - _HALVING_INLIERS) * piece
    return 1 - (1 - ssim) / (1 + (inliers / halving) ** _STEEPNESS)


def _correlate_all(queries: Sequence[_Query], x: Tensor, y: Tensor, alignments: Sequence[Alignment]) -> Tensor:
    """Correlation of the coarse structure of each pair, ``(B,)`` on the CPU."""
    changed = change_onto(x, y, alignments)
    if changed.is_cuda and changed.ndim == 4:
        once = {id(query): query for query in queries}  # candidates of one image share its description
        order = {key: place for place, key in enumerate(once)}
        places = torch.tensor([order[id(query)] for query in queries], device=changed.device)
        structure, inside = (
            torch.from_numpy(np.stack([getattr(query, name) for query in once.values()])).to(changed.device)[places]
            for name in ("structure", "inside")
        )
        band = band_of(changed[:, 0], *_coarse_band(changed.shape[2:], _BLUR))
        return correlate_bands(structure, band, inside).cpu()
    arrays = to_array(changed[:, 0])
    return torch.tensor(map_in_threads(lambda i: _correlate_coarse(queries[i], arrays[i]), len(x)), dtype=torch.float32)


def _correlate_coarse(query: _Query, changed: np.ndarray) -> float:
    """Correlation of the coarse structure of an image and a training image that is brought onto it, and of its inside.

    The mean of the two: an outline is much alike in many heads, and has most of the structure of a blurred one.
    """
    # So few voxels are a blur already that a copy which is not blurred further has to be compared without one, too.
    blurs = (_BLUR,) if changed.ndim == 2 else (0.0, _BLUR)
    return max(_correlate_structure(query, _coarse_structure(changed, blur)) for blur in blurs)


def _correlate_structure(query: _Query, structure: np.ndarray) -> float:
    whole = correlate(query.structure.ravel(), structure.ravel())
    if not query.inside.any():
        return whole
    parts = (image[query.inside] - image[query.inside].mean() for image in (query.structure, structure))
    return (whole + correlate(*parts)) / 2


def _find_head(image: np.ndarray) -> np.ndarray:
    """Where the smoothed image is above a share of its brightest."""
    smoothed = smooth(image, _HEAD_SMOOTHING * max(image.shape) / REFERENCE_ROWS)
    low = float(smoothed.min())
    return smoothed - low > _HEAD_SHARE * (float(np.quantile(smoothed, 0.98)) - low)


def _inside(head: np.ndarray) -> np.ndarray:
    """Where the head is without its outline; nowhere if that is too little to compare."""
    steps = max(1, round(_OUTLINE * max(head.shape) / REFERENCE_ROWS))
    if head.ndim == 2:
        # What lies outside of the image takes nothing away.
        inside = cv2.erode(head.astype(np.uint8), np.ones((2 * steps + 1,) * 2, np.uint8)) > 0
    else:
        inside = binary_erosion(head, np.ones((3,) * 3, bool), iterations=steps, border_value=1)
    return inside if inside.mean() > _LEAST_INSIDE else np.zeros_like(inside)


def _coarse_structure(image: np.ndarray, blur: float) -> np.ndarray:
    fine, coarse = _coarse_band(image.shape, blur)
    return smooth(image, fine) - smooth(image, coarse)


def _coarse_band(size: Sequence[int], blur: float) -> tuple[float, float]:
    """Standard deviations of the band of an image that is blurred before, in its pixels."""
    pixels = max(size) / REFERENCE_ROWS
    fine, coarse = (pixels * float(np.hypot(deviation, blur)) for deviation in _COARSE_BAND)
    return fine, coarse
