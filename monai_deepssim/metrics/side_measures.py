"""What preprocessing leaves in an image, measured: polarity, background, head, contrast, blur, noise, frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["SideMeasures", "measure_side"]

# Corner blocks of this share of the rows and columns hold background in nearly every image, even where the head is cut.
_CORNER = 0.06
# Corners brighter than this quantile of the image, by this share of its range, are no background.
_DARK_QUANTILE, _FILLED_STEP = 0.01, 0.12
# The head differs from the background by this share of the image's range, and by so many deviations of the background.
_HEAD_STEP, _HEAD_DEVIATIONS = 0.06, 4.0
# Quantile of the head that stands for its brightest, and the blur in pixels before it is taken.
_BRIGHT_QUANTILE, _CONTRAST_BLUR = 0.95, 2.0
# Cycles per pixel between which the fall of the spectrum is fitted, and from which on it is taken for noise.
_BAND, _NOISE_FREQUENCY = (0.04, 0.22), 0.5
# Blocks in which the noise is measured: their side in pixels, and the quantile over them that is taken, since the
# flattest blocks hold the least anatomy.
_NOISE_BLOCK, _NOISE_QUANTILE = 8, 0.25
# That quantile of the median absolute detail, in white noise of deviation 1.
_NOISE_SCALE = 0.6745 * 0.9
# Lines lie within this share of the frame from its edge, run along this share of the side, and differ by this much.
_LINE_MARGIN, _LINE_LENGTH, _LINE_STEP = 0.12, 0.8, 0.1
_LINE_WIDTHS = (2, 4, 8)
# Text: fine bright structure of at least this height, and of so many deviations of the noise.
_TEXT_STEP, _TEXT_DEVIATIONS = 0.15, 5.0
_TEXT_ZONE = 0.3


@dataclass(frozen=True)
class SideMeasures:
    """Measures of each image of a side.

    Attributes:
        inverted: ``(N,)``, 1 where the background is brighter than the head, else 0.
        background: ``(N,)``, level of the background in [0, 1], after any inversion was undone.
        log_head_size: ``(N,)``, logarithm of the side of a square of the head's area, over that of the frame.
        cut: ``(N,)``, share of the frame's edge at which there is head.
        log_gamma: ``(N,)``, ``log(-log m)`` with m the median of the smoothed head, 0 at the background and 1 at
            its 95th percentile: a gamma of g adds ``log g``.
        saturated: ``(N,)``, share of the head's pixels within 0.01 of the brightest.
        blur_variance: ``(N,)``, square of the Gaussian blur in pixels that explains the fall of the spectrum, up to a
            constant that depends on the anatomy.
        noise: ``(N,)``, standard deviation of the noise in the flattest parts of the head.
        framed: ``(N,)``, 1 where a straight line runs along an edge, else 0.
        marks: bool ``(N, H, W)``, fine bright structure in the corners outside the head.
        upright_images: ``(N, H, W)``, the images with any inversion undone and the background at 0.
        heads: bool ``(N, H, W)``, the heads, without holes.
    """

    inverted: np.ndarray
    background: np.ndarray
    log_head_size: np.ndarray
    cut: np.ndarray
    log_gamma: np.ndarray
    saturated: np.ndarray
    blur_variance: np.ndarray
    noise: np.ndarray
    framed: np.ndarray
    marks: np.ndarray
    upright_images: np.ndarray
    heads: np.ndarray


def measure_side(images: np.ndarray) -> SideMeasures:
    """Measure each image of a side.

    Args:
        images: ``(N, H, W)`` in [0, 1], at least 1.

    Returns:
        The measures.

    Example:
        >>> rows, columns = np.mgrid[:64, :64]
        >>> disc = (np.hypot(rows - 32, columns - 32) < 20).astype(float)
        >>> measures = measure_side(np.stack([disc, 1 - disc]))
        >>> measures.inverted.tolist(), measures.background.tolist()
        ([0.0, 1.0], [0.0, 0.0])
    """
    measured = [_measure_image(np.asarray(image, dtype=np.float64)) for image in images]
    return SideMeasures(**{name: np.stack([image[name] for image in measured]) for name in measured[0]})


def _measure_image(image: np.ndarray) -> dict[str, Any]:
    box = _without_padding(image)
    inverted = _is_inverted(image[box])
    upright = 1 - image if inverted else image
    content = upright[box]
    background, deviation = _background(content)
    extent = max(float(content.max()) - background, 1e-6)
    # Padding of an inverted image is as dark as its head: it becomes background.
    padded = np.full_like(upright, background)
    padded[box] = content
    lines = _line_pixels(content, background, extent)
    cleaned = np.full_like(upright, background)
    cleaned[box] = np.where(lines, background, content)
    head = _head(cleaned - background, max(_HEAD_STEP * extent, _HEAD_DEVIATIONS * deviation))
    values = cleaned[head] - background if head.any() else np.zeros(1)
    # Neither a few bright vessels nor the image's own blur may set the scale of the contrast.
    smooth = ndimage.gaussian_filter(cleaned, _CONTRAST_BLUR)[head] - background if head.any() else values
    median = float(np.median(smooth)) / max(float(np.quantile(smooth, _BRIGHT_QUANTILE)), 1e-6)
    noise = _noise(cleaned, head)
    return {
        "inverted": float(inverted),
        "background": background,
        "log_head_size": 0.5 * np.log(max(int(head.sum()), 1) / head.size),
        "cut": _share_of_edge(head[box]),
        "log_gamma": float(np.log(-np.log(np.clip(median, 0.02, 0.98)))),
        "saturated": float(np.mean(values > values.max() - 0.01)),
        "blur_variance": _blur_variance(cleaned - background, head),
        "noise": noise,
        "framed": float(lines.any()),
        "marks": _marks(cleaned, head, box, max(_TEXT_STEP * extent, _TEXT_DEVIATIONS * noise)),
        "upright_images": padded - background,
        "heads": head,
    }


def _without_padding(image: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns that are no padding: constant bands at the minimum, alike on two opposite sides."""
    varied = image > image.min() + 1e-4
    trims = []
    for axis in (1, 0):
        places = np.flatnonzero(varied.any(axis))
        trims.append((places[0], varied.shape[1 - axis] - 1 - places[-1]) if len(places) else (0, 0))
    (top, bottom), (left, right) = trims
    # A black background around a head reaches all four sides, and is none.
    if abs(top - bottom) > 1 or abs(left - right) > 1 or (top + bottom > 0 and left + right > 0):
        top = bottom = left = right = 0
    return slice(top, image.shape[0] - bottom), slice(left, image.shape[1] - right)


