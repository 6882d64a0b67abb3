"""Images and volumes of any size brought to the one that an embedder takes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.data.utils import to_affine_nd
from monai.transforms import MapTransform, SpatialPad, Transform
from monai.transforms.utils import scale_affine
from monai.utils import convert_to_dst_type, convert_to_tensor

from monai_deepssim.transforms.pixel_transforms import pixels_of, with_trace_of

__all__ = ["FitImageSize", "FitImageSized", "resize_antialiased"]


# Share of the rows at each end, and of the columns, that are border: more than a line around the image.
_BORDER = 0.04


class FitImageSize(Transform):
    r"""Bring an image or a volume to a size with its aspect kept: scale it until it fits, and pad the rest.

    An image of h x w pixels is scaled by :math:`\min(R / h, C / w)` to fit into :math:`R \times C`, and centred on
    its own background, the median of its border. Scaling is that of :func:`resize_antialiased`. MONAI's
    ``Resize(anti_aliasing=True)`` blurs against zeros outside of the image, so that images that fill their frame, as
    X-rays do, darken at the edges by an amount that depends on the size they came in. An image that has the size
    already is returned as it is. A volume goes the same way along its three axes; its voxels have to be cubes.

    Args:
        image_size: rows and columns, or the three sides of a volume, in pixels.

    Raises:
        ValueError: ``image_size`` is not two or three positive whole numbers.

    Example:
        >>> fitted = FitImageSize((136, 112))(torch.ones(1, 224, 224))
        >>> fitted.shape, int((fitted == 1).sum()) == 136 * 112  # padded with its border, here 1
        (torch.Size([1, 136, 112]), True)
        >>> FitImageSize((32, 32, 32))(torch.ones(1, 60, 70, 50)).shape
        torch.Size([1, 32, 32, 32])
    """

    def __init__(self, image_size: Sequence[int]) -> None:
        size = tuple(image_size) if isinstance(image_size, Sequence) else (image_size,)
        if len(size) not in (2, 3) or not all(isinstance(side, int) and side > 0 for side in size):
            raise ValueError(
                f"got image_size={image_size!r}, want two positive whole numbers, rows and columns, or the three sides "
                "of a volume"
            )
        self.image_size: tuple[int, ...] = size

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Return the image in the size.

        Args:
            img: ``(C, H, W)``, or ``(C, X, Y, Z)`` where the size has three sides.

        Returns:
            ``(C, *image_size)``, float32 unless the size was right already. A MetaTensor keeps its metadata, and its
            affine follows; there is no trace of it to invert.

        Raises:
            ValueError: the image has another number of axes, or no pixels.
        """
        image = convert_to_tensor(img, track_meta=get_track_meta() and isinstance(img, MetaTensor))
        if image.ndim != 1 + len(self.image_size) or 0 in image.shape:
            axes = "(C, H, W)" if len(self.image_size) == 2 else "(C, X, Y, Z)"
            raise ValueError(f"got an image of shape {tuple(image.shape)}, want {axes} with at least one pixel")
        size = tuple(image.shape[1:])
        if size == self.image_size:
            return image
        scale = min(wanted / side for wanted, side in zip(self.image_size, size, strict=True))
        scaled_size = tuple(max(1, round(side * scale)) for side in size)
        scaled = _scale(image, scaled_size) if scaled_size != size else image.to(torch.float32)
        padded = SpatialPad(self.image_size, value=_border_median(image))(scaled)
        return with_trace_of(padded, img) if isinstance(image, MetaTensor) else pixels_of(padded)


def resize_antialiased(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resize an image or a volume by linear interpolation, averaging over what becomes one pixel.

    The triangular antialiasing filter is that of :func:`torch.nn.functional.interpolate`, which knows two axes: of a
    volume the third one follows, since the filter is a product of one per axis.

    Args:
        image: ``(C, H, W)`` or ``(C, X, Y, Z)``, of floating point.
        size: of the result, two or three numbers.

    Returns:
        ``(C, *size)``.

    Example:
        >>> resize_antialiased(torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 4, 4), (4, 4, 2))[0, :, 0, 0]
        tensor([0.7143, 2.5000, 4.5000, 6.2857])
    """
    if image.ndim == 3:
        return F.interpolate(image[None], size=tuple(size), mode="bilinear", antialias=True)[0]
    first, *others = size
    plane = F.interpolate(image.movedim(1, 0), size=tuple(others), mode="bilinear", antialias=True).movedim(0, 1)
    if first == image.shape[1]:
        return plane
    flat = F.interpolate(plane.flatten(2)[None], size=(first, math.prod(others)), mode="bilinear", antialias=True)
    return flat[0].reshape(len(image), *size)


def _border_median(image: torch.Tensor) -> float:
    """Median of the outermost layers along each axis; the minimum would be black around an inverted image."""
    plain = pixels_of(image)
    sides = []
    for axis, length in enumerate(plain.shape[1:], start=1):
        width = min(length, max(2, round(_BORDER * length)))
        sides += [plain.narrow(axis, 0, width), plain.narrow(axis, length - width, width)]
    return float(torch.cat([side.flatten() for side in sides]).median())


def _scale(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    scaled = resize_antialiased(pixels_of(image), size)
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
        image_size: rows and columns, or the three sides of a volume, in pixels.
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
