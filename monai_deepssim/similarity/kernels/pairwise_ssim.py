"""SSIM of many pairs on the CPU: one fused, compiled pass over the pixels of a pair.

The window sums of x and x² (and of y and y²) are needed once an image; only the window sum of x·y is new in a pair.
The kernel keeps that sum running down the rows, so that a pixel of a pair costs two products for the sum, ``win_size``
additions along the row and one division, all on contiguous rows that the compiler turns into vector instructions.

Compiled with ``nogil`` and threaded by the caller: numba's own threads (OpenMP) do not survive the fork of a
DataLoader.
"""

from __future__ import annotations

import numpy as np

from monai_deepssim.similarity.kernels.compilation import cached_njit

__all__ = ["fill_ssim", "window_means"]


@cached_njit()
def window_means(x, win_p, win, mean, var):  # pragma: no cover (compiled)
    """Mean and sample variance of every window of every image.

    Args:
        x: images ``(N, P, H, W)``, float64, centred. A 2-D image has one plane, ``P = 1``.
        win_p: side of the window over the planes, 1 for 2-D.
        win: side of the window over rows and columns.
        mean: output ``(N, P - win_p + 1, H - win + 1, W - win + 1)``, float32.
        var: output of the same shape, float32: the sample variance (divided by the number of pixels less one).
    """
    n, planes, height, width = x.shape
    pixels = win_p * win * win
    columns = np.empty((2, width))
    for i in range(n):
        for p in range(planes - win_p + 1):
            for r in range(height - win + 1):
                columns[:] = 0
                for dp in range(win_p):
                    for dr in range(win):
                        for c in range(width):
                            value = x[i, p + dp, r + dr, c]
                            columns[0, c] += value
                            columns[1, c] += value * value
                for c in range(width - win + 1):
                    total = 0.0
                    squares = 0.0
                    for k in range(win):
                        total += columns[0, c + k]
                        squares += columns[1, c + k]
                    mean[i, p, r, c] = total / pixels
                    var[i, p, r, c] = max(0.0, (squares - total * total / pixels) / (pixels - 1))


@cached_njit(fastmath=True, error_model="numpy")
def fill_ssim(  # noqa: C901 (a kernel, faster as one)
    x, x_mean, x_var, x_offset, y, y_mean, y_var, y_offset, c1, c2, win_p, win, first, last, out
):  # pragma: no cover (compiled)
    """SSIM of rows ``first`` to ``last`` of x with every y, into ``out``.

    With u the means, v the variances and v_xy the covariance of a window (Wang et al. 2004, equation 13):
    ``(2 u_x u_y + c1)(2 v_xy + c2) / ((u_x² + u_y² + c1)(v_x + v_y + c2))``, averaged over the windows.

    Args:
        x: images ``(N, P, H, W)``, float32, each less its own overall mean, which keeps float32 exact enough.
        x_mean, x_var: their window means and variances, from :func:`window_means`.
        x_offset: the overall means that were taken off, ``(N,)``.
        y, y_mean, y_var, y_offset: the same of the other side, M images.
        c1, c2: the stabilising constants of each x, ``(N,)``.
        win_p, win: sides of the window over planes and over rows and columns.
        first, last: the rows of ``out`` to fill.
        out: output ``(N, M)``, float32.
    """
    planes, height, width = x.shape[1], x.shape[2], x.shape[3]
    valid_p, valid_h, valid_w = planes - win_p + 1, height - win + 1, width - win + 1
    pixels = np.float32(win_p * win * win)
    scale = np.float32(2.0 / (pixels - 1.0))
    columns = np.empty(width, np.float32)
    ssim_row = np.empty(valid_w, np.float32)
    two = np.float32(2.0)
    for i in range(first, last):
        k1 = np.float32(c1[i])
        k2 = np.float32(c2[i])
        x_off = np.float32(x_offset[i])
        for j in range(y.shape[0]):
            y_off = np.float32(y_offset[j])
            total = np.float64(0.0)
            for p in range(valid_p):
                columns[:] = 0
                for dp in range(win_p):
                    for r in range(win - 1):
                        xr = x[i, p + dp, r]
                        yr = y[j, p + dp, r]
                        for c in range(width):
                            columns[c] += xr[c] * yr[c]
                for r in range(valid_h):
                    for dp in range(win_p):
                        xr = x[i, p + dp, r + win - 1]
                        yr = y[j, p + dp, r + win - 1]
                        for c in range(width):
                            columns[c] += xr[c] * yr[c]
                    for c in range(valid_w):
                        ssim_row[c] = columns[c]
                    for k in range(1, win):
                        for c in range(valid_w):
                            ssim_row[c] += columns[c + k]
                    mx = x_mean[i, p, r]
                    my = y_mean[j, p, r]
                    vx = x_var[i, p, r]
                    vy = y_var[j, p, r]
                    row_total = np.float32(0.0)
                    for c in range(valid_w):
                        covariance_twice = scale * (ssim_row[c] - pixels * mx[c] * my[c])
                        ux = mx[c] + x_off
                        uy = my[c] + y_off
                        numerator = (two * ux * uy + k1) * (covariance_twice + k2)
                        denominator = (ux * ux + uy * uy + k1) * (vx[c] + vy[c] + k2)
                        row_total += numerator / denominator
                    total += row_total
                    for dp in range(win_p):
                        xr = x[i, p + dp, r]
                        yr = y[j, p + dp, r]
                        for c in range(width):
                            columns[c] -= xr[c] * yr[c]
            out[i, j] = total / (valid_p * valid_h * valid_w)