def _corners(content: np.ndarray) -> list[np.ndarray]:
    rows, columns = (max(2, round(_CORNER * side)) for side in content.shape)
    ends = ((slice(rows), slice(-rows, None)), (slice(columns), slice(-columns, None)))
    return sorted((content[r, c].ravel() for r in ends[0] for c in ends[1]), key=lambda block: float(np.median(block)))


def _is_inverted(content: np.ndarray) -> bool:
    """Whether most of the image is darker than at least three of its corners."""
    step = 0.1 * max(float(content.max() - content.min()), 1e-6)
    levels = [float(np.median(block)) for block in _corners(content)]
    return sum((content < level - step).sum() > (content > level + step).sum() for level in levels) >= 3


def _background(content: np.ndarray) -> tuple[float, float]:
    """Level and standard deviation of the background, in the two darkest corners: a large head may fill the others.

    Where all corners are brighter than the image's darkest regions the head fills them, and the darkest stand in.
    """
    darkest = np.concatenate(_corners(content)[:2])
    level = float(np.median(darkest))
    smooth = ndimage.uniform_filter(content, 5)
    low = float(np.quantile(smooth, _DARK_QUANTILE))
    if level - low > _FILLED_STEP * (float(smooth.max()) - low):
        return low, 0.0
    return level, 1.4826 * float(np.median(np.abs(darkest - level)))


def _head(signal: np.ndarray, step: float) -> np.ndarray:
    """The largest connected region above the background, its holes filled."""
    bright = ndimage.binary_opening(ndimage.uniform_filter(signal, 3) > step, np.ones((3, 3)))
    labels, count = ndimage.label(bright)
    if not count:
        return np.zeros(signal.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())[1:]
    return ndimage.binary_fill_holes(labels == 1 + sizes.argmax())


def _share_of_edge(head: np.ndarray) -> float:
    inset = 2
    edges = [head[inset], head[-1 - inset], head[:, inset], head[:, -1 - inset]] if min(head.shape) > 8 else [head]
    return float(np.mean(np.concatenate([edge.ravel() for edge in edges])))


