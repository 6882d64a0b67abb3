"""A look at what an autoencoder makes of images, and at what a generator draws, while they train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import TensorBoardImageHandler
from PIL import Image

from monai_deepssim.files import atomic_file, make_folder

__all__ = ["FirstBatchImageHandler", "ReconstructionPicture"]


class ReconstructionPicture:
    """Ignite handler that writes originals above their reconstructions as one picture, each time an evaluator runs.

    The file is ``epoch_<epoch>.png``, 8-bit grey, [0, 1] as black to white; the images are the first ones of the first
    batch, so that pictures of several epochs show the same.

    Args:
        folder: folder that the pictures are written to.
        num_images: columns of a picture.

    Raises:
        ValueError: when ``num_images`` is below 1.

    Example:
        >>> ReconstructionPicture("training/reconstructions").num_images
        8
    """

    def __init__(self, folder: str | os.PathLike[str], num_images: int = 8) -> None:
        if num_images < 1:
            raise ValueError(f"got num_images={num_images}, want 1 or more")
        self.folder = Path(folder)
        self.num_images = num_images

    def attach(self, engine: Evaluator) -> None:
        """Attach to a MONAI evaluator whose output has ``image`` and ``pred``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self)

    def __call__(self, engine: Evaluator) -> None:
        output: Any = engine.state.output
        items = output if isinstance(output, list) else [{key: output[key] for key in ("image", "pred")}]
        rows = []
        for key in ("image", "pred"):
            images = torch.cat([torch.as_tensor(item[key]).reshape(-1, *item[key].shape[-2:]) for item in items])
            rows.append(torch.cat(list(images[: self.num_images]), dim=1))
        pixels = torch.cat(rows).float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        make_folder(self.folder)
        with atomic_file(self.folder / f"epoch_{engine.state.epoch:04d}.png") as file:
            Image.fromarray(pixels).save(file, format="PNG")


class FirstBatchImageHandler(TensorBoardImageHandler):
    """MONAI's TensorBoardImageHandler, for the first batch of each run.

    MONAI's own shows the last batch, which is whatever is left over: of 65 images in batches of 16, one. The first
    batch shows the same seeds at every validation.

    Args:
        summary_writer: as in MONAI's handler, whose other arguments are accepted, too.

    Example:
        >>> import tempfile
        >>> handler = FirstBatchImageHandler(log_dir=tempfile.mkdtemp())
        >>> handler.epoch_level
        True
    """

    def attach(self, engine: Engine) -> None:
        """Attach to a MONAI evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self)
