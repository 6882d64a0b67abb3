"""Adapters that let MONAI's trainers, evaluators and inferers run our work."""

from .autocast_inferer import AutocastInferer
from .gradient_clipping import GradientClipping
from .resumable_checkpoint import ResumableCheckpoint, save_atomically

__all__ = ["AutocastInferer", "GradientClipping", "ResumableCheckpoint", "save_atomically"]
