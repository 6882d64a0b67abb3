"""A copy detector in two stages: a shortlist by any other detector, verified on the pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.similarity import DEFORMATION_COST, aligned_ssim, pose, posed_ssim

__all__ = ["NUM_SCREENED", "AlignedDetector", "align_shortlist", "screen_shortlist"]

#: Training images that a detector proposes for each image, of which posed SSIM chooses those that are aligned.
NUM_SCREENED = 64

# Synthetic images whose shortlists are verified at once: of 136 x 112 pixels and ten candidates, 39 MB on each side.
_BLOCK_SIZE = 64


class AlignedDetector(CopyDetectionMetric):
    """Aligned SSIM of an image with each of the training images that another detector shortlists.

    Training images may be deformed a little for that, at a price.

    The other detector proposes ``num_screened`` training images, :func:`~monai_deepssim.similarity.posed_ssim` chooses
    ``top_k`` of them, and these are aligned. A search finds at most ``top_k`` training images, the highest aligned SSIM
    first; one that is not in the shortlist cannot be found. The score of a pair (:meth:`score_pairs`,
    :meth:`compare_pairs`) is its aligned SSIM, whether a search would have found it or not. Takes one search of some
    milliseconds a candidate; see :func:`~monai_deepssim.similarity.aligned_ssim`.

    Args:
        detector: makes the shortlists. Pixels are kept beside its representations, 60 kB a training image at
            136 x 112.
        top_k: length of a shortlist.
        threshold: aligned SSIM above which an image is a copy.
        num_screened: training images that the other detector proposes; at least ``top_k`` are taken. Volumes are not
            screened.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.

    Raises:
        ValueError: when ``top_k`` or ``num_screened`` is below 1.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> from monai_deepssim.metrics import NCCDetector
        >>> cohort = PhantomBrainDataset(4, seed=3, progress=False)
        >>> training = torch.stack([item["image"].as_tensor() for item in cohort])
        >>> detector = AlignedDetector(NCCDetector(), top_k=2).fit([training])
        >>> detector(training[1:3].flip(3))[:, 1]
        tensor([1., 2.])
    """

    title = "Aligned SSIM"

    def __init__(
        self,
        detector: CopyDetectionMetric,
        top_k: int = 10,
        threshold: float | None = None,
        num_screened: int = NUM_SCREENED,
        deformation_cost: float | None = DEFORMATION_COST,
    ) -> None:
        super().__init__(threshold, detector.device)
        if min(top_k, num_screened) < 1:
            raise ValueError(f"got top_k={top_k} and num_screened={num_screened}, want 1 or more")
        self.num_screened = num_screened
        self.detector = detector
        self.top_k = top_k
        self.deformation_cost = deformation_cost
        self._image_shape = torch.Size()

    def represent(self, images: Tensor) -> Tensor:
        """Represent images as the other detector does, with their pixels behind that: ``(B, D + number of pixels)``."""
        self._image_shape = images.shape[1:]
        return torch.cat([self.detector.represent(images).float(), images.flatten(1)], dim=1)

    def fit_representations(self, training: Tensor) -> AlignedDetector:
        self.detector.fit_representations(self._split(training)[0])
        super().fit_representations(training)
        return self

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images of the shortlist with the highest aligned SSIM.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: how many, k.

        Returns:
            ``(scores, indices)``, both ``(N, min(k, top_k))``, the highest first; of equal ones the first of the
            shortlist.
        """
        inner, images = self._split(representations)
        training_images = self._split(self.training_representations)[1]
        _, proposed = self.detector.search(inner, max(self.top_k, self.num_screened))
        scores, indices = align_shortlist(images, training_images, proposed, self.top_k, self.deformation_cost)
        return scores[:, :num_neighbors], indices[:, :num_neighbors]

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each with each: ``(n, m)`` aligned SSIM, some milliseconds each."""
        pairs = self.compare_pairs(queries.repeat_interleave(len(training), 0), training.repeat(len(queries), 1))
        return pairs.view(len(queries), len(training))

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        return aligned_ssim(self._split(first)[1], self._split(second)[1], deformation_cost=self.deformation_cost).ssim

    def _split(self, representations: Tensor) -> tuple[Tensor, Tensor]:
        """The other detector's representations, and the images ``(N, 1, H, W)``."""
        if not self._image_shape:
            raise RuntimeError("AlignedDetector has represented no image yet, so it knows no image size")
        size = self._image_shape.numel()
        inner, pixels = representations.split([representations.shape[1] - size, size], dim=1)
        return inner, pixels.unflatten(1, self._image_shape)


