"""Random changes that leave the anatomy what it is: flips, rotation, contrast, and on request shift and zoom."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import AdjustContrast, Affine, Flip, MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor
from torch import Tensor

from monai_deepssim.transforms.pixel_transforms import RandWrapper, with_trace_of

__all__ = ["RandStructurePreserving", "RandStructurePreservingd"]


class RandStructurePreserving(RandomizableTransform):
    """Flip, rotate and change the contrast of an image, each with its own probability, as DeepSSIM was trained.

    In this order: a flip of each spatial axis, one resampling with the rotation, shift and zoom that
    were drawn (bilinear, zeros from outside), and gamma contrast ``((x - min) / range) ** gamma * range + min``. The
    defaults are the published training values; ``prob=0.8`` is the published robustness test. Shift and zoom are not
    part of either and are off until given.

    Args:
        prob: probability of each of the changes, 0 to 1.
        rotation_radians: largest angle, in either direction; in 3-D about each of the axes.
        gamma: smallest and largest exponent.
        shift_pixels: largest shift along each axis in pixels, in either direction; 0 is off.
        zoom: largest change of size: 0.05 draws factors from 0.95 to 1.05; 0 is off.
        flip_prob: probability of each flip where it is not to be ``prob``.
        rotation_prob: the same for the rotation.
        gamma_prob: the same for the contrast change.
        shift_prob: the same for the shift.
        zoom_prob: the same for the zoom.

    Raises:
        ValueError: when a probability is not within 0 to 1 or a range is negative.

    References:
        Scardace et al., A Novel Metric for Detecting Memorization in Generative Models for Brain MRI Synthesis,
        arXiv 2509.16582.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 64, 64)
        >>> change = RandStructurePreserving(prob=0.8).set_random_state(seed=0)
        >>> changed = change(image)
        >>> changed.shape, bool(torch.equal(changed, image))
        (torch.Size([1, 64, 64]), False)
    """

    backend = Affine.backend

    def __init__(
        self,
        prob: float = 0.33,
        *,
        rotation_radians: float = 0.17,
        gamma: Sequence[float] = (0.5, 1.5),
        shift_pixels: float = 0.0,
        zoom: float = 0.0,
        flip_prob: float | None = None,
        rotation_prob: float | None = None,
        gamma_prob: float | None = None,
        shift_prob: float | None = None,
        zoom_prob: float | None = None,
    ) -> None:
        super().__init__(prob=1.0)
        probs = {"flip": flip_prob, "rotation": rotation_prob, "gamma": gamma_prob, "shift": shift_prob}
        probs["zoom"] = zoom_prob
        self.probs = {change: prob if value is None else value for change, value in probs.items()}
        wrong = {change: value for change, value in self.probs.items() if not 0 <= value <= 1}
        if wrong:
            raise ValueError(f"got probabilities {wrong}, want 0 to 1")
        if rotation_radians < 0 or shift_pixels < 0 or not 0 <= zoom < 1 or not 0 < min(gamma) <= max(gamma):
            raise ValueError(
                f"got rotation_radians={rotation_radians}, shift_pixels={shift_pixels}, zoom={zoom}, gamma={gamma}, "
                "want ranges of at least 0, zoom below 1 and a gamma above 0"
            )
        self.rotation_radians = rotation_radians
        self.gamma = (min(gamma), max(gamma))
        self.shift_pixels = shift_pixels
        self.zoom = zoom
        self._flips: list[int] = []
        self._rotation: list[float] = []
        self._shift: list[float] = []
        self._zoom = 1.0
        self._gamma = 1.0

    def randomize(self, data: int) -> None:
        """Draw the changes for an image of ``data`` spatial axes."""
        super().randomize(None)
        self._flips = [axis for axis in range(data) if self.R.random() < self.probs["flip"]]
        # Every number is drawn whether it is used or not: another probability changes which, not the ones after it.
        angles = self.R.uniform(-self.rotation_radians, self.rotation_radians, 1 if data == 2 else 3)
        self._rotation = list(angles * (self.R.random() < self.probs["rotation"]))
        shift = self.R.uniform(-self.shift_pixels, self.shift_pixels, data)
        self._shift = list(shift * (self.R.random() < self.probs["shift"]))
        zoom = self.R.uniform(1 - self.zoom, 1 + self.zoom)
        self._zoom = zoom if self.R.random() < self.probs["zoom"] else 1.0
        gamma = self.R.uniform(*self.gamma)
        self._gamma = gamma if self.R.random() < self.probs["gamma"] else 1.0

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> Tensor:
        """Change one image.

        Args:
            img: ``(C, H, W)`` or ``(C, H, W, D)``.
            randomize: whether to draw anew; ``False`` repeats the last changes.

        Returns:
            The changed image, of the same shape. A MetaTensor keeps its metadata, and its affine follows; there is
            no trace of the changes to invert.
        """
        image = convert_to_tensor(img, track_meta=get_track_meta())
        if image.ndim not in (3, 4):
            raise ValueError(f"got an image of shape {tuple(image.shape)}, want (C, H, W) or (C, H, W, D)")
        if randomize:
            self.randomize(image.ndim - 1)
        if self._flips:
            image = Flip(self._flips)(image)
        if any(self._rotation) or any(self._shift) or self._zoom != 1:
            # Affine maps output positions to input positions: its scale is one over the zoom.
            image = Affine(
                rotate_params=self._rotation,
                translate_params=self._shift,
                scale_params=[1 / self._zoom] * (image.ndim - 1),
                padding_mode="zeros",
                image_only=True,
            )(image)
        if self._gamma != 1:
            image = AdjustContrast(self._gamma)(image)
        return with_trace_of(image, img)


class RandStructurePreservingd(RandWrapper, MapTransform):
    """Dictionary version of :class:`RandStructurePreserving`: the same changes for each of the keys.

    Args:
        keys: keys of the images to change.
        allow_missing_keys: whether a key may be missing.
        **kwargs: further arguments of :class:`RandStructurePreserving`.

    Example:
        >>> import torch
        >>> item = {"image": torch.rand(1, 64, 64), "patient_id": "7"}
        >>> sorted(RandStructurePreservingd("image", prob=0.8)(item))
        ['image', 'patient_id']
    """

    backend = RandStructurePreserving.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **kwargs) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.wrapped: RandStructurePreserving = RandStructurePreserving(**kwargs)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        item = dict(data)
        for position, key in enumerate(self.key_iterator(item)):
            item[key] = self.wrapped(item[key], randomize=position == 0)
        return item
