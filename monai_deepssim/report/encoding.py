"""How pictures are put into a page, so that it can be opened and sent however many there are."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, features

from monai_deepssim.report.html import data_uri
from monai_deepssim.report.pair_pictures import picture_size

__all__ = ["PictureForm", "choose_form"]

# Pixels that a page may hold as they are: PNG takes about 1.1 bytes of each, a third more in HTML, so about 6 MB.
_LOSSLESS_PIXELS = 4_000_000
# Pixels that it may hold at all: WebP of this quality takes about 0.35 bytes of each, so about 21 MB in HTML.
_MOST_PIXELS, _QUALITY = 45_000_000, 88


@dataclass(frozen=True)
class PictureForm:
    """The form of all pictures of a page.

    Attributes:
        kind: ``png``, ``webp`` or ``jpeg``.
        scale: factor of size, at most 1.
    """

    kind: str
    scale: float

    def uri(self, picture: Image.Image) -> str:
        """Put a picture into the text of an ``img`` element.

        Example:
            >>> PictureForm("png", 1.0).uri(Image.new("L", (4, 4)))[:22]
            'data:image/png;base64,'
        """
        if self.scale < 1:
            size = tuple(max(1, round(self.scale * side)) for side in picture.size)
            picture = picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        if self.kind == "png":
            picture.save(buffer, format="PNG", optimize=True)
        else:
            picture.save(buffer, format=self.kind, quality=_QUALITY)
        return data_uri(buffer.getvalue(), self.kind)


def choose_form(num_pictures: int, image_size: Sequence[int]) -> PictureForm:
    """Choose the form in which a number of pictures fits into a page: as they are, compressed, or smaller, too.

    Args:
        num_pictures: number of pictures.
        image_size: rows and columns of each image, or the three sides of volumes.

    Example:
        >>> choose_form(200, (136, 112)), choose_form(2000, (136, 112)).scale, choose_form(2000, (256, 256)).scale < 1
        (PictureForm(kind='png', scale=1.0), 1.0, True)
    """
    pixels = num_pictures * math.prod(picture_size(image_size))
    if pixels <= _LOSSLESS_PIXELS:
        return PictureForm("png", 1.0)
    kind = "webp" if features.check("webp") else "jpeg"
    return PictureForm(kind, min(1.0, (_MOST_PIXELS / pixels) ** 0.5))
