"""The training of the embedder on a user's images: the config of the bundle ``deepssim_brain_mri`` with overrides."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from monai_deepssim.audit.training_options import EmbedderTrainingOptions
from monai_deepssim.data import choose_windows
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import ensure_writable, printable, write_text
from monai_deepssim.networks import is_torchscript, read_checkpoint
from monai_deepssim.options import options_as_json
from monai_deepssim.progress import is_quiet
from monai_deepssim.workflow.config_steps import as_literal, run_config
from monai_deepssim.workflow.workflow import Workflow

__all__ = ["EmbedderTraining"]

# The configs of the bundle, by what is trained.
_CONFIGS = {"shipped": ["train", "fine_tune"], "random": ["train"], "published": ["train", "published_network"]}
# Ids of the bundle that have the name of an option, beside those that are texts.
_SAME_NAME = (
    *("slice_axis", "follow_links", "all_dicom", "image_size"),
    *("validation_fraction", "max_epochs", "items_per_batch", "seed", "num_workers"),
)


class EmbedderTraining(Workflow[EmbedderTrainingOptions, dict[str, Any]]):
    """Train the embedder on images of one's own, as the bundle ``deepssim_brain_mri`` does.

    ``output_dir`` gets ``model.pt``, the best network, which an audit takes as ``checkpoint``; ``checkpoint.pt``, from
    which the same training goes on; ``summary.json`` and ``tensorboard/``.

    Args:
        values: options by name, those of :class:`~monai_deepssim.audit.training_options.EmbedderTrainingOptions`.

    Example:
        >>> EmbedderTraining(training_dir="images", max_epochs=0).run()
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """

    options_class = EmbedderTrainingOptions

    def perform(self, options: EmbedderTrainingOptions) -> dict[str, Any]:
        if options.checkpoint is not None and is_torchscript(options.checkpoint):
            raise UnusableInputError(
                f"--checkpoint: {options.checkpoint} is a TorchScript file, which cannot be trained on. Give a state "
                "dict."
            )
        ensure_writable(options.output_dir)
        overrides: dict[str, Any] = {name: getattr(options, name) for name in _SAME_NAME}
        overrides["image_size"] = list(options.image_size)
        overrides["ignore"] = [as_literal(pattern) for pattern in options.ignore]
        overrides["device"] = f"$torch.device({str(options.device)!r})"
        texts = {
            "dataset_dir": options.training_dir,
            "output_dir": options.output_dir,
            "patient_id_pattern": options.patient_id_pattern,
            "initial_weights": options.checkpoint,
        }
        overrides |= {name: as_literal(text) for name, text in texts.items() if text is not None}
        window = choose_windows({"training": []}, options.window)["training"].window
        overrides["window"] = as_literal(window) if window else ""
        overrides["slices"] = as_literal(options.slices)
        if options.learning_rate is not None:
            overrides["learning_rate"] = options.learning_rate
        # MONAI's bars know nothing of ours.
        with contextlib.redirect_stderr(io.StringIO()) if is_quiet() else contextlib.nullcontext():
            run_config("deepssim_brain_mri", _CONFIGS[options.start], overrides)
        state = read_checkpoint(options.output_dir / "checkpoint.pt")
        result = {
            **options_as_json(options),
            "model": str(options.output_dir / "model.pt"),
            "mean_squared_error": state["best"]["metric"],
            "best_epoch": state["best"]["epoch"],
        }
        write_text(options.output_dir / "summary.json", json.dumps(result, indent=2) + "\n")
        return result

    def closing_lines(self, result: dict[str, Any]) -> list[str]:
        lines = [
            f"Trained {result['max_epochs']} epochs; the best is number {result['best_epoch']}: on the images put "
            f"aside the cosine of two embeddings is {result['mean_squared_error'] ** 0.5:.3f} from their SSIM (root "
            "mean square).",
            f"Weights: {result['model']}, for an audit as --checkpoint {result['model']}",
        ]
        return [printable(line) for line in lines]
