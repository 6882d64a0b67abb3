"""Changes that a copy may have gone through and still be a copy, by name, for benchmarks of copy detectors."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import (
    AdjustContrast,
    Affine,
    Compose,
    Flip,
    GaussianSmooth,
    Identity,
    MapTransform,
    OneOf,
    RandGaussianNoise,
    Randomizable,
    RandScaleIntensity,
    Transform,
)
from monai.utils import convert_to_tensor
from PIL import Image
from torch import Tensor

from .structure_preserving import RandStructurePreserving

__all__ = ["SUPPORTED_PERTURBATIONS", "JPEGCompression", "Perturbation", "Perturbationd", "RandCropResize", "RandWarp"]


class RandWarp(Randomizable, Transform):
    """Displace the pixels of an image by a smooth random field, as another reconstruction of the same head might.

    The field is bicubic through white noise on a grid of ``scale_pixels``; bilinear, zeros from outside.

    Args:
        displacement_pixels: standard deviation of the displacement along each axis.
        scale_pixels: distance of the grid's points.

    Raises:
        ValueError: when a number is not above 0.

    Example:
        >>> image = torch.zeros(1, 64, 64)
        >>> image[:, 20:40, 20:40] = 1
        >>> warped = RandWarp().set_random_state(0)(image)
        >>> warped.shape, bool((warped - image).abs().max() > 0.5), bool((warped - image).abs().mean() < 0.05)
        (torch.Size([1, 64, 64]), True, True)
    """

    def __init__(self, displacement_pixels: float = 1.5, scale_pixels: int = 20) -> None:
        if displacement_pixels <= 0 or scale_pixels < 1:
            raise ValueError(f"got {displacement_pixels} and {scale_pixels} pixels, want a displacement and a scale")
        self.displacement_pixels = displacement_pixels
        self.scale_pixels = scale_pixels
        self._field = torch.empty(0)

    def randomize(self, data: Tensor) -> None:
        """Draw the displacement in pixels ``(1, 2, H, W)``, rows first, for the image ``data``."""
        rows, columns = data.shape[1:]
        coarse = self.R.standard_normal((1, 2, max(2, rows // self.scale_pixels), max(2, columns // self.scale_pixels)))
        field = F.interpolate(torch.from_numpy(coarse).float(), size=(rows, columns), mode="bicubic")
        self._field = self.displacement_pixels * field / field.std()

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Warp one image ``(C, H, W)``."""
        image = _as_image(img)
        self.randomize(image)
        plain = convert_to_tensor(image, track_meta=False, dtype=torch.float32)[None]
        rows, columns = plain.shape[2:]
        grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, rows, columns], align_corners=False)
        # grid_sample counts columns first, and the whole image as 2.
        grid = grid + self._field.flip(1).permute(0, 2, 3, 1) * torch.tensor([2 / columns, 2 / rows])
        warped = image.clone()
        warped[:] = F.grid_sample(plain, grid.to(plain), align_corners=False)[0]
        return warped


