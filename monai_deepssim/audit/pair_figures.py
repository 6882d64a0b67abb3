"""A pair of images beside each other in matplotlib's axes, for notebooks."""

from __future__ import annotations

from typing import Any

from monai_deepssim.audit.report import pair_pictures
from monai_deepssim.audit.result import AuditResult
from monai_deepssim.errors import UnusableInputError

__all__ = ["show_pair"]


def show_pair(result: AuditResult, row: int, axes: Any = None) -> Any:
    """Show a synthetic image and its nearest training image; see :meth:`AuditResult.show_pair`."""
    if row not in result.matches.index:
        raise UnusableInputError(
            f"row: got {row}, want an index of result.matches, such as {result.matches.index[0]}; the images that "
            "could not be read have none."
        )
    match = next(result.matches.loc[[row]].itertuples())
    pictures = pair_pictures(row, result)
    if axes is None:
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(1, len(pictures), figsize=(2.6 * len(pictures), 3.2), layout="constrained")
        figure.suptitle(f"{match.synthetic_path}: {match.label}, score {match.score:.3f}", fontsize=10)
    for place, (name, picture) in zip(axes, pictures, strict=False):
        if picture is not None:
            place.imshow(picture, cmap="gray", vmin=0, vmax=255)
        place.set_title(name, fontsize=9)
        place.set_axis_off()
    return axes
