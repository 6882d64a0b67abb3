"""Images to latents, once for a whole training or batch by batch, and the factor that gives them a deviation of 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import DiffusionPrepareBatch, Trainer
from torch import Tensor

from monai_deepssim.generators.latent_inferer import FrozenAutoencoderInferer, LatentShapes

__all__ = ["LatentPrepareBatch", "LatentScaling", "compute_scale_factor", "encode_images", "iterate_posteriors"]

_MEAN, _SIGMA = "latent_mean", "latent_sigma"


def encode_images(
    images: Dataset, inferer: FrozenAutoencoderInferer, device: torch.device | str = "cpu", batch_size: int = 64
) -> Dataset:
    """Encode all images of a data set, so that a training pays for the encoder once and not at every step.

    Kept is the posterior of each image, mean and standard deviation, of which :class:`LatentPrepareBatch` draws a
    sample anew at every step: that is what encoding at every step gives, too. It takes
    8 C h w bytes per image (23 kB for 136 x 112). Images that are augmented anew at every step cannot be encoded
    before.

    Args:
        images: items with ``image``, ``(1, H, W)`` in [0, 1]. Whatever else they hold is passed on.
        inferer: encodes.
        device: where the autoencoder is.
        batch_size: images that are encoded at once.

    Returns:
        Items with ``latent_mean`` and ``latent_sigma``, ``(C, h, w)`` on the CPU, in place of ``image``.

    Example:
        >>> from monai.networks.nets import AutoencoderKL
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> from monai_deepssim.generators import compute_latent_shapes
        >>> autoencoder = AutoencoderKL(2, channels=(4, 4), num_res_blocks=1, norm_num_groups=2,
        ...     attention_levels=(False, False))
        >>> inferer = FrozenAutoencoderInferer(autoencoder, DDPMScheduler(), compute_latent_shapes((16, 16), 3, 2, 2))
        >>> latents = encode_images(Dataset([{"image": torch.rand(1, 16, 16), "path": "a.png"}]), inferer)
        >>> sorted(latents[0]), latents[0]["latent_mean"].shape
        (['latent_mean', 'latent_sigma', 'path'], torch.Size([3, 8, 8]))
    """
    items: list[dict[str, Any]] = []
    for position in range(0, len(images), batch_size):
        batch = [images[index] for index in range(position, min(position + batch_size, len(images)))]
        mean, sigma = inferer.encode(torch.stack([item["image"] for item in batch]).to(device))
        for item, own_mean, own_sigma in zip(batch, mean.cpu(), sigma.cpu(), strict=True):
            others = {key: value for key, value in item.items() if key != "image"}
            items.append({**others, _MEAN: own_mean, _SIGMA: own_sigma})
    return Dataset(items)


def iterate_posteriors(
    dataset: Dataset, inferer: FrozenAutoencoderInferer, device: torch.device | str = "cpu", batch_size: int = 64
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through the posteriors of a data set, whether it holds them or images.

    Args:
        dataset: dataset that :func:`encode_images` returns, or items with ``image``.
        inferer: encodes images.
        device: where the autoencoder is.
        batch_size: images of a batch.

    Yields:
        Mean and standard deviation, ``(B, C, h, w)``.

    Example:
        >>> posteriors = Dataset([{"latent_mean": torch.zeros(3, 8, 8), "latent_sigma": torch.ones(3, 8, 8)}] * 5)
        >>> [len(mean) for mean, _ in iterate_posteriors(posteriors, inferer=None, batch_size=2)]
        [2, 2, 1]
    """
    for batch in DataLoader(dataset, batch_size=batch_size, num_workers=0):
        yield (batch[_MEAN], batch[_SIGMA]) if _MEAN in batch else inferer.encode(batch["image"].to(device))


class LatentPrepareBatch(DiffusionPrepareBatch):
    """MONAI's DiffusionPrepareBatch with noise of the latents' shape, for images and for latents encoded before.

    Of latents encoded before it draws a sample of the posterior, ``mean + sigma * normal``, anew at every step.

    Args:
        shapes: shapes of the latents, see :func:`~monai_deepssim.generators.compute_latent_shapes`.
        num_train_timesteps: number of training timesteps of the scheduler.
        condition_name: key of the context ``(T, D)`` in the items, ``None`` for an unconditional model.

    Example:
        >>> prepare_batch = LatentPrepareBatch(LatentShapes((3, 34, 28), (3, 36, 28)), 1000, condition_name="context")
        >>> batch = {"image": torch.rand(2, 1, 136, 112), "context": torch.rand(2, 1, 6)}
        >>> images, target, _, arguments = prepare_batch(batch, "cpu")
        >>> images.shape, target.shape, sorted(arguments)
        (torch.Size([2, 1, 136, 112]), torch.Size([2, 3, 36, 28]), ['condition', 'noise', 'timesteps'])
    """

    def __init__(
        self, shapes: LatentShapes, num_train_timesteps: int = 1000, condition_name: str | None = None
    ) -> None:
        super().__init__(num_train_timesteps, condition_name)
        self.shapes = shapes

    def get_noise(self, images: Tensor) -> Tensor:
        """Draw the noise that the network is to predict, ``(B, C, h', w')``."""
        return torch.randn(len(images), *self.shapes.diffusion, device=images.device)

    def __call__(
        self,
        batchdata: dict[str, Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict]:
        """Return inputs, target, and the inferer's further arguments."""
        if _MEAN not in batchdata:
            return super().__call__(batchdata, device, non_blocking, **kwargs)
        mean, sigma = (batchdata[key].to(device, non_blocking=non_blocking, **kwargs) for key in (_MEAN, _SIGMA))
        sampled = {**batchdata, "image": mean + sigma * torch.randn_like(sigma)}
        latents, target, arguments, keywords = super().__call__(sampled, device, non_blocking, **kwargs)
        return latents, target, arguments, {**keywords, "encoded": True}


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
        inferer: inferer that gets the factor.
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
