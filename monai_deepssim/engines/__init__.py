"""Adapters that let MONAI's trainers, evaluators and inferers run our work."""

from monai_deepssim.engines.autocast_inferer import AutocastInferer
from monai_deepssim.engines.embedded_images import NOTICED, EmbeddedImages
from monai_deepssim.engines.embedding import (
    create_embedding_evaluator,
    embed_images,
    prepare_image_batch,
    prepare_standardized_batch,
)
from monai_deepssim.engines.embedding_export import export_embeddings
from monai_deepssim.engines.embedding_store import EmbeddingStore, image_keys
from monai_deepssim.engines.feature_store import FeatureStore
from monai_deepssim.engines.hard_negative_sampler import HardNegativeSampler
from monai_deepssim.engines.inferer_identity import identify_inferer
from monai_deepssim.engines.resumable_checkpoint import ResumableCheckpoint
from monai_deepssim.engines.sharded_search import ShardedSearch
from monai_deepssim.engines.shared_hashing import share_hashing
from monai_deepssim.engines.training_handlers import GradientClipping, NormFreezing
from monai_deepssim.engines.verification_store import VerificationStore, share_pairs

__all__ = [
    "NOTICED",
    "AutocastInferer",
    "EmbeddedImages",
    "EmbeddingStore",
    "FeatureStore",
    "GradientClipping",
    "HardNegativeSampler",
    "NormFreezing",
    "ResumableCheckpoint",
    "ShardedSearch",
    "VerificationStore",
    "create_embedding_evaluator",
    "embed_images",
    "export_embeddings",
    "identify_inferer",
    "image_keys",
    "prepare_image_batch",
    "prepare_standardized_batch",
    "share_hashing",
    "share_pairs",
]