class RandCropResize(Randomizable, Transform):
    """Cut a window at a random place out of an image, and scale it to the image's size.

    Args:
        crop: share of the rows and of the columns that is lost, at least 0 and below 1.

    Raises:
        ValueError: when ``crop`` is out of its range.

    Example:
        >>> image = torch.arange(100.0).view(1, 1, 100).expand(1, 100, 100)
        >>> cropped = RandCropResize(0.05).set_random_state(0)(image)
        >>> cropped.shape, round(float(cropped.max() - cropped.min()))
        (torch.Size([1, 100, 100]), 94)
    """

    def __init__(self, crop: float = 0.05) -> None:
        if not 0 <= crop < 1:
            raise ValueError(f"got crop={crop}, want a share from 0 to below 1")
        self.crop = crop
        self._corner = (0.0, 0.0)

    def randomize(self, data: Any = None) -> None:
        """Draw where the window lies, as shares of what is lost."""
        self._corner = (self.R.random(), self.R.random())

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Crop one image ``(C, H, W)``."""
        image = _as_image(img)
        self.randomize()
        sizes = [max(1, round(side * (1 - self.crop))) for side in image.shape[1:]]
        places = zip(self._corner, image.shape[1:], sizes, strict=True)
        starts = [round(share * (side - size)) for share, side, size in places]
        window = image[:, starts[0] : starts[0] + sizes[0], starts[1] : starts[1] + sizes[1]]
        plain = convert_to_tensor(window, track_meta=False, dtype=torch.float32)[None]
        resized = image.clone()
        resized[:] = F.interpolate(plain, size=tuple(image.shape[1:]), mode="bilinear", align_corners=False)[0]
        return resized


class JPEGCompression(Transform):
    """Write an image as an 8-bit grey JPEG in memory, by Pillow, and read it back.

    Args:
        quality: 1 to 95, as Pillow takes it.

    Raises:
        ValueError: when the quality is out of its range.

    Example:
        >>> image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> bool(0.01 < (JPEGCompression(50)(image) - image).abs().mean() < 0.2)
        True
    """

    def __init__(self, quality: int = 50) -> None:
        if not 1 <= quality <= 95:
            raise ValueError(f"got quality={quality}, want 1 to 95")
        self.quality = quality

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Compress one image ``(1, H, W)`` in [0, 1]."""
        image = _as_image(img)
        if image.shape[0] != 1:
            raise ValueError(f"got an image of shape {tuple(image.shape)}, want one grey channel (1, H, W)")
        pixels = convert_to_tensor(image, track_meta=False)[0].clamp(0, 1).mul(255).round().byte().cpu().numpy()
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, format="JPEG", quality=self.quality)
            decoded = np.array(Image.open(file))
        compressed = image.clone()
        compressed[:] = torch.from_numpy(decoded).to(compressed) / 255
        return compressed


def _affine(**parameters: Any) -> Affine:
    return Affine(**parameters, padding_mode="zeros", image_only=True)


def _rotation(degrees: float) -> Transform:
    return OneOf([_affine(rotate_params=float(np.deg2rad(angle))) for angle in (-degrees, degrees)])


def _shift(pixels: float) -> Transform:
    signs = (-pixels, pixels)
    return OneOf([_affine(translate_params=[rows, columns]) for rows in signs for columns in signs])


def _zoom(share: float) -> Transform:
    # Affine maps output positions to input positions: its scale is one over the zoom.
    return OneOf([_affine(scale_params=[1 / zoom] * 2) for zoom in (1 - share, 1 + share)])


def _noise(std: float) -> Transform:
    return RandGaussianNoise(prob=1.0, std=std, sample_std=False)


_FACTORIES: dict[str, Callable[[], Transform]] = {
    "none": Identity,
    "noise_0.01": lambda: _noise(0.01),
    "noise_0.02": lambda: _noise(0.02),
    "rotation_3": lambda: _rotation(3),
    "rotation_5": lambda: _rotation(5),
    "rotation_10": lambda: _rotation(10),
    "flip_horizontal": lambda: Flip(spatial_axis=1),
    "flip_vertical": lambda: Flip(spatial_axis=0),
    "intensity": lambda: RandScaleIntensity(factors=0.1, prob=1.0),
    "gamma_0.5": lambda: AdjustContrast(0.5),
    "gamma_1.5": lambda: AdjustContrast(1.5),
    "mix": lambda: RandStructurePreserving(prob=0.8, rotation_radians=0.1745),
    "shift_3": lambda: _shift(3),
    "zoom_5": lambda: _zoom(0.05),
    "crop_5": lambda: RandCropResize(0.05),
    "blur": lambda: GaussianSmooth(sigma=1.0),
    "warp": RandWarp,
    "jpeg_50": lambda: JPEGCompression(50),
}

#: Names that :class:`Perturbation` takes.
SUPPORTED_PERTURBATIONS: tuple[str, ...] = tuple(_FACTORIES)


