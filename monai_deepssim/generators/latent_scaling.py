"""The factor that gives latents a standard deviation of 1."""

from __future__ import annotations

from collections.abc import Iterable

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import Trainer
from torch import Tensor

from monai_deepssim.generators.latent_encoding import iterate_posteriors
from monai_deepssim.generators.latent_inferer import FrozenAutoencoderInferer

__all__ = ["LatentScaling", "compute_scale_factor"]


def compute_scale_factor(posteriors: Iterable[tuple[Tensor, Tensor]]) -> float:
    r"""Compute one over the standard deviation of latents that are drawn from their posteriors.

    .. math:: s = \left( \mathrm{Var}[\mu] + \mathrm{E}[\sigma^2] \right)^{-1/2}

    over all images, channels and positions: the standard deviation of ``mean + sigma * normal``, without drawing.

    Args:
        posteriors: batches of mean and standard deviation, ``(B, C, h, w)`` each.

    Returns:
        The factor.

    Raises:
        ValueError: there are none, or they do not vary, so that nothing could be learnt from them.

    References:
        Rombach et al., High-resolution image synthesis with latent diffusion models, CVPR 2022, arXiv 2112.10752,
        appendix G.

    Example:
        >>> compute_scale_factor([(torch.tensor([[[[-3.0, 3.0]]]]), torch.full((1, 1, 1, 2), 4.0))])
        0.2
    """
    count, total, squares, variances = 0, 0.0, 0.0, 0.0
    for mean, sigma in posteriors:
        mean, sigma = mean.detach().cpu().double(), sigma.detach().cpu().double()
        count += mean.numel()
        total += float(mean.sum())
        squares += float(mean.square().sum())
        variances += float(sigma.square().sum())
    variance = (squares - total**2 / count + variances) / count if count else 0.0
    if not 0 < variance < float("inf"):
        raise ValueError(f"got {count} latents of variance {variance}, want at least two that differ")
    return float(variance**-0.5)


class LatentScaling:
    """Ignite handler that computes the scale factor before the first epoch, unless a checkpoint had it.

    It acts after the checkpoint was loaded, wherever it stands among the handlers: a training that is taken up keeps
    the factor that it began with, also when its images have changed since. In a distributed training rank 0 decides.

    Args:
        inferer: gets the factor.
        dataset: the training images, or their posteriors of :func:`~monai_deepssim.generators.encode_images`. An image
            that is repeated counts as often.
        device: where the autoencoder is.
        batch_size: images that are encoded at once.

    Example:
        >>> LatentScaling(inferer=None, dataset=Dataset([]), batch_size=16).batch_size
        16
    """

    def __init__(
        self,
        inferer: FrozenAutoencoderInferer,
        dataset: Dataset,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
    ) -> None:
        self.inferer = inferer
        self.dataset = dataset
        self.device = device
        self.batch_size = batch_size

    def attach(self, engine: Trainer) -> None:
        """Attach to a MONAI trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Compute the factor if there is none yet."""
        if torch.isfinite(self.inferer.scale_factor):
            return
        factor = compute_scale_factor(iterate_posteriors(self.dataset, self.inferer, self.device, self.batch_size))
        self.inferer.scale_factor.fill_(float(idist.broadcast(factor, src=0)))  # type: ignore[arg-type]
        engine.logger.info(f"Scale factor of the latents: {float(self.inferer.scale_factor):.6g}")