def screen_shortlist(images: Tensor, training_images: Tensor, proposed: Tensor, top_k: int) -> Tensor:
    """Keep those of the proposed training images that look most like each image in one pose.

    An embedding says which training images are near; which of the nearest is the source of a copy that was deformed a
    little, the pixels say better, and :func:`~monai_deepssim.similarity.posed_ssim` searches nothing, as an alignment
    has to.

    Args:
        images: ``(N, 1, H, W)``; volumes are not screened, and keep the first of what is proposed.
        training_images: ``(M, 1, H, W)``.
        proposed: ``(N, K)`` int64, rows of the training images.
        top_k: how many are kept for each image.

    Returns:
        ``(N, min(K, top_k))``, the highest posed SSIM first; of equal ones the first that was proposed.

    Example:
        >>> from monai_deepssim.data import PhantomBrainDataset
        >>> cohort = PhantomBrainDataset(4, seed=3, progress=False)
        >>> training = torch.stack([item["image"].as_tensor() for item in cohort])
        >>> screen_shortlist(training[1:3].flip(3), training, torch.arange(4).expand(2, 4), top_k=1)
        tensor([[1],
                [2]])
    """
    if proposed.shape[1] <= top_k or images.ndim != 4:
        return proposed[:, :top_k]
    needed, positions = proposed.unique(return_inverse=True)
    posed = torch.cat([pose(training_images[rows]) for rows in needed.split(_BLOCK_SIZE)])
    chosen = []
    for block, rows in zip(images.split(_BLOCK_SIZE), positions.split(_BLOCK_SIZE), strict=True):
        for image, row in zip(pose(block), rows, strict=True):
            order = posed_ssim(image[None], posed[row])[0].argsort(descending=True, stable=True)
            chosen.append(order[:top_k])
    return proposed.gather(1, torch.stack(chosen).to(proposed.device))


def align_shortlist(
    images: Tensor,
    training_images: Tensor,
    proposed: Tensor,
    top_k: int,
    deformation_cost: float | None = DEFORMATION_COST,
) -> tuple[Tensor, Tensor]:
    """Screen the training images that are proposed for each image, and order what is kept by aligned SSIM.

    Args:
        images: ``(N, 1, H, W)`` or ``(N, 1, H, W, D)``.
        training_images: ``(M, 1, H, W)`` or ``(M, 1, H, W, D)``.
        proposed: ``(N, K)`` int64, rows of the training images.
        top_k: how many are aligned for each image, see :func:`screen_shortlist`.
        deformation_cost: SSIM that a pixel of deformation costs; ``None`` deforms nothing.

    Returns:
        ``(scores, indices)``, both ``(N, min(K, top_k))``, the highest aligned SSIM first; of equal ones the first in
        the shortlist.

    Example:
        >>> images = torch.rand(3, 1, 32, 32)
        >>> align_shortlist(images[1:2], images, torch.tensor([[0, 1, 2]]), top_k=3)[1][0, 0]
        tensor(1)
    """
    shortlist = screen_shortlist(images, training_images, proposed, top_k)
    scores, indices = [], []
    for block, candidates in zip(images.split(_BLOCK_SIZE), shortlist.split(_BLOCK_SIZE), strict=True):
        length = candidates.shape[1]
        x, y = block.repeat_interleave(length, 0), training_images[candidates.flatten()]
        ssim = aligned_ssim(x, y, deformation_cost=deformation_cost).ssim
        ordered, order = ssim.view(-1, length).sort(dim=1, descending=True, stable=True)
        scores.append(ordered)
        indices.append(candidates.gather(1, order))
    return torch.cat(scores), torch.cat(indices)
