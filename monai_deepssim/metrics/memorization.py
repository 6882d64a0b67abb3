"""How much of what a generator makes are copies of its training images, as a metric that runs beside its training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import torch
from monai.utils import CommonKeys, convert_to_tensor
from torch import Tensor, nn

from monai_deepssim.metrics.deepssim import _eval_mode
from monai_deepssim.metrics.detectors.aligned import AlignedDetector
from monai_deepssim.metrics.detectors.deepssim import DeepSSIMDetector
from monai_deepssim.metrics.embedding_cache import EmbeddingCache
from monai_deepssim.metrics.labelled_pairs import ALIGNED_SSIM_THRESHOLDS
from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MemorizationMetric"]


class MemorizationMetric(DeepSSIMDetector):
    r"""Computes the copy fraction: the share of synthetic images that are copies of a training image.

    .. math::
        \text{copy fraction} = \frac{1}{N} \sum_{i=1}^N \Big[ \max_j \operatorname{score}(x_i, t_j) > \tau \Big]

    The score is DeepSSIM, the cosine of two embeddings. With ``verify``, it is the aligned SSIM on the pixels, of the
    ``top_k`` training images that are most like it in one pose, among the 64 whose embeddings are nearest.

    ``fit(training_loader)`` once, on every rank; then ``metric(synthetic_images)`` batch by batch, with
    ``(B, 1, H, W)`` in [0, 1] or a list of ``(1, H, W)``. Like every :class:`CopyDetectionMetric`, a call gives
    ``(B, 2)``: the highest score of each image, and the position of the training image that it belongs to.
    ``aggregate()`` is the copy fraction since ``reset()``, of all ranks; ranks may have uneven shares, or none.
    ``get_buffer()`` gives the scores.

    An image that has no score, because a pixel or its embedding is not finite, gets NaN and the position -1, and is
    left out of the copy fraction. So a diverged generator does not end its own training, nor pass for one that copies
    nothing. If no image has a score, the copy fraction is NaN.

    Scardace, Puglisi, Guarnera, Battiato, Ravì. *A Novel Metric for Detecting Memorization in Generative Models for
    Brain MRI Synthesis.* arXiv 2509.16582 (2025).

    Args:
        embedder: takes standardised ``(N, 1, H, W)`` and gives ``(N, D)``; or the path of a checkpoint that
            :func:`~monai_deepssim.networks.load_deepssim` takes. It embeds in eval mode, whatever mode it is in.
        threshold: cosine above which an image is a copy; 0.85 is the published one. Not used with ``verify``.
        verify: whether aligned SSIM judges. Takes some milliseconds for each image of a shortlist, and all training
            images in memory: 60 kB each at 136 x 112.
        device: where the embedder is moved to; it stays where it is by default. On a GPU images are aligned there,
            too; volumes on the CPU.
        top_k: length of a shortlist, with ``verify``.
        verify_threshold: aligned SSIM above which an image is a copy; the default was measured on phantom subjects,
            see :data:`~monai_deepssim.metrics.ALIGNED_SSIM_THRESHOLDS`.
        allow_torchscript: whether the checkpoint may be TorchScript, a program that can run code of its own.

    Raises:
        ValueError: when ``top_k`` is below 1.

    Example:
        >>> training_images = torch.rand(6, 1, 64, 64)
        >>> embedder = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 64))
        >>> metric = MemorizationMetric(embedder).fit(training_images.split(2))
        >>> metric(torch.cat([training_images[4:], torch.rand(2, 1, 64, 64)]))[:2, 1]
        tensor([4., 5.])
        >>> metric.aggregate()
        tensor(0.5000)
        >>> metric.get_buffer().shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        threshold: float = 0.85,
        verify: bool = False,
        device: torch.device | str | None = None,
        *,
        top_k: int = 10,
        verify_threshold: float = ALIGNED_SSIM_THRESHOLDS[1],
        allow_torchscript: bool = False,
    ) -> None:
        if top_k < 1:
            raise ValueError(f"got top_k={top_k}, want 1 or more")
        if device is None and isinstance(embedder, nn.Module):
            first_weight = next(embedder.parameters(), None)
            device = None if first_weight is None else first_weight.device
        super().__init__(
            embedder, verify_threshold if verify else threshold, device, allow_torchscript=allow_torchscript
        )
        self.verify = verify
        self.top_k = top_k
        self._aligned: AlignedDetector | None = None

    def fit(
        self, training_images: Iterable[Tensor | Mapping[str, Any]], *, cache_path: str | os.PathLike[str] | None = None
    ) -> Self:
        """Embed the training images, each rank its share, and give every rank all of them.

        In a distributed run every rank has to call it, also one that has no share. A training image that several ranks
        embed is held several times, which changes no score. Positions count through the images of rank 0, then of
        rank 1, and so on.

        Args:
            training_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``, as a
                DataLoader gives them; without random augmentation.
            cache_path: a file to keep the embeddings in. Images that are in it already, by their content, are not
                embedded again; rank 0 writes it. By default nothing is kept.

        Returns:
            This object.

        Raises:
            ValueError: when no rank has a training image, or they are not of that shape.
            UnusableInputError: when an embedding is all zeros or not finite, or ``cache_path`` cannot be used.
        """
        cache = None if cache_path is None else EmbeddingCache(cache_path, self.embedder)
        share = SyncsUnevenShares()  # type: ignore[abstract]
        for batch in training_images:
            images = _images_of(batch)
            pixels = [images] if self.verify else []
            if cache is None:
                share.extend(self.represent_batch(images), *pixels)
            else:
                share.extend(*cache.embed(images, self.represent_batch), *pixels)
        gathered = share.get_buffer()
        if gathered is None:
            raise ValueError("there are no training images: the loader gave no batch, on any rank")
        held = [gathered] if isinstance(gathered, Tensor) else gathered
        self.fit_representations(held[0])  # says now, on every rank, which row cannot be searched
        if cache is not None and idist.get_rank() == 0:
            cache.save(held[0], held[1])
        if self.verify:
            # At the size that the images have.
            self._aligned = AlignedDetector(self, self.top_k, image_size=held[-1].shape[2:4])
            self._aligned.fit_representations(self._aligned.join(held[0], held[-1]))
        return self

    def represent(self, images: Tensor) -> Tensor:
        with _eval_mode(self.embedder):
            return super().represent(images)

    def get_buffer(self) -> Tensor | None:
        """The scores since ``reset()``, of all ranks.

        Returns:
            ``(N, 1)``, higher is closer, NaN for an image without a score; ``None`` when there is no image.
        """
        buffer = super().get_buffer()
        # Without the positions, of which MONAI's MetricsSaver would take the mean as of a class's scores.
        return None if buffer is None else buffer[:, :1]

    def get_nearest(self) -> Tensor | None:
        """The training images that the scores of :meth:`get_buffer` belong to.

        Returns:
            ``(N,)`` int64 positions, -1 for an image without a score; ``None`` when there is no image.
        """
        buffer = super().get_buffer()
        return None if buffer is None else buffer[:, 1].long()

    def _find_nearest(self, images: Tensor, representations: Tensor) -> tuple[Tensor, Tensor]:
        if not self.verify:
            return super()._find_nearest(images, representations)
        if self._aligned is None:
            raise RuntimeError("verify=True needs the pixels of the training images: call fit(training_loader) first")
        scores, indices = self._aligned.search(self._aligned.join(representations, _plain(images)))
        return scores[:, 0], indices[:, 0]


def _images_of(batch: Tensor | Mapping[str, Any]) -> Tensor:
    images = batch.get(CommonKeys.IMAGE) if isinstance(batch, Mapping) else batch
    if not isinstance(images, Tensor) or images.ndim not in (4, 5) or images.shape[1] != 1:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            f'the training loader gave {got}, want batches (B, 1, H, W) in [0, 1], or dictionaries with such an "image"'
        )
    return _plain(images)


def _plain(images: Tensor) -> Tensor:
    return convert_to_tensor(images, dtype=torch.float32, track_meta=False, device="cpu")
