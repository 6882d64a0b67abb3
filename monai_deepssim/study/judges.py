"""What judges samples: DeepSSIM with verification, contrastive copy detection, and whether they look real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import AutoencoderKL
from sklearn.covariance import LedoitWolf
from torch import Tensor

from monai_deepssim.generators import ImageStatistics
from monai_deepssim.metrics import (
    ALIGNED_SSIM_THRESHOLDS,
    NUM_SCREENED,
    ComparedImages,
    ContrastiveCopyDetector,
    CopyDetectionMetric,
    DeepSSIMDetector,
    SSIMDetector,
    tabulate_candidates,
    verify_candidates,
)
from monai_deepssim.study.images import StudyImages
from monai_deepssim.transforms import FitImageSize

__all__ = ["Controls", "Judges"]

_BATCH_SIZE = 64
# Of the held-out images' reconstructions, this share lies beyond each of the two limits of what looks real.
_TAIL_PERCENT = 2.5
# Aligning takes milliseconds per pair; so many reconstructions tell how well copies are found.
_NUM_RECONSTRUCTIONS = 64


@dataclass(frozen=True)
class Controls:
    """What real images score, by which the samples of all cells are judged.

    Attributes:
        aligned_ssim_threshold: above it a sample is a copy, by DeepSSIM's shortlist verified.
        correlation_threshold: above it a sample is a copy, by contrastive copy detection.
        lowest_real_ssim: an image that looks real has at least this SSIM to the nearest image of the pool.
        highest_distance: an image that looks real has at most this Mahalanobis distance of its statistics from the
            pool's.
        found_deepssim: whether DeepSSIM finds each pool image a copy after it went through the autoencoder.
        found_copy_detection: the same for contrastive copy detection.
        holdout_statistics: statistics of the held-out images, ``(C, 15)``, each less its mean over the pool, in units
            of its standard deviation there.
        reconstruction_statistics: statistics of those images after they went through the autoencoder, ``(C, 15)``.
        real_statistics: statistics of the other held-out images, ``(T, 15)``.
    """

    aligned_ssim_threshold: float
    correlation_threshold: float
    lowest_real_ssim: float
    highest_distance: float
    found_deepssim: np.ndarray
    found_copy_detection: np.ndarray
    holdout_statistics: np.ndarray
    reconstruction_statistics: np.ndarray
    real_statistics: np.ndarray

    def looks_real(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which samples are within both limits, ``(N,)``."""
        return (scores["real_ssim"] >= self.lowest_real_ssim) & (scores["distance"] <= self.highest_distance)


