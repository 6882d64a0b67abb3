"""What an audit says on the terminal about differences between the training and the synthetic images."""

from __future__ import annotations

from monai_deepssim.metrics import MIN_COMPARED_IMAGES, SideComparison

__all__ = ["side_lines"]


def side_lines(comparison: SideComparison) -> list[str]:
    """Say how the preprocessing of the sides differs, in one line per difference.

    Args:
        comparison: of the training and the synthetic side.

    Returns:
        The lines: a summary, then the differences, those first that hide copies.

    Example:
        >>> import torch
        >>> from monai_deepssim.metrics import compare_sides
        >>> print(*side_lines(compare_sides(torch.rand(2, 1, 40, 32), torch.rand(3, 1, 40, 32))), sep="\\n")
        Preprocessing: not compared; want at least 5 images per side, got 2 training and 3 synthetic images.
    """
    if not comparison.is_testable:
        return [
            f"Preprocessing: not compared; want at least {MIN_COMPARED_IMAGES} images per side, got "
            f"{comparison.num_training} training and {comparison.num_synthetic} synthetic images."
        ]
    compared = f"{comparison.num_training} training and {comparison.num_synthetic} synthetic images"
    if not comparison.differences:
        return [f"Preprocessing: no difference found between {compared}."]
    lines = [f"Preprocessing: {compared} differ."]
    for difference in comparison.uncovered:
        lines.append(f"  Warning: {difference.description} Copies may be missed: preprocess both sides alike.")
    for difference in comparison.differences:
        if difference.covered:
            lines.append(f"  {difference.description} The alignment covers this.")
    return lines
