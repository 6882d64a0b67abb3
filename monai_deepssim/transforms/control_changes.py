"""Graded changes that controls go through: copies of training images that are planted to see how many are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from monai.transforms import Randomizable, Transform
from torch import Tensor

from monai_deepssim.transforms.fit_image_size import FitImageSize
from monai_deepssim.transforms.perturbations import PARTNER_PERTURBATIONS, Perturbation
from monai_deepssim.transforms.pixel_transforms import pixels_of

__all__ = ["CONTROL_CHANGES", "ControlChange"]


@dataclass(frozen=True)
class ControlChange:
    """A change of a training image, and how strong it is.

    Attributes:
        change: what is changed, such as ``blur``.
        make_transform: makes the transform of images ``(1, H, W)`` in [0, 1], from how many of their pixels one pixel
            of the size is wide at which images are compared.
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
        """Change an image at its own size.

        Args:
            image: ``(1, H, W)`` in [0, 1].
            partner: image of another patient, ``(1, H', W')``; brought to the size of the first.
            seed: seed of what is drawn.
            image_size: rows and columns at which images are compared, whose pixels the levels are measured in: an image
                that is four times as large is blurred by four times as many of its own pixels.

        Returns:
            ``(1, H, W)`` in [0, 1], float32.

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
