"""Changes that a copy may have gone through and still be a copy, by name, for benchmarks of copy detectors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import Compose, MapTransform, Transform
from torch import Tensor

from monai_deepssim.transforms.perturbation_table import FACTORIES, PARTNER_FACTORIES, PIXEL_FACTORIES
from monai_deepssim.transforms.pixel_transforms import RandWrapper, as_image, with_trace_of

__all__ = ["PARTNER_PERTURBATIONS", "PART_PERTURBATIONS", "SUPPORTED_PERTURBATIONS", "Perturbation", "Perturbationd"]

#: Names that :class:`Perturbation` takes.
SUPPORTED_PERTURBATIONS: tuple[str, ...] = (*FACTORIES, *PIXEL_FACTORIES, *PARTNER_FACTORIES)
#: Those that need the image of another patient, the partner.
PARTNER_PERTURBATIONS: tuple[str, ...] = tuple(PARTNER_FACTORIES)
#: Those after which a part of the image is not the image's own any more.
PART_PERTURBATIONS: tuple[str, ...] = ("square_15_percent", *PARTNER_PERTURBATIONS)


class Perturbation(RandWrapper, Transform):
    """One of the benchmark's changes of a copy, by its name; what it draws follows from its seed alone.

    The image keeps its size. Zeros come in from outside. Intensities that leave [0, 1] are clipped, as in a file.

    ================================  ==================================================================================
    name                              change
    ================================  ==================================================================================
    ``none``                          none
    ``noise_0.01``, ``noise_0.02``,   Gaussian noise of that standard deviation
    ``noise_0.05``
    ``rotation_3`` to                 rotation by 3, 5, 10, 15 or 45 degrees, in either direction
    ``rotation_45``
    ``rotation_any``                  rotation by 0 to 360 degrees
    ``flip_horizontal``               left and right exchanged
    ``flip_vertical``                 top and bottom exchanged
    ``transpose``                     rows and columns exchanged; scaled to fit where the image is not square
    ``quarter_turn``, ``half_turn``   turned by 90 or 270 degrees, likewise scaled to fit; by 180 degrees
    ``intensity``                     all pixels times a factor from 0.9 to 1.1
    ``gamma_0.5``, ``gamma_0.67``,    gamma contrast, ``((x - min) / range) ** gamma * range + min``
    ``gamma_1.5``, ``gamma_2``
    ``mix``                           DeepSSIM's published robustness test: flip of each axis, rotation by up to
                                      0.1745 rad and gamma from 0.5 to 1.5, each with probability 0.8
    ``shift_3``, ``shift_5_percent``  3 pixels, 5 % or 10 % of the side, along both axes, in either direction
    ``shift_10_percent``
    ``zoom_5``                        95 % or 105 % of the size
    ``zoom_0.7`` to ``zoom_1.4``      0.7, 0.9, 1.1 or 1.4 times the size, on the same canvas
    ``anisotropic_zoom_10_percent``   one axis 1.1 times as long, or shorter by that factor
    ``crop_5``, ``crop_10_percent``,  a window of 95, 90 or 80 % of the rows and columns, at a random place, resized
    ``crop_20_percent``
    ``border_20_percent``             shrunk to 80 %, with a black border of 10 % of the side on each side
    ``blur``, ``blur_1.5``,           Gaussian blur with a standard deviation of 1, 1.5, 2 or 3 pixels
    ``blur_2``, ``blur_3``
    ``blur_2_noise``                  blur of 2 pixels, then noise of 0.01
    ``half_resolution``               scaled to half the size and back, bilinear
    ``resampled``                     scaled to 80 % of the size and back, bicubic
    ``bias_field``                    smooth field with factors from 0.65 to 1.35 over the foreground
    ``window_20_80``                  window from the 20th to the 80th percentile of the foreground
    ``saturation``                    highest 15 % of the foreground's pixels saturated: ``min(1, x / q85)``
    ``raised_background``             ``0.15 + 0.85 x``
    ``inverted``                      ``1 - x``
    ``sharpen``                       unsharp mask of 1 % of the longer side, amount 1.5
    ``salt``                          1 % of the pixels set to 0 or 1
    ``text``                          white text in two corners, 6 % of the shorter side high
    ``frame``                         white rectangle near the edge, 2 % of the shorter side wide
    ``warp``                          smooth displacement of 1.5 pixels (standard deviation), bumps of about 20 pixels
    ``warp_1_percent``,               smooth displacement of 1 or 2 % of the longer side, bumps of about 15 % of it
    ``warp_2_percent``
    ``jpeg_30``, ``jpeg_50``          JPEG of that quality
    ``two_at_once``                   two out of: zoom of 0.7 to 1.4, crop or border of 5 to 20 %, ``warp_1_percent``,
                                      ``anisotropic_zoom_10_percent``, ``window_20_80``, ``text``, ``frame``,
                                      ``raised_background``, ``sharpen``, ``inverted``
    ``square_15_percent``             a square of 15 % of the foreground's bounding box, blacked out
    ``half_replaced``                 the left, right, upper or lower half replaced by the partner's
    ``quarter_pasted``                a rectangle of a quarter of the foreground's bounding box, off its centre, pasted
                                      into the partner
    ``average_of_two``                ``0.5 x + 0.5 partner``
    ``blend_30_percent``              ``0.7 x + 0.3 partner``
    ================================  ==================================================================================

    Args:
        name: One of :data:`SUPPORTED_PERTURBATIONS`.
        pixel_size: How many of the image's pixels one pixel of noise, blur and resolution is wide: above 1 where the
            image is larger than the size that these are measured at.

    Raises:
        ValueError: The name is not one of these.

    References:
        Noise, rotations of 3 and 5 degrees, flips and intensity: Deo et al., arXiv 2602.13066. ``mix``: Scardace et
        al., arXiv 2509.16582.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 64, 64)
        >>> first = Perturbation("mix").set_random_state(seed=7)(image)
        >>> bool(torch.equal(first, Perturbation("mix").set_random_state(seed=7)(image)))
        True
        >>> Perturbation("average_of_two")(torch.ones(1, 1, 2), partner=torch.zeros(1, 1, 2)).tolist()
        [[[0.5, 0.5]]]
    """

    def __init__(self, name: str, pixel_size: float = 1.0) -> None:
        if name not in SUPPORTED_PERTURBATIONS:
            raise ValueError(f"got perturbation {name!r}, want one of {', '.join(SUPPORTED_PERTURBATIONS)}")
        self.name = name
        if name in PARTNER_FACTORIES:
            self.wrapped = PARTNER_FACTORIES[name]()
        else:
            made = PIXEL_FACTORIES[name](pixel_size) if name in PIXEL_FACTORIES else FACTORIES[name]()
            self.wrapped = Compose([made])

    def __call__(self, img: NdarrayOrTensor, partner: NdarrayOrTensor | None = None) -> Tensor:
        """Change one image.

        Args:
            img: ``(1, H, W)`` in [0, 1].
            partner: Image of another patient, of the same shape, for those of :data:`PARTNER_PERTURBATIONS`.

        Returns:
            The same shape, float32 in [0, 1]. A MetaTensor keeps its metadata; there is no trace to invert.

        Raises:
            ValueError: The image or the partner has another shape, or a partner is needed and was not given.
        """
        images = [as_image(img)]
        if self.name in PARTNER_PERTURBATIONS:
            if partner is None:
                raise ValueError(f"got no partner for {self.name!r}, want an image of another patient: give partner=")
            images.append(as_image(partner))
        return with_trace_of(self.wrapped(*images).clamp(0, 1), img)  # type: ignore[operator]


class Perturbationd(RandWrapper, MapTransform):
    """Dictionary version of :class:`Perturbation`; each of the keys is changed on its own.

    Args:
        keys: Keys of the images to change.
        name: One of :data:`SUPPORTED_PERTURBATIONS`.
        allow_missing_keys: Whether a key may be missing.
        partner_key: Key of the image of another patient, which only some perturbations need.

    Example:
        >>> import torch
        >>> item = {"synthetic": torch.rand(1, 64, 64), "label": 1}
        >>> changed = Perturbationd("synthetic", "flip_horizontal")(item)
        >>> bool(torch.equal(changed["synthetic"], item["synthetic"].flip(2))), changed["label"]
        (True, 1)
    """

    def __init__(
        self, keys: KeysCollection, name: str, allow_missing_keys: bool = False, partner_key: str = "partner"
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.wrapped: Perturbation = Perturbation(name)
        self.partner_key = partner_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images changed."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.wrapped(item[key], item.get(self.partner_key))
        return item
