"""A pair of images beside each other, aligned, and where the two agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from skimage.metrics import structural_similarity
from skimage.segmentation import mark_boundaries
from torch import Tensor

from monai_deepssim.similarity import Alignment, copied_area, deform_onto, standardize
from monai_deepssim.transforms import lay_out_planes

__all__ = ["AGREEMENT_GRADIENT", "draw_agreement", "draw_image", "draw_pair", "picture_size"]

# Okabe and Ito's orange.
_OUTLINE = (0.9, 0.62, 0.0)
# Perceptually uniform, and readable by the colour-blind (Nunez et al., PLOS ONE 13, 2018).
_COLOURS = colormaps["cividis"]
# So much of the colour that the scale is readable, and of the anatomy that its outlines are.
_OPACITY = 0.6
#: The scale of :func:`draw_agreement`, 0 on the left and 1 on the right, as a gradient of CSS.
AGREEMENT_GRADIENT = "linear-gradient(to right, {})".format(
    ", ".join(
        f"rgb({', '.join(f'{255 * (_OPACITY * c + (1 - _OPACITY) * 0.5):.0f}' for c in _COLOURS(x)[:3])})"
        for x in np.linspace(0, 1, 6)
    )
)


def draw_image(image: Tensor, outlined: np.ndarray | None = None) -> Image.Image:
    """Draw an image in grey; of a volume the three middle planes.

    Args:
        image: ``(1, rows, columns)`` in [0, 1], or a volume ``(1, X, Y, Z)``.
        outlined: mask ``(rows, columns)`` of an area to outline.

    Returns:
        A picture of its size.

    Example:
        >>> draw_image(torch.zeros(1, 8, 6)).size
        (6, 8)
    """
    pixels = _plane_of(torch.as_tensor(image))[0].clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    if outlined is None:
        return Image.fromarray(pixels)
    return Image.fromarray((mark_boundaries(pixels, outlined.astype(int), color=_OUTLINE) * 255).astype(np.uint8))


def draw_agreement(first: Tensor, second: Tensor) -> Image.Image:
    """Lay over an image where another one agrees with it: SSIM of the window around each pixel, 0 or below to 1.

    Args:
        first: ``(1, rows, columns)`` in [0, 1], the one that is seen below the colours; or a volume ``(1, X, Y, Z)``,
            of which the three middle planes are drawn.
        second: image of the same shape.

    Returns:
        A picture of their size, in the colours of :data:`AGREEMENT_GRADIENT`.

    Example:
        >>> image = torch.rand(1, 16, 16)
        >>> draw_agreement(image, image).mode
        'RGB'
    """
    one, other = (standardize(image[None].float())[0, 0].numpy() for image in (first, second))
    extent = float(one.max() - one.min()) or 1.0
    _, similarity = structural_similarity(one, other, data_range=extent, full=True)
    grey = torch.as_tensor(first)[0].clamp(0, 1).float().numpy()[..., None]
    mixed = _OPACITY * _COLOURS(np.clip(similarity, 0, 1))[..., :3] + (1 - _OPACITY) * grey
    plane = _plane_of(torch.from_numpy(mixed).movedim(-1, 0)).movedim(0, -1).numpy()
    return Image.fromarray((plane * 255).round().astype(np.uint8))


def picture_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of the picture of an image, or of a volume.

    Example:
        >>> picture_size((136, 112)), picture_size((64, 64, 64))
        ((136, 112), (128, 128))
    """
    rows, columns = _plane_of(torch.zeros(1, *image_size)).shape[1:]
    return rows, columns


def _plane_of(image: Tensor) -> Tensor:
    """An image as it is, and a volume as its three middle planes: ``(C, rows, columns)``."""
    return lay_out_planes(image) if image.ndim == 4 else image


def draw_pair(
    images: Sequence[tuple[str, Tensor | None]], alignment: Alignment | None, *, outline: bool = False
) -> list[tuple[str, Image.Image | None]]:
    """Draw two images beside each other, then the second aligned to the first, and where these two agree.

    Args:
        images: the two, each with its name; ``None`` for a file that has gone since.
        alignment: alignment of the second image to the first; without one only the two images are drawn.
        outline: whether the area where they agree is outlined on the first and on the aligned second.

    Returns:
        Name and picture of each.
    """
    drawn = [(name, None if image is None else draw_image(image)) for name, image in images]
    (_, first), (name, second) = images
    if alignment is None or first is None or second is None:
        return drawn
    aligned = alignment.apply(second)
    if alignment.deformation_pixels:
        aligned = deform_onto(first[None], aligned[None])[0]
    area = None
    if outline:
        _, area = copied_area(first, second, alignment)
        drawn[0] = (images[0][0], draw_image(first, area))
    return [
        *drawn,
        (f"{name}, aligned", draw_image(aligned, area)),
        ("where they agree", draw_agreement(first, aligned)),
    ]
