"""Adapters that let MONAI's trainers, evaluators and inferers run our work."""

from .atomic_file import atomic_file
from .autocast_inferer import AutocastInferer
from .embedding import create_embedding_evaluator, embed_images, prepare_standardized_batch
from .embedding_export import export_embeddings
from .embedding_store import EmbeddedImages, EmbeddingStore
from .gradient_clipping import GradientClipping
from .hard_negative_sampler import HardNegativeSampler
from .norm_freezing import NormFreezing
from .resumable_checkpoint import ResumableCheckpoint

__all__ = [
    "AutocastInferer",
    "EmbeddedImages",
    "EmbeddingStore",
    "GradientClipping",
    "HardNegativeSampler",
    "NormFreezing",
    "ResumableCheckpoint",
    "atomic_file",
    "create_embedding_evaluator",
    "embed_images",
    "export_embeddings",
    "prepare_standardized_batch",
]
