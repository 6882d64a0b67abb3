"""Latent diffusion behind the call that MONAI's trainers and evaluators make of an inferer, and the latents' shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer, LatentDiffusionInferer
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError

__all__ = [
    "FrozenAutoencoderInferer",
    "LatentSamplingInferer",
    "LatentShapes",
    "compute_latent_shapes",
    "state_dict_sha256",
]


class LatentShapes(NamedTuple):
    """Shapes of the latents of one image, without the batch axis.

    Args:
        autoencoder: ``(C, h, w)`` as the autoencoder encodes and decodes them.
        diffusion: ``(C, h', w')`` as the diffusion model sees them; at least as large.

    Example:
        >>> LatentShapes((3, 34, 28), (3, 36, 28)).padded
        True
    """

    autoencoder: tuple[int, int, int]
    diffusion: tuple[int, int, int]

    @property
    def padded(self) -> bool:
        """Whether the two differ, so that latents are padded for the diffusion model and cropped for the decoder."""
        return self.autoencoder != self.diffusion


def compute_latent_shapes(
    image_size: Sequence[int], latent_channels: int, num_autoencoder_levels: int, num_diffusion_levels: int
) -> LatentShapes:
    r"""Compute the shapes of latents for an image size.

    An autoencoder of L levels halves L - 1 times, and so does a U-Net; its skip connections only fit when each halving
    comes out even. :math:`h = H / 2^{L_a - 1}` and :math:`h' = 2^{L_d - 1} \lceil h / 2^{L_d - 1} \rceil`.

    Args:
        image_size: rows and columns in pixels.
        latent_channels: C.
        num_autoencoder_levels: number of the autoencoder's ``channels``.
        num_diffusion_levels: number of the U-Net's ``channels``.

    Returns:
        The shapes.

    Raises:
        UnusableInputError: the autoencoder would not give images of this size back.

    Example:
        >>> compute_latent_shapes((136, 112), 3, 3, 3)
        LatentShapes(autoencoder=(3, 34, 28), diffusion=(3, 36, 28))
        >>> compute_latent_shapes((128, 128), 3, 3, 3).padded
        False
    """
    factor, multiple = 2 ** (num_autoencoder_levels - 1), 2 ** (num_diffusion_levels - 1)
    sides = [int(side) for side in image_size]
    if len(sides) != 2 or any(side < factor or side % factor for side in sides):
        nearest = [max(factor, round(side / factor) * factor) for side in sides]
        raise UnusableInputError(
            f"image_size is {list(image_size)}, and an autoencoder of {num_autoencoder_levels} levels wants rows and "
            f"columns that {factor} divides. Take {nearest}, or another autoencoder."
        )
    rows, columns = (side // factor for side in sides)
    padded_rows, padded_columns = (-(-side // multiple) * multiple for side in (rows, columns))
    return LatentShapes((latent_channels, rows, columns), (latent_channels, padded_rows, padded_columns))


class FrozenAutoencoderInferer(nn.Module, Inferer):
    """MONAI's LatentDiffusionInferer as a SupervisedTrainer calls it: ``inferer(inputs, network, noise, timesteps)``.

    The autoencoder is frozen: in eval mode and without gradients, and its weights are not part of this module's state.
    That state is ``scale_factor``, by which latents are multiplied so that they have a standard deviation of 1, and a
    hash of the autoencoder, since neither the factor nor a diffusion model fits any other. The factor is a number that
    is computed once, by :class:`~monai_deepssim.generators.LatentScaling`, or loaded, and NaN before.

    Args:
        autoencoder: network with MONAI's ``encode``, ``decode_stage_2_outputs`` and ``sampling``, such as
            ``AutoencoderKL``; already on the device where it is to run.
        scheduler: adds the noise, such as ``DDPMScheduler``.
        shapes: shapes of the latents, see :func:`~monai_deepssim.generators.compute_latent_shapes`.
        scale_factor: where it is known already.

    Example:
        >>> from monai.networks.nets import AutoencoderKL
        >>> from monai.networks.schedulers import DDPMScheduler
        >>> from monai_deepssim.generators import compute_latent_shapes
        >>> autoencoder = AutoencoderKL(2, channels=(4, 4, 4), num_res_blocks=1, norm_num_groups=2,
        ...     attention_levels=(False, False, False))
        >>> inferer = FrozenAutoencoderInferer(autoencoder, DDPMScheduler(), compute_latent_shapes((40, 32), 3, 3, 3))
        >>> list(inferer.state_dict()), inferer.encode(torch.rand(2, 1, 40, 32))[0].shape
        (['scale_factor', '_extra_state'], torch.Size([2, 3, 10, 8]))
    """

    scale_factor: Tensor

    def __init__(
        self, autoencoder: nn.Module, scheduler: Scheduler, shapes: LatentShapes, scale_factor: float | None = None
    ) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule: neither its weights nor its mode are ours.
        self._frozen = (autoencoder.eval().requires_grad_(False),)
        self.scheduler = scheduler
        self.shapes = shapes
        self.autoencoder_sha256 = state_dict_sha256(autoencoder)
        self._inferer = LatentDiffusionInferer(
            scheduler,
            ldm_latent_shape=list(shapes.diffusion[1:]) if shapes.padded else None,
            autoencoder_latent_shape=list(shapes.autoencoder[1:]) if shapes.padded else None,
        )
        self.register_buffer("scale_factor", torch.tensor(torch.nan if scale_factor is None else float(scale_factor)))

    @property
    def autoencoder(self) -> Any:
        """The frozen autoencoder."""
        return self._frozen[0]

    @torch.no_grad()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1], on the autoencoder's device.

        Returns:
            Mean and standard deviation of the posterior of each, ``(B, C, h, w)``, not scaled.
        """
        mean, sigma = self.autoencoder.encode(images)
        return mean, sigma

    def forward(
        self,
        inputs: Tensor,
        network: nn.Module,
        noise: Tensor,
        timesteps: Tensor,
        condition: Tensor | None = None,
        encoded: bool = False,
    ) -> Tensor:
        """Add noise to the latents, and predict it.

        Args:
            inputs: images ``(B, 1, H, W)`` in [0, 1], which are encoded to a sample of their posterior; or such samples
                ``(B, C, h, w)``, not scaled, with ``encoded``.
            network: the diffusion model.
            noise: ``(B, C, h', w')``, of the diffusion model's shape.
            timesteps: ``(B,)``, whole numbers.
            condition: ``(B, T, D)``, a context of T tokens for cross-attention.
            encoded: whether ``inputs`` are latents.

        Returns:
            The network's prediction, ``(B, C, h', w')``.

        Raises:
            RuntimeError: the scale factor is not known yet.
        """
        autoencoder: Any = _AlreadyEncoded() if encoded else self.autoencoder
        model: Any = network  # MONAI names its own class, and calls it as any module of that signature
        return self._scaled_inferer()(inputs, autoencoder, model, noise, timesteps, condition=condition)

    @torch.no_grad()
    def sample(
        self, noise: Tensor, network: nn.Module, scheduler: Scheduler, condition: Tensor | None = None
    ) -> Tensor:
        """Draw images.

        Args:
            noise: ``(B, C, h', w')``, standard normal.
            network: the diffusion model.
            scheduler: scheduler with its timesteps set, such as ``DDIMScheduler``; its ``clip_sample`` has to be off,
                as latents leave [-1, 1].
            condition: ``(B, T, D)``, a context of T tokens for cross-attention.

        Returns:
            Images ``(B, 1, H, W)``, clipped to [0, 1].

        Raises:
            RuntimeError: the scale factor is not known yet.
        """
        inferer = self._scaled_inferer()
        model: Any = network
        images = inferer.sample(noise, self.autoencoder, model, scheduler, conditioning=condition, verbose=False)
        assert isinstance(images, Tensor)  # a tuple only where intermediate images are asked for
        return images.clamp(0, 1)

    def _scaled_inferer(self) -> LatentDiffusionInferer:
        if not torch.isfinite(self.scale_factor):
            raise RuntimeError(
                "the scale factor of the latents is not known yet: give the trainer a LatentScaling handler, or load a "
                "checkpoint"
            )
        self._inferer.scale_factor = self.scale_factor  # type: ignore[assignment]
        return self._inferer

    def get_extra_state(self) -> str:
        """The hash of the autoencoder, for torch's ``state_dict``."""
        return self.autoencoder_sha256

    def set_extra_state(self, state: str) -> None:
        """Refuse the state of another autoencoder.

        Raises:
            RuntimeError: it is of another one.
        """
        if state != self.autoencoder_sha256:
            raise RuntimeError("it was trained on the latents of an autoencoder with other weights")


