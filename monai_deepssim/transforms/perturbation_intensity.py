"""Changes of an image's intensities, and of what is drawn over them: compression, windows, noise, text, frames."""

from __future__ import annotations

import io

import numpy as np
import torch
from monai.transforms import GaussianSmooth, RandBiasField
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from monai_deepssim.transforms.fit_image_size import resize_antialiased
from monai_deepssim.transforms.pixel_transforms import PixelTransform, find_foreground, pixels_of

__all__ = [
    "JPEGCompression",
    "add_bias_field",
    "add_grain",
    "add_salt",
    "burn_in_text",
    "clip_highest",
    "draw_frame",
    "invert",
    "raise_background",
    "sharpen",
    "window_percentiles",
]


class JPEGCompression(PixelTransform):
    """Write an image as an 8-bit grey JPEG in memory, by Pillow, and read it back.

    Args:
        quality: 1 to 95, as Pillow takes it.

    Raises:
        ValueError: The quality is out of its range.

    Example:
        >>> image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> bool(0.01 < (JPEGCompression(50)(image) - image).abs().mean() < 0.2)
        True
    """

    def __init__(self, quality: int = 50) -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"got quality={quality}, want 1 to 95")
        super().__init__(_compress_as_jpeg, quality=quality)


def _compress_as_jpeg(pixels: Tensor, quality: int) -> Tensor:
    if pixels.shape[0] != 1:
        raise ValueError(f"got an image of shape {tuple(pixels.shape)}, want one grey channel (1, H, W)")
    with io.BytesIO() as file:
        grey = pixels[0].clamp(0, 1).mul(255).round().byte().cpu().numpy()
        Image.fromarray(grey).save(file, format="JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file)))[None].float() / 255


def add_bias_field(pixels: Tensor, random: np.random.RandomState, strength: float) -> Tensor:
    """Multiply an image by a smooth field, as an uneven coil does.

    The field is that of MONAI's ``RandBiasField``, a polynomial of degree 3, scaled so that over the foreground its
    factors run from ``1 - strength`` to ``1 + strength``. The image is then scaled to the maximum that it had.

    Args:
        pixels: ``(1, H, W)`` in [0, 1].
        random: State that the field is drawn from.
        strength: Largest change of an intensity, as a share.

    Returns:
        ``(1, H, W)`` in [0, 1].
    """
    draw = RandBiasField(degree=3, coeff_range=(-1.0, 1.0), prob=1.0)
    draw.set_random_state(state=random)
    field = pixels_of(draw(torch.ones_like(pixels))).log()
    inside = field[find_foreground(pixels)]
    low, high = inside.min(), inside.max()
    scaled = ((field - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * 2 - 1
    changed = pixels * (1 + strength * scaled)
    return changed * (pixels.max() / changed.max().clamp(min=1e-6))


def add_grain(pixels: Tensor, random: np.random.RandomState, std: float, size: float) -> Tensor:
    """Add Gaussian noise whose grains are wider than a pixel, as white noise of a smaller image has them.

    White noise on the pixels of a larger image would average out where that is made smaller.

    Args:
        pixels: ``(1, H, W)``.
        random: State that the noise is drawn from.
        std: Standard deviation where the image is made smaller until a grain is a pixel wide, with antialiasing.
        size: Width of a grain, in pixels; at least 1.

    Returns:
        ``(1, H, W)``, beyond [0, 1].

    Example:
        >>> noise = add_grain(torch.zeros(1, 200, 200), np.random.RandomState(0), std=0.05, size=2)
        >>> small = torch.nn.functional.interpolate(noise[None], (100, 100), mode="bilinear", antialias=True)
        >>> round(float(small.std()), 4)
        0.05
    """
    grid = [max(2, round(side / size)) for side in pixels.shape[1:]]
    noise = torch.from_numpy(random.standard_normal((1, 1, *grid))).to(pixels)
    grain = torch.nn.functional.interpolate(noise, size=tuple(pixels.shape[1:]), mode="nearest-exact")
    seen = resize_antialiased(grain[0], grid)
    return pixels + (std / seen.std()) * grain[0]


def window_percentiles(pixels: Tensor, low: float, high: float) -> Tensor:
    """Map two percentiles of the foreground's intensities to 0 and 1, and clip the rest, as a narrow window does."""
    lower, upper = np.percentile(pixels[find_foreground(pixels)].cpu().numpy(), [low, high])
    return ((pixels - float(lower)) / max(float(upper - lower), 1e-6)).clamp(0, 1)


def clip_highest(pixels: Tensor, percentile: float) -> Tensor:
    """Saturate all intensities above a percentile p of the foreground's: ``min(1, x / p)``."""
    upper = np.percentile(pixels[find_foreground(pixels)].cpu().numpy(), percentile)
    return (pixels / max(float(upper), 1e-6)).clamp(max=1)


def raise_background(pixels: Tensor, level: float) -> Tensor:
    """Lift black to a level: ``level + (1 - level) x``."""
    return level + (1 - level) * pixels


def invert(pixels: Tensor) -> Tensor:
    """Exchange black and white: ``1 - x``."""
    return 1 - pixels


def sharpen(pixels: Tensor, sigma: float, amount: float) -> Tensor:
    """Apply an unsharp mask: ``x + amount (x - blurred x)``.

    Args:
        pixels: ``(1, H, W)``.
        sigma: Standard deviation of the Gaussian blur, as a share of the longer side.
        amount: Factor of what the blur removes.

    Returns:
        ``(1, H, W)``, beyond [0, 1] at edges.
    """
    blurred = GaussianSmooth(sigma * max(pixels.shape[1:]))(pixels)
    return pixels + amount * (pixels - pixels_of(blurred))


def add_salt(pixels: Tensor, random: np.random.RandomState, share: float) -> Tensor:
    """Set a share of the pixels to 0 or 1, each with the same probability."""
    is_hit = torch.from_numpy(random.random_sample(tuple(pixels.shape)) < share).to(pixels.device)
    values = torch.from_numpy(random.randint(0, 2, tuple(pixels.shape))).to(pixels)
    return torch.where(is_hit, values, pixels)


def burn_in_text(pixels: Tensor, random: np.random.RandomState, height: float) -> Tensor:
    """Write white text into two corners, as a viewer's screenshot has it, in Pillow's own font.

    Args:
        pixels: ``(1, H, W)``.
        random: State that the corners and the digits are drawn from.
        height: Size of the font, as a share of the shorter side.

    Returns:
        ``(1, H, W)``.
    """
    rows, columns = pixels.shape[1:]
    canvas = Image.new("L", (columns, rows))
    font = ImageFont.load_default(size=max(6, round(height * min(rows, columns))))
    corners = random.choice(4, size=2, replace=False)
    date = f"{random.randint(2010, 2024)}-{random.randint(1, 13):02d}-{random.randint(1, 29):02d}"
    texts = (f"SE {random.randint(1, 20)} IM {random.randint(1, 200)}", date)
    margin = 0.02 * min(rows, columns)
    for corner, text in zip(corners, texts, strict=True):
        at_bottom, at_right = divmod(int(corner), 2)
        place = (columns - margin if at_right else margin, rows - margin if at_bottom else margin)
        anchor = ("r" if at_right else "l") + ("d" if at_bottom else "a")
        ImageDraw.Draw(canvas).text(place, text, fill=255, font=font, anchor=anchor)
    ink = torch.from_numpy(np.array(canvas)).to(pixels)[None] / 255
    return pixels + ink * (1 - pixels)


def draw_frame(pixels: Tensor, width: float) -> Tensor:
    """Draw a white rectangle along the edges of an image.

    Args:
        pixels: ``(1, H, W)``.
        width: Width of the line and its distance from the edge, as a share of the shorter side.

    Returns:
        ``(1, H, W)``.

    Example:
        >>> draw_frame(torch.zeros(1, 50, 50), 0.02)[0, 25].nonzero().flatten()
        tensor([ 1, 48])
    """
    line = max(1, round(width * min(pixels.shape[1:])))
    framed = pixels.clone()
    framed[:, line:-line, line:-line] = 1
    inside = slice(2 * line, -2 * line)
    framed[:, inside, inside] = pixels[:, inside, inside]
    return framed
