"""A change that brings one image onto another: what it is, in words, and made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms.utils import create_rotate
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

__all__ = ["Alignment"]

# What a negative and a positive shift along each axis is called, in 2-D and 3-D.
_DIRECTIONS = {
    2: (("up", "down"), ("left", "right")),
    3: (("to the left", "to the right"), ("to the back", "to the front"), ("to the feet", "to the head")),
}
# What the axes are called: those of a volume go from the patient's left to the right, and so on.
_AXES = {2: ("top-bottom", "left-right"), 3: ("left-right", "back-front", "feet-head")}


@dataclass(frozen=True)
class Alignment:
    """A change of an image, in the order in which it happens: flips, stretch, rotation, shift and zoom at once, gamma.

    Of a volume, whose axes go from the patient's left to the right, from the back to the front and from the feet to the
    head, the axes may be exchanged before.

    A deformation may follow; it depends on the other image, and :func:`deform_onto` makes it.

    Attributes:
        flips: the spatial axes that are flipped, counted from 0.
        rotation_degrees: one angle in 2-D, positive clockwise as the image is shown; in 3-D one about each axis.
            As in MONAI's ``Affine``, whose angles are in radians.
        shift_pixels: how far the content moves along each axis once it is turned: positive is down, and to the
            right; of a volume to the right, to the front and to the head.
        zoom: factor of size; above 1 the content is larger.
        gamma: exponent of the intensities between the smallest and the largest.
        stretch: how much longer an axis becomes than the one across it, 1 or more; in 2-D alone.
        stretch_degrees: that axis, from down to right, before the rotation.
        inverted: whether dark and bright are exchanged, before gamma.
        deformation_pixels: length of the displacements by which the image is deformed after all this, root mean square
            where it has structure.
        axes: of a volume, ``axes[i]`` is the axis that becomes axis i before the flips; empty where they stay.
        stretches: of a volume, how much longer each axis becomes beyond the zoom; empty where none does.

    Example:
        >>> print(Alignment(flips=(1,), rotation_degrees=(6.5,), shift_pixels=(0.0, 0.0), zoom=1.0, gamma=1.2))
        flipped left-right, rotated 6.5° clockwise, gamma 1.20
    """

    flips: tuple[int, ...]
    rotation_degrees: tuple[float, ...]
    shift_pixels: tuple[float, ...]
    zoom: float
    gamma: float
    deformation_pixels: float = 0.0
    stretch: float = 1.0
    stretch_degrees: float = 0.0
    inverted: bool = False
    axes: tuple[int, ...] = ()
    stretches: tuple[float, ...] = ()

    @classmethod
    def from_matrix(
        cls,
        linear: np.ndarray,
        shift_pixels: tuple[float, float],
        *,
        gamma: float = 1.0,
        inverted: bool = False,
        deformation_pixels: float = 0.0,
    ) -> Alignment:
        """Describe an affine change of a 2-D image.

        Args:
            linear: ``(2, 2)``, from rows and columns in the image to rows and columns in the changed one, both counted
                from the centre.
            shift_pixels: where the image's centre goes, from the centre.
            gamma: exponent of the intensities.
            inverted: whether dark and bright are exchanged.
            deformation_pixels: length of a deformation that follows.

        Returns:
            The change; flips first, as many as leave a rotation of 90 degrees or less.

        Raises:
            ValueError: when the matrix flattens the image.

        Example:
            >>> print(Alignment.from_matrix(np.array([[0.0, 1.0], [1.0, 0.0]]), (0.0, 0.0)))
            flipped left-right, rotated 90.0° counter-clockwise
        """
        determinant = float(np.linalg.det(linear))
        if not abs(determinant) > 1e-6:
            raise ValueError(f"got a matrix with the determinant {determinant}, want one that keeps an area")
        unmirrored = linear * np.array([1.0, -1.0]) if determinant < 0 else linear
        left, lengths, right = np.linalg.svd(unmirrored)
        rotation = left @ right
        longest = right[0]
        degrees = float(np.rad2deg(np.arctan2(rotation[0, 1], rotation[0, 0])))
        flips: tuple[int, ...] = (1,) if determinant < 0 else ()
        if abs(degrees) > 90.0001:  # half a turn is a flip of both axes
            degrees -= np.copysign(180.0, degrees)
            flips = (0,) if flips else (0, 1)
        return cls(
            flips=flips,
            rotation_degrees=(degrees,),
            shift_pixels=(float(shift_pixels[0]), float(shift_pixels[1])),
            zoom=float(np.sqrt(lengths[0] * lengths[1])),
            gamma=gamma,
            deformation_pixels=deformation_pixels,
            stretch=float(lengths[0] / lengths[1]),
            stretch_degrees=float(np.rad2deg(np.arctan2(longest[1], longest[0])) % 180),
            inverted=inverted,
        )

    def apply(self, image: Tensor) -> Tensor:
        """Change an image; all but the deformation. Equals MONAI's ``Flip``, ``Affine`` and ``AdjustContrast``.

        Args:
            image: ``(1, H, W)``, outside of which are zeros, or ``(1, H, W, D)``, outside of which is its smallest
                value, and whose gamma lies between its own smallest and largest values.

        Returns:
            The changed image, of the same shape, float32.

        Example:
            >>> import torch
            >>> image = torch.rand(1, 8, 8)
            >>> bool(torch.equal(Alignment((0,), (0.0,), (0.0, 0.0), 1.0, 1.0).apply(image), image.flip(1)))
            True
        """
        changed = (image.as_tensor() if hasattr(image, "as_tensor") else image).float()
        # The range of an image is what is left of it once it is turned; that of a volume, what it was.
        ends = (changed.amin(), changed.amax()) if changed.ndim == 4 else None
        changed = changed if ends is None else changed - ends[0]
        if self.axes:
            changed = changed.permute(0, *(axis + 1 for axis in self.axes))
        if self.flips:
            changed = changed.flip([axis + 1 for axis in self.flips])
        matrix = self.grid_matrix(changed.shape[1:])
        if matrix is not None:
            changed = _resample(changed, matrix)
        if self.inverted:
            changed = changed.amin() + changed.amax() - changed
        if ends is not None:
            extent = (ends[1] - ends[0]).clamp(min=1e-7)
            return (changed / extent) ** self.gamma * extent + ends[0]
        if self.gamma != 1:
            low, extent = changed.amin(), changed.amax() - changed.amin()
            changed = ((changed - low) / extent.clamp(min=1e-7)) ** self.gamma * extent + low
        return changed

    def grid_matrix(self, size: Sequence[int]) -> np.ndarray | None:
        """The matrix that ``torch.nn.functional.affine_grid`` takes for all but flips and intensities.

        Args:
            size: sides of the image in pixels.

        Returns:
            ``(2, 3)`` or, of a volume, ``(3, 4)``, for ``align_corners=True``; ``None`` where nothing is moved.

        Example:
            >>> Alignment((), (0.0,), (1.0, 0.0), 1.0, 1.0).grid_matrix((11, 11)).round(1) + 0.0
            array([[ 1. ,  0. ,  0. ],
                   [ 0. ,  1. , -0.2]])
        """
        positions = self._read_positions()
        if np.array_equal(positions, np.eye(len(positions))):
            return None
        # grid_sample counts an axis from -1 to 1 between the centres of its outer pixels, the last axis first.
        reach = np.array([(side - 1) / 2 for side in size])
        scaled = positions[:-1] * np.append(reach, 1.0) / reach[:, None]
        return np.hstack([scaled[::-1, -2::-1], scaled[::-1, -1:]])

    def _read_positions(self) -> np.ndarray:
        """Which position is read for each position of the result, both from the centre: homogeneous, float64."""
        num_axes = len(self.shift_pixels)
        radians = np.deg2rad(self.rotation_degrees).tolist()
        positions: np.ndarray = np.asarray(create_rotate(num_axes, radians)) / self.zoom
        if self.stretch != 1:
            axis = np.deg2rad(self.stretch_degrees)
            axes = np.array([[np.cos(axis), np.sin(axis)], [-np.sin(axis), np.cos(axis)]])
            lengths = np.array([self.stretch**0.5, self.stretch**-0.5])
            positions[:2, :2] = axes.T @ np.diag(1 / lengths) @ axes @ positions[:2, :2]
        if self.stretches:
            positions[:-1, :-1] /= np.array(self.stretches)[:, None]
        positions[:-1, -1] = -positions[:-1, :-1] @ np.array(self.shift_pixels)
        positions[-1, -1] = 1.0
        return positions

    def __str__(self) -> str:
        """The change in words; what is too small to be seen is left out."""
        names = _AXES[len(self.shift_pixels)]
        words = []
        if self.axes:
            moves = [f"{names[axis]} becomes {names[i]}" for i, axis in enumerate(self.axes) if axis != i]
            words.append("axes exchanged: " + ", ".join(moves))
        if self.flips:
            words.append("flipped " + " and ".join(names[axis] for axis in self.flips))
        if len(self.rotation_degrees) == 1:
            angle = self.rotation_degrees[0]
            if abs(angle) >= 0.25:
                words.append(f"rotated {abs(angle):.1f}° {'clockwise' if angle > 0 else 'counter-clockwise'}")
        else:
            turns = [
                f"{angle:.1f}° about the {name} axis"
                for angle, name in zip(self.rotation_degrees, names, strict=True)
                if abs(angle) >= 0.25
            ]
            words += ["rotated " + " and ".join(turns)] if turns else []
        moves = [
            f"{abs(shift):.1f} pixels {way[shift > 0]}"
            for shift, way in zip(self.shift_pixels, _DIRECTIONS[len(self.shift_pixels)], strict=True)
            if abs(shift) >= 0.25
        ]
        if moves:
            words.append("shifted " + " and ".join(moves))
        if abs(self.zoom - 1) >= 0.005:
            words.append(f"{'enlarged' if self.zoom > 1 else 'shrunk'} to {100 * self.zoom:.1f} %")
        if self.stretch >= 1.01:
            words.append(f"stretched by {100 * (self.stretch - 1):.0f} %")
        words += [
            f"{'stretched' if stretch > 1 else 'squeezed'} to {100 * stretch:.0f} % {name}"
            for stretch, name in zip(self.stretches, names, strict=False)
            if abs(stretch - 1) >= 0.01
        ]
        if self.inverted:
            words.append("dark and bright exchanged")
        if abs(self.gamma - 1) >= 0.03:
            words.append(f"gamma {self.gamma:.2f}")
        if self.deformation_pixels >= 0.05:
            words.append(f"deformed by {self.deformation_pixels:.1f} pixels")
        return ", ".join(words) or "unchanged"


def _resample(image: Tensor, matrix: np.ndarray) -> Tensor:
    """Read an image ``(1, ...)`` where the matrix says, linearly, zeros outside of it."""
    theta = torch.tensor(matrix[None], dtype=image.dtype, device=image.device)
    grid = affine_grid(theta, [1, *image.shape], align_corners=True)
    return grid_sample(image[None], grid, padding_mode="zeros", align_corners=True)[0]
