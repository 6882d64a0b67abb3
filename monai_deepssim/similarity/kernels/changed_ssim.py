"""SSIM of one image with another after a change: the score of a candidate of the alignment's search, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_deepssim.similarity.kernels.compilation import inner_njit

__all__ = ["WINDOW", "Reference", "mean_ssim"]

#: Side of SSIM's window.
WINDOW = 7
_FLOAT = np.float32


class Reference(NamedTuple):
    """An image or a volume that others are compared with, as the kernels take it."""

    #: float32, standardised: a volume ``(P, H, W)``, or an image, flat.
    z: np.ndarray
    #: float32, mean and sample variance of each window of z.
    mean: np.ndarray
    variance: np.ndarray
    #: The constants that steady SSIM.
    c1: float
    c2: float


@inner_njit(fastmath=True, error_model="numpy")
def mean_ssim(x, x_mean, x_variance, c1, c2, height, width, w, total, squares):  # pragma: no cover (compiled)
    """SSIM with the z-score of w, as :func:`~monai_deepssim.similarity.pairwise_ssim` defines it.

    Args:
        x: image, standardised.
        x_mean: mean of each of its windows.
        x_variance: sample variance of each of its windows.
        c1: constant that steadies SSIM's means.
        c2: constant that steadies SSIM's variances.
        height: rows of x.
        width: columns of x.
        w: image of the same size.
        total: sum of its values.
        squares: sum of their squares.

    Returns:
        The SSIM; 0 where w is constant.
    """
    count = height * width
    mean = total / count
    deviation = np.sqrt(max(0.0, squares / count - mean * mean))
    if deviation < 1e-6:
        return 0.0
    shift, scale = _FLOAT(mean), _FLOAT(1.0 / deviation)
    pixels = _FLOAT(WINDOW * WINDOW)
    share, unbias, two = _FLOAT(1.0) / pixels, _FLOAT(1.0) / (pixels - _FLOAT(1.0)), _FLOAT(2.0)
    k1, k2 = _FLOAT(c1), _FLOAT(c2)
    valid_h, valid_w = height - WINDOW + 1, width - WINDOW + 1
    # Sums over the rows of a window, column by column: of x w, w and w² of the z-scores.
    products, sums, sums_of_squares = np.empty(width, _FLOAT), np.empty(width, _FLOAT), np.empty(width, _FLOAT)
    for c in range(width):
        products[c] = sums[c] = sums_of_squares[c] = _FLOAT(0.0)
    result = np.float64(0.0)
    for r in range(height):
        x_new, w_new = x[r * width :], w[r * width :]
        for c in range(width):
            b = (w_new[c] - shift) * scale
            products[c] += x_new[c] * b
            sums[c] += b
            sums_of_squares[c] += b * b
        top = r - WINDOW + 1
        if top < 0:
            continue
        means, variances = x_mean[top * valid_w :], x_variance[top * valid_w :]
        row_total = _FLOAT(0.0)
        for c in range(valid_w):
            xw, wsum, ww = products[c], sums[c], sums_of_squares[c]
            for d in range(1, WINDOW):
                xw += products[c + d]
                wsum += sums[c + d]
                ww += sums_of_squares[c + d]
            my = wsum * share
            mx = means[c]
            vy = max(_FLOAT(0.0), unbias * (ww - pixels * my * my))
            covariance = unbias * (xw - pixels * mx * my)
            numerator = (two * mx * my + k1) * (two * covariance + k2)
            row_total += numerator / ((mx * mx + my * my + k1) * (variances[c] + vy + k2))
        result += row_total
        x_old, w_old = x[top * width :], w[top * width :]
        for c in range(width):
            b = (w_old[c] - shift) * scale
            products[c] -= x_old[c] * b
            sums[c] -= b
            sums_of_squares[c] -= b * b
    return result / (valid_h * valid_w)
