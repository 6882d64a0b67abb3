"""Images of any size brought to the one that an embedder takes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform, SpatialPad, Transform
from monai.transforms.utils import scale_affine
from monai.utils import convert_to_dst_type, convert_to_tensor

from monai_deepssim.transforms.pixel_transforms import pixels_of, with_trace_of

__all__ = ["FitImageSize", "FitImageSized"]


# Share of the rows at each end, and of the columns, that are border: more than a line around the image.
_BORDER = 0.04


class FitImageSize(Transform):
    r"""Bring an image to a size with its aspect kept: scale it until it fits, and pad the rest.

    An image of h x w pixels is scaled by :math:`\min(R / h, C / w)` to fit into :math:`R \times C`, and centred on
    its own background, the median of its border. Scaling is bilinear with the triangular antialiasing filter of
    :func:`torch.nn.functional.interpolate`. MONAI's ``Resize(anti_aliasing=True)`` blurs against zeros outside of the
    image, so that images that fill their frame, as X-rays do, darken at the edges by an amount that depends on the size
    they came in. An image that has the size already is returned as it is.

    Args:
        image_size: rows and columns, in pixels.

    Raises:
        ValueError: ``image_size`` is not two positive whole numbers.

    Example:
        >>> fitted = FitImageSize((136, 112))(torch.ones(1, 224, 224))
        >>> fitted.shape, int((fitted == 1).sum()) == 136 * 112  # padded with its border, here 1
        (torch.Size([1, 136, 112]), True)
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size,)
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(f"got image_size={image_size!r}, want two positive whole numbers, rows and columns")
        self.image_size: tuple[int, int] = (size[0], size[1])

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Return the image in the size.

        Args:
            img: ``(C, H, W)``.

        Returns:
            ``(C, *image_size)``, float32 unless the size was right already. A MetaTensor keeps its metadata, and its
            affine follows; there is no trace of it to invert.

        Raises:
            ValueError: the image is not ``(C, H, W)``, or has no pixels.
        """
        image = convert_to_tensor(img, track_meta=get_track_meta() and isinstance(img, MetaTensor))
        if image.ndim != 3 or 0 in image.shape:
            raise ValueError(f"got an image of shape {tuple(image.shape)}, want (C, H, W) with at least one pixel")
        if tuple(image.shape[1:]) == self.image_size:
            return image
        rows, columns = image.shape[1:]
        scale = min(self.image_size[0] / rows, self.image_size[1] / columns)
        scaled_size = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        scaled = _scale(image, scaled_size) if scaled_size != (rows, columns) else image.to(torch.float32)
        padded = SpatialPad(self.image_size, value=_border_median(image))(scaled)
        return with_trace_of(padded, img) if isinstance(image, MetaTensor) else pixels_of(padded)


def _border_median(image: torch.Tensor) -> float:
    """Median of the outermost rows and columns; the minimum would be black around an inverted image."""
    plain = pixels_of(image)
    top, left = (max(2, round(_BORDER * side)) for side in plain.shape[1:])
    sides = [plain[:, :top], plain[:, -top:], plain[:, :, :left], plain[:, :, -left:]]
    return float(torch.cat([side.flatten() for side in sides]).median())


def _scale(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    scaled = torch.nn.functional.interpolate(pixels_of(image)[None], size=size, mode="bilinear", antialias=True)[0]
    if not isinstance(image, MetaTensor):
        return scaled
    tracked, *_ = convert_to_dst_type(scaled, image, dtype=torch.float32)
    change = to_affine_nd(len(image.affine) - 1, scale_affine(image.shape[1:], size))
    tracked.affine = image.affine @ torch.as_tensor(change, dtype=image.affine.dtype)
    return tracked


class FitImageSized(MapTransform):
    """Dictionary version of :class:`FitImageSize`.

    Args:
        keys: keys of the images.
        image_size: rows and columns, in pixels.
        allow_missing_keys: pass items without a key.

    Example:
        >>> fitted = FitImageSized("image", (136, 112))({"image": torch.rand(1, 64, 64)})
        >>> fitted["image"].shape
        torch.Size([1, 136, 112])
    """

    def __init__(self, keys: KeysCollection, image_size: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fit = FitImageSize(image_size)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Return the dictionary with its images in the size."""
        fitted = dict(data)
        for key in self.key_iterator(fitted):
            fitted[key] = self.fit(fitted[key])
        return fitted