class LatentSamplingInferer(Inferer):
    """Draw images as a SupervisedEvaluator calls an inferer: ``inferer(noise, network, condition=...)``.

    Args:
        inferer: decodes the latents.
        scheduler: such as ``DDIMScheduler``, with the noise schedule of the training.
        num_inference_steps: number of network calls per image.

    Raises:
        ValueError: the scheduler clips: latents are not images in [-1, 1] and would be damaged silently.

    Example:
        >>> from monai.networks.schedulers import DDIMScheduler
        >>> LatentSamplingInferer(None, DDIMScheduler(clip_sample=True), 50)
        Traceback (most recent call last):
        ...
        ValueError: the scheduler clips latents to [-1.0, 1.0]: give it clip_sample=False
    """

    def __init__(self, inferer: FrozenAutoencoderInferer, scheduler: Scheduler, num_inference_steps: int = 50) -> None:
        if getattr(scheduler, "clip_sample", False):
            limits = getattr(scheduler, "clip_sample_values", [-1.0, 1.0])
            raise ValueError(f"the scheduler clips latents to {limits}: give it clip_sample=False")
        self.inferer = inferer
        self.scheduler = scheduler
        self.scheduler.set_timesteps(num_inference_steps)  # type: ignore[operator]

    def __call__(self, inputs: Tensor, network: nn.Module, condition: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Draw images: see :meth:`FrozenAutoencoderInferer.sample`."""
        return self.inferer.sample(inputs, network, self.scheduler, condition)


class _AlreadyEncoded:
    """Stands in for the autoencoder where the inputs are latents."""

    def encode_stage_2_inputs(self, latents: Tensor) -> Tensor:
        return latents


def state_dict_sha256(network: nn.Module) -> str:
    """Hash the names, shapes and values of a network's state, wherever and in whatever order it is held.

    Args:
        network: any module.

    Returns:
        The SHA-256 as 64 hexadecimal digits.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> before = state_dict_sha256(network)
        >>> _ = network.bias.data.add_(1)
        >>> state_dict_sha256(network) == before
        False
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
