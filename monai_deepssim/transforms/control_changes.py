"""Graded changes that controls go through: copies of training images that are planted to see how many are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from monai.transforms import Compose, Flip, OneOf, Randomizable, Rotate, Transform
from torch import Tensor

from monai_deepssim.transforms.fit_image_size import FitImageSize, resize_antialiased
from monai_deepssim.transforms.perturbation_geometry import thin_out
from monai_deepssim.transforms.perturbations import PARTNER_PERTURBATIONS, Perturbation
from monai_deepssim.transforms.pixel_transforms import RandPixelTransform, pixels_of

__all__ = ["CONTROL_CHANGES", "VOLUME_CONTROL_CHANGES", "ControlChange"]


@dataclass(frozen=True)
class ControlChange:
    """A change of a training image, and how strong it is.

    Attributes:
        change: what is changed, such as ``blur``.
        make_transform: makes the transform of images ``(1, H, W)`` or volumes ``(1, X, Y, Z)`` in [0, 1], from how
            many of their pixels one pixel of the size is wide at which images are compared.
        level: strength, in ``unit``; ``None`` where there is one strength only.
        unit: ``px`` for pixels of an image at the size at which images are compared, ``%`` for a share of a side,
            ``degrees``; empty for a number without a unit.
        needs_partner: whether the transform takes an image of another patient beside the first.

    Example:
        >>> blur = next(change for change in CONTROL_CHANGES if change.name == "blur_2")
        >>> blur.change, blur.level, blur.unit
        ('blur', 2.0, 'px')
    """

    change: str
    make_transform: Callable[[float], Transform]
    level: float | None = None
    unit: str = ""
    needs_partner: bool = False

    @property
    def name(self) -> str:
        """The change with its level, such as ``blur_2``."""
        return self.change if self.level is None else f"{self.change}_{self.level:g}"

    def apply(self, image: Tensor, partner: Tensor | None, *, seed: int, image_size: Sequence[int]) -> Tensor:
        """Change an image at its own size; a volume at the size at which volumes are compared, if its own is larger.

        Args:
            image: ``(1, H, W)`` or ``(1, X, Y, Z)`` in [0, 1].
            partner: image of another patient, likewise; brought to the size of the first.
            seed: seed of what is drawn.
            image_size: sides at which images are compared, whose pixels the levels are measured in: an image that is
                four times as large is blurred by four times as many of its own pixels.

        Returns:
            The changed image in [0, 1], float32.

        Raises:
            ValueError: a partner is needed and there is none.

        Example:
            >>> import torch
            >>> change = next(change for change in CONTROL_CHANGES if change.name == "mix_0.5")
            >>> mixed = change.apply(torch.zeros(1, 64, 64), torch.ones(1, 90, 90), seed=1, image_size=(64, 64))
            >>> mixed.shape, float(mixed.mean())
            (torch.Size([1, 64, 64]), 0.5)
        """
        pixel_size = max(side / compared for side, compared in zip(image.shape[1:], image_size, strict=True))
        if image.ndim == 4 and pixel_size > 1:
            # To blur 256 x 256 x 256 voxels takes a minute, and they are compared at 64 x 64 x 64.
            image = resize_antialiased(image, [max(1, round(side / pixel_size)) for side in image.shape[1:]])
            pixel_size = 1.0
        transform = self.make_transform(pixel_size)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed)
        images = [image]
        if self.needs_partner:
            if partner is None:
                raise ValueError(f"got no partner for {self.name}, want an image of another patient")
            images.append(FitImageSize(tuple(image.shape[1:]))(partner))
        return pixels_of(transform(*images)).clamp(0, 1)


def _perturbation(change: str, name: str, level: float | None = None, unit: str = "") -> ControlChange:
    make = partial(Perturbation, name)
    return ControlChange(change, make, level, unit, needs_partner=name in PARTNER_PERTURBATIONS)


def _flip(axis: int, pixel_size: float) -> Transform:
    return Flip(spatial_axis=axis)


def _rotation(axis: int, degrees: float, pixel_size: float) -> Transform:
    """Rotate a volume about one axis, in either direction; linear, zeros from outside."""
    angles = [[sign * np.deg2rad(degrees) * (axis == other) for other in range(3)] for sign in (-1, 1)]
    return Compose([OneOf([Rotate(angle, padding_mode="zeros") for angle in angles])])


def _thinned(step: int, pixel_size: float) -> Transform:
    return RandPixelTransform(thin_out, step=step)


#: The changes of an audit's controls: few, since each costs as much as its images. Flips, quarter turns and inverted
#: contrast are not among them: the comparison is invariant to these.
CONTROL_CHANGES: tuple[ControlChange, ...] = (
    _perturbation("none", "none"),
    _perturbation("blur", "blur", 1.0, "px"),
    _perturbation("blur", "blur_2", 2.0, "px"),
    _perturbation("blur", "blur_3", 3.0, "px"),
    _perturbation("noise", "noise_0.02", 0.02),
    _perturbation("noise", "noise_0.05", 0.05),
    _perturbation("gamma", "gamma_0.5", 0.5),
    _perturbation("gamma", "gamma_1.5", 1.5),
    _perturbation("rotation", "rotation_5", 5.0, "degrees"),
    _perturbation("rotation", "rotation_15", 15.0, "degrees"),
    _perturbation("shift", "shift_10_percent", 10.0, "%"),
    _perturbation("zoom", "zoom_0.9", 0.9),
    _perturbation("zoom", "zoom_1.1", 1.1),
    _perturbation("crop", "crop_10_percent", 10.0, "%"),
    _perturbation("crop", "crop_20_percent", 20.0, "%"),
    _perturbation("warp", "warp_1_percent", 1.0, "%"),
    _perturbation("warp", "warp_2_percent", 2.0, "%"),
    _perturbation("bias_field", "bias_field"),
    _perturbation("mix", "blend_30_percent", 0.3),
    _perturbation("mix", "average_of_two", 0.5),
    _perturbation("half_resolution", "half_resolution"),
)

#: The changes of an audit's controls where volumes are compared; the axes x, y and z run to the right, front and head.
VOLUME_CONTROL_CHANGES: tuple[ControlChange, ...] = (
    *(change for change in CONTROL_CHANGES if change.name in ("none", "blur_1", "blur_2", "noise_0.02")),
    *(change for change in CONTROL_CHANGES if change.change in ("gamma", "zoom")),
    *(ControlChange(f"flip_{letter}", partial(_flip, axis)) for axis, letter in enumerate("xyz")),
    *(
        ControlChange(f"rotation_{letter}", partial(_rotation, axis, 10.0), 10.0, "degrees")
        for axis, letter in enumerate("xyz")
    ),
    _perturbation("shift", "shift_5_percent", 5.0, "%"),
    ControlChange("slices", partial(_thinned, 2), 2.0),
    *(change for change in CONTROL_CHANGES if change.name in ("crop_10", "warp_1", "bias_field", "mix_0.3")),
    *(change for change in CONTROL_CHANGES if change.name == "half_resolution"),
)