class Judges:
    """Scores samples against the training images of their generator.

    Thresholds are the same in all cells: one that moved with the size of the training set would draw a curve of its
    own. The copy score has that of an audit; that of copy detection is found by Dar et al.'s rule, over the pool.

    A sample *looks real* when its statistics (:class:`~monai_deepssim.generators.ImageStatistics`) are no further
    from the pool's than those of held-out images, and its SSIM to the nearest image of the pool no lower. Both are
    taken after a passage through the autoencoder, whose blur is no fault of the diffusion model.

    Args:
        images: the study's images.
        deepssim: checkpoint of the embedder.
        copy_detector: checkpoint of the contrastive one.
        autoencoder: the autoencoder in eval mode.
        deepssim_image_size: rows and columns that DeepSSIM's images are brought to.
        top_k: length of a shortlist.
        device: where networks run.
        allow_torchscript: whether the embedder may be a TorchScript file.
    """

    def __init__(
        self,
        images: StudyImages,
        deepssim: Path,
        copy_detector: Path,
        autoencoder: AutoencoderKL,
        deepssim_image_size: tuple[int, int],
        top_k: int,
        device: torch.device,
        allow_torchscript: bool = False,
    ) -> None:
        self._images = images
        self._deepssim = DeepSSIMDetector(deepssim, device=device, allow_torchscript=allow_torchscript)
        self._contrastive = ContrastiveCopyDetector(copy_detector, device=device)
        self._ssim = SSIMDetector().fit(images.pool.split(_BATCH_SIZE))
        self._fit = FitImageSize(deepssim_image_size)
        self._top_k = top_k
        self._enlarged_pool = self._enlarge(images.pool)
        self._pool_embeddings = self._deepssim.represent_all(self._enlarged_pool.split(_BATCH_SIZE))
        self._pool_codes = self._contrastive.represent_all(images.pool.split(_BATCH_SIZE))
        self._contrastive.fit_representations(self._pool_codes)
        self._tau = self._contrastive.fit_threshold(images.for_thresholds.split(_BATCH_SIZE))

        # In units of the pool's spread: else FID would follow the few statistics that have large numbers, and noise
        # would be as near to brains as their reconstructions are.
        raw = ImageStatistics()(images.pool).numpy()
        self._center, self._spread = raw.mean(0), raw.std(0).clip(min=1e-6)
        reconstructed_pool = _reconstruct(autoencoder, images.pool, device)
        # Standardised first: Ledoit and Wolf's estimate shrinks towards features of one variance.
        statistics = self._statistics(reconstructed_pool)
        self._mean, self._scale = statistics.mean(0), statistics.std(0).clip(min=1e-6)
        self._covariance = LedoitWolf().fit((statistics - self._mean) / self._scale)
        self.controls = self._measure_controls(autoencoder, reconstructed_pool, device)

    def score(self, samples: Tensor, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Score samples against training images, and held-out images likewise, which are not copies.

        Args:
            samples: ``(N, 1, H, W)`` in [0, 1].
            rows: positions of the training images in the pool.

        Returns:
            By name, of each sample: ``deepssim``, ``aligned_ssim``, ``nearest`` (position among the training images),
            ``correlation``, ``real_ssim``, ``distance``, ``statistics``; of each held-out control image
            ``holdout_aligned_ssim`` and ``holdout_correlation``.
        """
        deepssim, aligned, nearest = self._verified(samples, rows)
        _, of_holdout, _ = self._verified(self._images.for_control, rows)
        return {
            "deepssim": deepssim,
            "aligned_ssim": aligned,
            "nearest": nearest,
            "correlation": self._correlation(samples, rows),
            "holdout_aligned_ssim": of_holdout,
            "holdout_correlation": self._correlation(self._images.for_control, rows),
            **self._realism(samples),
        }

    def _verified(self, images: Tensor, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Highest DeepSSIM; highest copy score of the shortlist, and whose it is."""
        enlarged = self._enlarge(images)
        self._deepssim.fit_representations(self._pool_embeddings[rows])
        embeddings = self._deepssim.represent_all(enlarged.split(_BATCH_SIZE))
        scores, proposed = _search(self._deepssim, embeddings, max(self._top_k, NUM_SCREENED))
        pairs = verify_candidates(
            tabulate_candidates(proposed.numpy(), scores.numpy()),
            ComparedImages(enlarged.__getitem__, device=self._deepssim.device),
            ComparedImages(self._enlarged_pool[rows].__getitem__, device=self._deepssim.device),
            keep=self._top_k,
        )
        best = pairs.groupby("query").first()
        return scores[:, 0].numpy(), best["score"].to_numpy(np.float32), best["training"].to_numpy()

    def _correlation(self, images: Tensor, rows: np.ndarray) -> np.ndarray:
        self._contrastive.fit_representations(self._pool_codes[rows])
        codes = self._contrastive.represent_all(images.split(_BATCH_SIZE))
        return _search(self._contrastive, codes, 1)[0][:, 0].numpy()

    def _statistics(self, images: Tensor) -> np.ndarray:
        return (ImageStatistics()(images).numpy() - self._center) / self._spread

    def _realism(self, images: Tensor) -> dict[str, np.ndarray]:
        statistics = self._statistics(images)
        squares = self._covariance.mahalanobis((statistics - self._mean) / self._scale)
        nearest, _ = self._ssim.search(self._ssim.represent_all(images.split(_BATCH_SIZE)), 1)
        return {"real_ssim": nearest[:, 0].numpy(), "distance": np.sqrt(squares), "statistics": statistics}

    def _measure_controls(
        self, autoencoder: AutoencoderKL, reconstructed_pool: Tensor, device: torch.device
    ) -> Controls:
        reconstructions = _reconstruct(autoencoder, self._images.for_control, device)
        real = self._realism(reconstructions)
        everything, threshold = np.arange(len(self._images.pool)), ALIGNED_SSIM_THRESHOLDS[1]
        copies = reconstructed_pool[:_NUM_RECONSTRUCTIONS]
        return Controls(
            aligned_ssim_threshold=threshold,
            correlation_threshold=self._tau,
            lowest_real_ssim=float(np.percentile(real["real_ssim"], _TAIL_PERCENT)),
            highest_distance=float(np.percentile(real["distance"], 100 - _TAIL_PERCENT)),
            found_deepssim=self._verified(copies, everything)[1] > threshold,
            found_copy_detection=self._correlation(copies, everything) > self._tau,
            holdout_statistics=self._statistics(self._images.for_control),
            reconstruction_statistics=real["statistics"],
            real_statistics=self._statistics(self._images.for_thresholds),
        )

    def _enlarge(self, images: Tensor) -> Tensor:
        return torch.stack([torch.as_tensor(self._fit(image)) for image in images])


def _search(detector: CopyDetectionMetric, representations: Tensor, num_neighbors: int) -> tuple[Tensor, Tensor]:
    """Search, where a sample that cannot be represented, such as a black one, is like nothing: its score is -1."""
    usable = representations.isfinite().all(1) & (representations != 0).any(1)
    length = min(num_neighbors, len(detector.training_representations))
    scores = torch.full((len(representations), length), -1.0)
    indices = torch.arange(length).repeat(len(representations), 1)
    if usable.any():
        scores[usable], indices[usable] = detector.search(representations[usable], length)
    return scores, indices


@torch.no_grad()
def _reconstruct(autoencoder: AutoencoderKL, images: Tensor, device: torch.device) -> Tensor:
    """Images to latents and back, in the 8 bits that samples have."""
    back = [autoencoder.reconstruct(batch.to(device)).cpu() for batch in images.split(_BATCH_SIZE)]
    return torch.cat(back).clamp(0, 1).mul(255).round() / 255