def _blur_variance(signal: np.ndarray, head: np.ndarray) -> float:
    r"""Fit :math:`\log P(f) = c - 4 \pi^2 \sigma^2 f^2` to the radial power spectrum, less white noise."""
    places = ndimage.find_objects(head.astype(int))
    window = signal[places[0]] if places else signal
    if min(window.shape) < 16:
        window = signal
    taper = np.hanning(window.shape[0] + 2)[1:-1, None] * np.hanning(window.shape[1] + 2)[None, 1:-1]
    power = np.abs(np.fft.fft2((window - (window * taper).sum() / taper.sum()) * taper)) ** 2
    frequency = np.hypot(np.fft.fftfreq(window.shape[0])[:, None], np.fft.fftfreq(window.shape[1])[None])
    white = float(np.median(power[frequency > _NOISE_FREQUENCY])) / np.log(2)
    edges = np.linspace(*_BAND, 10)
    bins = np.digitize(frequency, edges)
    middles, levels = [], []
    for index in range(1, len(edges)):
        ring = bins == index
        if ring.any():
            middles.append(float(np.mean(frequency[ring] ** 2)))
            mean = float(power[ring].mean())
            levels.append(np.log(max(mean - white, 0.02 * mean, 1e-12)))
    if len(middles) < 3:
        return 0.0
    return float(-np.polyfit(middles, levels, 1)[0] / (4 * np.pi**2))


def _noise(image: np.ndarray, head: np.ndarray) -> float:
    """Standard deviation of the diagonal detail, robust, in the flattest blocks of the head that are not clipped."""
    detail = (image[:-1, :-1] - image[1:, :-1] - image[:-1, 1:] + image[1:, 1:]) / 2
    side = _NOISE_BLOCK
    rows, columns = (length // side for length in detail.shape)

    def blocks(values: np.ndarray) -> np.ndarray:
        trimmed = values[: rows * side, : columns * side]
        return trimmed.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows * columns, -1)

    inside = blocks(ndimage.binary_erosion(head)[:-1, :-1]).mean(1) > 0.9
    values = blocks(image[:-1, :-1])
    clipped = ((values > image.max() - 0.005) | (values < image.min() + 0.005)).mean(1) > 0.3
    deviations = np.median(np.abs(blocks(detail)), axis=1)[inside & ~clipped] / _NOISE_SCALE
    return float(np.quantile(deviations, _NOISE_QUANTILE)) if len(deviations) else 0.0


def _line_pixels(content: np.ndarray, background: float, extent: float) -> np.ndarray:
    """Bright straight lines and bands, up to 8 pixels wide, along the edges: bool, of the content's shape."""
    signal = (content - background) / extent
    return _line_rows(signal) | _line_rows(signal.T).T


def _line_rows(signal: np.ndarray) -> np.ndarray:
    count = len(signal)
    lines = np.zeros(signal.shape, dtype=bool)
    if min(signal.shape) < 32:
        return lines
    # A line has one brightness along its length; anatomy at the edge has many.
    even = np.abs(signal - np.median(signal, axis=1, keepdims=True)) < _LINE_STEP
    for width in _LINE_WIDTHS:
        beside = np.full((2, *signal.shape), -np.inf)
        beside[0, width:], beside[1, :-width] = signal[:-width], signal[width:]
        ridge = signal - beside.max(axis=0) > _LINE_STEP
        lines |= ((ridge & even).mean(axis=1) >= _LINE_LENGTH)[:, None]
    margin = max(3, round(_LINE_MARGIN * count))
    lines[margin : count - margin] = False
    return lines


def _marks(image: np.ndarray, head: np.ndarray, box: tuple[slice, slice], step: float) -> np.ndarray:
    """Fine bright structure in the corners of the content, outside the head."""
    fine = image - ndimage.grey_opening(image, size=(5, 5)) > step
    zone = np.zeros(image.shape, dtype=bool)
    inner = zone[box]
    rows, columns = (round(_TEXT_ZONE * side) for side in inner.shape)
    for r in (slice(rows), slice(-rows, None)):
        for c in (slice(columns), slice(-columns, None)):
            inner[r, c] = True
    return fine & zone & ~ndimage.binary_dilation(head, iterations=2)
