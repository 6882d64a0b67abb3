"""The options of a run of DeepSSIM's published protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.option_checks import path, several_of, text, torch_device, whole, yes_or_no
from monai_deepssim.options import option
from monai_deepssim.workflow.bundles import find_bundle

if TYPE_CHECKING:
    import torch

__all__ = ["ReproductionOptions"]

_DATA, _DETECTORS, _RUNNING, _OUTPUT = "Data", "Detectors", "Running", "Output"
_FILE = path("file", missing="the path of a file with weights")


def _protocol_names() -> Iterable[str]:
    from monai_deepssim.benchmark.protocol import PROTOCOL

    return PROTOCOL


@dataclass(frozen=True)
class ReproductionOptions:
    """The options of a run of the published protocol."""

    images_dir: Path | None = option(
        None,
        path("folder"),
        "Folder of the images: UID/training.png is real, UID/gen-0.png, gen-1.png, ... were generated for it. By "
        "default phantom pairs are made.",
        _DATA,
    )
    testset_csv: Path | None = option(
        None, path("CSV"), "Labelled pairs: real_key, synth_key, label (0 different, 1 duplicate, 2 similar).", _DATA
    )
    trainset_csv: Path | None = option(
        None,
        path("CSV"),
        "Pairs of the training: real_key, synth_key, ssim, split. The error of the scores is told for each split.",
        _DATA,
    )
    matrices_dir: Path | None = option(
        None,
        path("folder"),
        "Published score matrices, such as deepssim.npz and deepssim_augmented.npz: scores are taken from those that "
        "are there.",
        _DATA,
    )
    indices_dir: Path | None = option(
        None, path("folder"), "Published index files of these matrices, real.npz and synth.npz.", _DATA
    )
    num_pairs: int = option(300, whole(3), "Phantom pairs that are made where there are no images.", _DATA)
    only: tuple[str, ...] = option((), several_of(_protocol_names), "Detectors to run; by default all.", _DETECTORS)
    checkpoint: Path | None = option(
        None, _FILE, "Weights of DeepSSIM, the published ones or others; by default those that ship.", _DETECTORS
    )
    allow_torchscript: bool = option(
        False,
        yes_or_no,
        "Whether that checkpoint may be TorchScript, which can run code of its own; only from a source that you trust.",
        _DETECTORS,
    )
    sscd_file: Path | None = option(
        None, _FILE, "SSCD's TorchScript file, for chen; it is a program that is run.", _DETECTORS
    )
    copy_detector_checkpoint: Path | None = option(None, _FILE, "Weights of Dar et al.'s detector.", _DETECTORS)
    open_clip_weights: Path | None = option(
        None, path("file or folder"), "Weights of the image encoder of semdedup, for open_clip.", _DETECTORS
    )
    open_clip_model: str = option("ViT-B-32", text, "Architecture of these weights.", _DETECTORS)
    seed: int = option(42, whole(0), "Seed of the augmentations.", _RUNNING)
    batch_size: int = option(32, whole(1), "Images per step of the networks.", _RUNNING)
    device: torch.device = option(None, torch_device, "Device of the networks; by default a GPU, if any.", _RUNNING)
    write_matrices: bool = option(
        False,
        yes_or_no,
        "Whether the scores of all real with all synthetic images of the folder are written, in the published form.",
        _OUTPUT,
    )
    output_dir: Path = option(Path("deepssim_reproduction"), path("folder"), "Folder of the results.", _OUTPUT)

    def __post_init__(self) -> None:
        if self.testset_csv is None and not (self.images_dir is None and self.trainset_csv is None):
            raise UnusableInputError(
                "--testset_csv: was not given. Name the list of labelled pairs, or leave out --images_dir and "
                "--trainset_csv too for phantom pairs."
            )
        if self.testset_csv is not None and self.images_dir is None and self.matrices_dir is None:
            raise UnusableInputError(
                "--images_dir: was not given. Name the folder of the images, or score matrices by --matrices_dir."
            )
        if self.matrices_dir is not None and self.indices_dir is None:
            raise UnusableInputError(
                "--indices_dir: was not given. A score matrix needs real.npz and synth.npz, which name its rows and "
                "columns."
            )
        if self.matrices_dir is None and self.indices_dir is not None:
            raise UnusableInputError("--indices_dir: is about score matrices. Give --matrices_dir too.")
        if self.open_clip_weights is not None and not self.open_clip_weights.exists():
            raise UnusableInputError(
                f"--open_clip_weights: {self.open_clip_weights} is not there. Give the path of weights or their folder."
            )
        if self.write_matrices and self.testset_csv is not None and self.images_dir is None:
            raise UnusableInputError("--write_matrices: needs the images. Give --images_dir.")
        if self.checkpoint is None:
            shipped = find_bundle("deepssim_brain_mri") / "models" / "model.pt"
            object.__setattr__(self, "checkpoint", shipped)
        if not self.only:
            object.__setattr__(self, "only", tuple(_protocol_names()))
