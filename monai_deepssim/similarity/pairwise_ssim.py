"""SSIM of every image of one batch with every image of another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from monai_deepssim.similarity.kernels import fill_ssim, window_means

__all__ = ["check_finite", "pairwise_ssim"]

# Pixels of the pairs that the torch path holds at once: 2**24 float32 are 64 MiB a map, of which it needs about five.
_TORCH_BLOCK_PIXELS = 2**24


@torch.no_grad()
def pairwise_ssim(
    x: Tensor,
    y: Tensor | None = None,
    win_size: int = 7,
    data_range: float | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Tensor:
    """SSIM of every ``x[i]`` with every ``y[j]``, equal to scikit-image's ``structural_similarity`` to 1e-4.

    Uniform window, sample covariance, border of half a window left out:
    ``mean((2 u_x u_y + c1)(2 v_xy + c2) / ((u_x² + u_y² + c1)(v_x + v_y + c2)))`` with ``c = (k · data_range)²``. As
    ``data_range=None`` takes the range of ``x[i]``, the matrix is not quite symmetric: on standardised brain slices the
    two orders differ by 0.008 on average. The one departure from scikit-image: the SSIM with a constant image is 0 and
    that of two equal constants 1, where scikit-image may give NaN.

    On the CPU this is one compiled pass a pair, on as many threads as torch uses; on other devices torch operations.
    No gradient flows.

    Args:
        x: images ``(N, 1, H, W)`` or ``(N, 1, H, W, D)``, floating point, any range.
        y: images ``(M, 1, H, W)`` or ``(M, 1, H, W, D)`` on the same device; ``None`` compares x with itself.
        win_size: side of the window in pixels, odd, at most the smallest side of the image.
        data_range: largest value less smallest possible value; ``None`` takes that of each ``x[i]``.
        k1: weight of the range in the constant that steadies the means.
        k2: weight of the range in the constant that steadies the variances.

    Returns:
        ``(N, M)`` float32 in [-1, 1] on the device of x.

    Raises:
        ValueError: when the shapes are not as above or do not match, the window does not fit, the range is not
            positive, or a pixel is not finite.
        TypeError: when the images are not floating point.

    References:
        Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 13 (2004).

    Example:
        >>> x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> ssim = pairwise_ssim(x)
        >>> ssim.shape, [round(value, 4) for value in ssim.diagonal().tolist()]
        (torch.Size([3, 3]), [1.0, 1.0, 1.0])
    """
    y = x if y is None else y
    _check(x, y, win_size, data_range)
    axes = tuple(range(1, x.ndim))
    x_range = x.amax(axes).double() - x.amin(axes).double()
    y_range = x_range if y is x else y.amax(axes).double() - y.amin(axes).double()
    ranges = x_range if data_range is None else torch.full_like(x_range, data_range)
    ranges = torch.where(ranges > 0, ranges, 1.0)  # a constant x has its own rule below
    c1, c2 = (k1 * ranges) ** 2, (k2 * ranges) ** 2
    # Less its mean an image keeps float32 exact whatever its offset; equal means of x and y are not assumed.
    x_offset, y_offset = x.double().mean(axes), y.double().mean(axes)
    x_centred = x.double() - x_offset.view(-1, *[1] * (x.ndim - 1))
    y_centred = x_centred if y is x else y.double() - y_offset.view(-1, *[1] * (y.ndim - 1))
    compute = _ssim_compiled if x.device.type == "cpu" else _ssim_torch
    ssim = compute(x_centred, x_offset, y_centred, y_offset, c1, c2, win_size)

    constant = (x_range == 0)[:, None] | (y_range == 0)[None]
    if constant.any():
        first_x, first_y = x.flatten(1)[:, 0], y.flatten(1)[:, 0]
        equal = (x_range == 0)[:, None] & (y_range == 0)[None] & (first_x[:, None] == first_y[None])
        ssim = torch.where(constant, equal.float(), ssim)
    return ssim


def _check(x: Tensor, y: Tensor, win_size: int, data_range: float | None) -> None:
    if x.ndim not in (4, 5) or x.shape[1] != 1 or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"got x {tuple(x.shape)} and y {tuple(y.shape)}, want (N, 1, H, W) and (M, 1, H, W), or both with a depth, "
            "of one size: resize the images or add the channel axis"
        )
    if not (x.is_floating_point() and y.is_floating_point()):
        raise TypeError(f"got {x.dtype} and {y.dtype}, want floating point: call .float() first")
    if x.device != y.device:
        raise ValueError(f"x is on {x.device} and y on {y.device}: move both to one device")
    if win_size % 2 == 0 or not 3 <= win_size <= min(x.shape[2:]):
        raise ValueError(
            f"got win_size={win_size} for images of {tuple(x.shape[2:])}, want an odd number, 3 to the smallest side"
        )
    if data_range is not None and not data_range > 0:
        raise ValueError(f"got data_range={data_range}, want a positive number or None")
    check_finite(x, y)


def check_finite(x: Tensor, y: Tensor) -> None:
    """Refuse images with pixels that are not finite.

    Raises:
        ValueError: which images of which side these are.
    """
    for name, images in (("x", x), ("y", y)):
        finite = images.flatten(1).isfinite().all(1)
        if not finite.all():
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"{name} has NaN or infinite pixels in image {bad[:5]}: repair or leave out these images")


def _ssim_compiled(
    x: Tensor, x_offset: Tensor, y: Tensor, y_offset: Tensor, c1: Tensor, c2: Tensor, win_size: int
) -> Tensor:
    win_planes = win_size if x.ndim == 5 else 1
    x_side = _prepare(x, win_planes, win_size)
    y_side = x_side if y is x else _prepare(y, win_planes, win_size)
    out = torch.empty(len(x), len(y), dtype=torch.float32)
    if out.numel() == 0:
        return out
    x_constants = x_offset.numpy()
    y_constants = y_offset.numpy()

    def fill(first: int, last: int) -> None:
        fill_ssim(  # type: ignore[call-arg]
            *x_side, x_constants, *y_side, y_constants, c1.numpy(), c2.numpy(),
            win_planes, win_size, first, last, out.numpy(),
        )  # fmt: skip

    threads = min(torch.get_num_threads(), len(x))
    if threads == 1:
        fill(0, len(x))
        return out
    # More blocks than threads, so that no thread is idle for long at the end.
    edges = torch.linspace(0, len(x), min(len(x), 4 * threads) + 1).round().int().tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))
    return out


def _prepare(images: Tensor, win_planes: int, win_size: int):
    volume = images.flatten(0, 1).contiguous() if images.ndim == 5 else images.contiguous()
    n, planes, height, width = volume.shape
    mean = torch.empty(n, planes - win_planes + 1, height - win_size + 1, width - win_size + 1)
    var = torch.empty_like(mean)
    window_means(volume.numpy(), win_planes, win_size, mean.numpy(), var.numpy())
    return volume.float().numpy(), mean.numpy(), var.numpy()


def _ssim_torch(
    x: Tensor, x_offset: Tensor, y: Tensor, y_offset: Tensor, c1: Tensor, c2: Tensor, win_size: int
) -> Tensor:
    pool = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    # float64 for the few maps an image, float32 for the pairs, which are many.
    pixels = win_size ** (x.ndim - 2)
    unbias = pixels / (pixels - 1)
    x_mean, y_mean = pool(x, win_size, 1), pool(y, win_size, 1)
    x_var = (unbias * (pool(x * x, win_size, 1) - x_mean**2)).clamp_min(0).float()
    y_var = (unbias * (pool(y * y, win_size, 1) - y_mean**2)).clamp_min(0).float()
    x, y, x_mean, y_mean = x.float(), y.float(), x_mean.float(), y_mean.float()
    ones = [1] * (x.ndim - 1)
    x_off, y_off, c1, c2 = (value.float().view(-1, *ones) for value in (x_offset, y_offset, c1, c2))
    out = torch.empty(len(x), len(y), device=x.device)
    block = max(1, _TORCH_BLOCK_PIXELS // x[0].numel())
    rows_at_once = max(1, block // max(1, len(y)))  # of few images many rows, for a step on a GPU takes its time
    for first_row in range(0, len(x), rows_at_once):
        rows = slice(first_row, first_row + rows_at_once)
        # The second axis is that of y.
        x_part, ux, ux_centred, vx = (maps[rows, None] for maps in (x, x_mean + x_off, x_mean, x_var))
        c1_part, c2_part = c1[rows, None], c2[rows, None]
        for first in range(0, len(y), block):
            part = slice(first, first + block)
            uy = y_mean[part] + y_off[part]
            products = pool((x_part * y[part]).flatten(0, 1), win_size, 1).unflatten(0, (len(ux), -1))
            covariance = unbias * (products - ux_centred * y_mean[part])
            numerator = (2 * ux * uy + c1_part) * (2 * covariance + c2_part)
            denominator = (ux**2 + uy**2 + c1_part) * (vx + y_var[part] + c2_part)
            out[rows, part] = (numerator / denominator).flatten(2).mean(2)
    return out