class Perturbation(Randomizable, Transform):
    """One of the benchmark's changes of a copy, by its name; what it draws follows from its seed alone.

    =====================  =============================================================================================
    name                   change
    =====================  =============================================================================================
    ``none``               none
    ``noise_0.01``,        Gaussian noise of that standard deviation
    ``noise_0.02``
    ``rotation_3``,        rotation by so many degrees, in either direction, zeros from outside
    ``rotation_5``,
    ``rotation_10``
    ``flip_horizontal``    left and right exchanged
    ``flip_vertical``      top and bottom exchanged
    ``intensity``          all pixels times a factor from 0.9 to 1.1
    ``gamma_0.5``,         gamma contrast, ``((x - min) / range) ** gamma * range + min``
    ``gamma_1.5``
    ``mix``                DeepSSIM's published robustness test: flip of each axis, rotation by up to 0.1745 rad and
                           gamma from 0.5 to 1.5, each with probability 0.8
    ``shift_3``            3 pixels up or down and 3 pixels to the left or right, zeros from outside
    ``zoom_5``             95 % or 105 % of the size
    ``crop_5``             a window of 95 % of the rows and columns, at a random place, resized
    ``blur``               Gaussian blur of 1 pixel
    ``warp``               smooth displacement of 1.5 pixels (standard deviation), bumps of about 20 pixels
    ``jpeg_50``            JPEG of quality 50
    =====================  =============================================================================================

    What leaves [0, 1] is cut off, as in a file.

    Args:
        name: one of :data:`SUPPORTED_PERTURBATIONS`.

    Raises:
        ValueError: when the name is none of these.

    References:
        Noise, rotations of 3 and 5 degrees, flips and intensity: Deo et al., arXiv 2602.13066. ``mix``: Scardace et
        al., arXiv 2509.16582.

    Example:
        >>> image = torch.rand(1, 64, 64)
        >>> first = Perturbation("mix").set_random_state(seed=7)(image)
        >>> bool(torch.equal(first, Perturbation("mix").set_random_state(seed=7)(image)))
        True
    """

    def __init__(self, name: str) -> None:
        if name not in _FACTORIES:
            raise ValueError(f"got perturbation {name!r}, want one of {', '.join(SUPPORTED_PERTURBATIONS)}")
        self.name = name
        self.change = Compose([_FACTORIES[name]()])

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Perturbation:
        super().set_random_state(seed, state)
        self.change.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing: each change draws for itself."""

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Change one image.

        Args:
            img: ``(1, H, W)`` in [0, 1].

        Returns:
            The same shape, float32 in [0, 1]; a MetaTensor keeps its metadata.
        """
        return self.change(_as_image(img)).clamp(0, 1)


class Perturbationd(Randomizable, MapTransform):
    """Dictionary version of :class:`Perturbation`; each of the keys is changed on its own.

    Args:
        keys: of the images to change.
        name: one of :data:`SUPPORTED_PERTURBATIONS`.
        allow_missing_keys: whether a key may be missing.

    Example:
        >>> item = {"synthetic": torch.rand(1, 64, 64), "label": 1}
        >>> changed = Perturbationd("synthetic", "flip_horizontal")(item)
        >>> bool(torch.equal(changed["synthetic"], item["synthetic"].flip(2))), changed["label"]
        (True, 1)
    """

    def __init__(self, keys: KeysCollection, name: str, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.perturbation = Perturbation(name)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Perturbationd:
        super().set_random_state(seed, state)
        self.perturbation.set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing: the perturbation draws for itself."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images changed."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.perturbation(item[key])
        return item


def _as_image(img: NdarrayOrTensor) -> Tensor:
    image = convert_to_tensor(img, track_meta=get_track_meta(), dtype=torch.float32)
    if image.ndim != 3:
        raise ValueError(f"got an image of shape {tuple(image.shape)}, want (1, H, W)")
    return image
