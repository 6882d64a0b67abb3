"""The second stage of an audit: the shortlist of each image is looked at on the pixels, after alignment."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from monai_deepssim.audit.sources import Side
from monai_deepssim.audit.verdict import Shortlist
from monai_deepssim.data import ImageDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.similarity import Alignment, aligned_ssim

__all__ = ["verify"]

_PAIRS_A_STEP = 256
# 136 x 112 float32 are 60 KB: a quarter of a GB at most. Training images come up again and again.
_IMAGES_KEPT = 4096
_SCORE_DIGITS = 6


def verify(
    side: Side,
    indices: np.ndarray,
    training: Side,
    candidates: np.ndarray,
    detector_scores: np.ndarray,
    *,
    image_size: Sequence[int],
    description: str,
) -> Shortlist:
    """Align each candidate with its image, and sort the candidates by the SSIM that this reaches.

    Args:
        side: of the images that are looked up.
        indices: ``(N,)``, their positions in ``side.items``.
        training: the training side.
        candidates: ``(N, k)``, positions in ``training.items``.
        detector_scores: ``(N, k)``, by which they were chosen.
        image_size: rows and columns that images are brought to.
        description: what the progress bar calls this.

    Returns:
        The candidates, the highest aligned SSIM first; equal ones in the order of the detector.

    Raises:
        UnusableInputError: when a file that was readable before no longer is.
    """
    num_images, num_candidates = candidates.shape
    ssim = np.zeros(candidates.shape)
    alignments: list[list[Alignment]] = []
    queries, targets = _Images(side, image_size), _Images(training, image_size)
    step = max(1, _PAIRS_A_STEP // num_candidates)
    interval = 0.1 if sys.stderr.isatty() else 10.0
    with tqdm(total=candidates.size, desc=description, unit=" pairs", mininterval=interval) as bar:
        for start in range(0, num_images, step):
            rows = range(start, min(start + step, num_images))
            x = torch.stack([queries[int(indices[row])] for row in rows for _ in range(num_candidates)])
            y = torch.stack([targets[int(index)] for row in rows for index in candidates[row]])
            found = aligned_ssim(x, y)
            values = found.ssim.double().numpy().round(_SCORE_DIGITS).reshape(len(rows), num_candidates)
            for position, row in enumerate(rows):
                order = np.argsort(-values[position], kind="stable")
                first = position * num_candidates
                ssim[row] = values[position][order]
                candidates[row], detector_scores[row] = candidates[row][order], detector_scores[row][order]
                alignments.append([found.alignments[first + place] for place in order])
            bar.update(len(x))
    return Shortlist(scores=ssim, indices=candidates, detector_scores=detector_scores, alignments=alignments)


class _Images:
    """The images of a side, the latest of them kept in memory."""

    def __init__(self, side: Side, image_size: Sequence[int]) -> None:
        self.side = side
        self.dataset = ImageDataset(side.items, image_size=image_size)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    def __getitem__(self, index: int) -> Tensor:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        item = self.dataset[index]
        if item["problem"]:
            raise UnusableInputError(
                f"{self.side.items[index]['path']}: was readable when it was embedded and is not any more "
                f"({item['problem']}). Leave the {self.side.name} images alone while they are audited, and start again."
            )
        self._kept[index] = torch.as_tensor(item["image"])
        if len(self._kept) > _IMAGES_KEPT:
            self._kept.popitem(last=False)
        return self._kept[index]
