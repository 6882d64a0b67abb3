"""Image encoders of the CLIP family, through open_clip, as copy detectors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from monai.utils import optional_import
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.copy_detection import CopyDetectionMetric
from monai_deepssim.transforms import FitImageSize

__all__ = ["OpenCLIPDetector"]


class OpenCLIPDetector(CopyDetectionMetric):
    """Cosine of the image embeddings of a CLIP-style model, read from a local file.

    The image is scaled to fit into the square that the model takes, padded with its own minimum (not cropped: a copy is
    a copy up to its borders), repeated to three channels and normalised with the model's own numbers. For images in
    2-D.

    Args:
        embedder: path of the weights, or of a folder as the Hugging Face Hub has them, with ``open_clip_config.json``
            and the weights in it; or a model of open_clip. Nothing is downloaded.
        model_name: architecture of the weights, one of ``open_clip.list_models()``; not looked at for a folder.
        threshold: cosine above which an image is a copy; nobody published one for medical images.
        device: where images are embedded.

    Raises:
        UnusableInputError: when open_clip is not installed (``pip install 'monai-deepssim[clip]'``), there is no such
            file, or the weights are not those of the architecture.

    References:
        Radford et al., Learning transferable visual models from natural language supervision, ICML 2021,
        arXiv 2103.00020; Cherti et al., Reproducible scaling laws for contrastive language-image learning, CVPR 2023,
        arXiv 2212.07143.

    Example:
        >>> class Encoder(nn.Module):  # stands for open_clip.create_model("ViT-B-32", "weights.pt")
        ...     visual = type("Visual", (), {"image_size": 32})()
        ...
        ...     def encode_image(self, images):
        ...         return images.flatten(1)
        >>> images = torch.rand(3, 1, 64, 48)
        >>> OpenCLIPDetector(Encoder()).fit([images])(images[1:])[:, 1]
        tensor([1., 2.])
    """

    title: ClassVar[str] = "CLIP"
    needs: ClassVar[str] = "its weights, open_clip"

    def __init__(
        self,
        embedder: nn.Module | str | os.PathLike[str],
        model_name: str = "ViT-B-32",
        threshold: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(threshold, device)
        self.embedder: Any = self.prepare_embedder(embedder, lambda path: _load(Path(path), model_name))
        visual: Any = self.embedder.visual
        side = visual.image_size
        self.fit_size = FitImageSize((side, side) if isinstance(side, int) else tuple(side))
        # A model without numbers of its own was trained with CLIP's, those of its first paper.
        self.mean = getattr(visual, "image_mean", None) or (0.48145466, 0.4578275, 0.40821073)
        self.std = getattr(visual, "image_std", None) or (0.26862954, 0.26130258, 0.27577711)

    def represent(self, images: Tensor) -> Tensor:
        """Embed images ``(B, 1, H, W)`` as ``(B, D)``."""
        fitted = torch.stack([self.fit_size(image) for image in images])
        mean, std = fitted.new_tensor(self.mean), fitted.new_tensor(self.std)
        return self.embedder.encode_image((fitted - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))


def _load(path: Path, model_name: str) -> nn.Module:
    # Looked up by name and late: only those who use CLIP have to have it.
    open_clip, installed = optional_import("open_clip")
    if not installed:
        raise UnusableInputError(
            "the detector open_clip needs the package open_clip_torch: pip install 'monai-deepssim[clip]', or choose "
            "another detector"
        )
    if not path.exists():
        raise UnusableInputError(f"{path}: no such file; give the weights of an open_clip model, or their folder")
    if not path.is_dir() and model_name not in open_clip.list_models():
        raise UnusableInputError(f"unknown model {model_name!r}: choose one of {', '.join(open_clip.list_models())}")
    source = {"model_name": f"local-dir:{path}"} if path.is_dir() else {"model_name": model_name}
    try:
        return open_clip.create_model(
            **source,
            pretrained=None if path.is_dir() else str(path),
            pretrained_text=False,
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # open_clip raises many kinds on a file that is none of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = "open_clip could not load this folder" if path.is_dir() else f"these are not weights of {model_name}"
        raise UnusableInputError(f"{path}: {what}: {reason}") from error
