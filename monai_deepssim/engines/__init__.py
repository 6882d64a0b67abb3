"""Adapters that let MONAI's trainers, evaluators and inferers run our work."""

from .atomic_file import atomic_file
from .autocast_inferer import AutocastInferer
from .autoencoder_generator import AutoencoderGenerator, prepare_reconstruction_batch
from .autoencoder_losses import (
    AutoencoderLoss,
    PatchDiscriminatorLoss,
    PatchGeneratorLoss,
    gaussian_kl,
    perceptual_loss_at_hand,
)
from .embedding import create_embedding_evaluator, embed_images, prepare_standardized_batch
from .embedding_export import export_embeddings
from .embedding_store import EmbeddedImages, EmbeddingStore
from .gradient_clipping import GradientClipping
from .hard_negative_sampler import HardNegativeSampler
from .latent_checkpoint import GeneratorCheckpoint, TrainedGenerator, load_autoencoder, load_generator
from .latent_ema import WarmUpEMAHandler
from .latent_encoding import LatentPrepareBatch, encode_images, iterate_posteriors
from .latent_inferer import FrozenAutoencoderInferer, LatentSamplingInferer, state_dict_sha256
from .latent_scaling import LatentScaling, compute_scale_factor
from .latent_shapes import LatentShapes, compute_latent_shapes
from .norm_freezing import NormFreezing
from .reconstruction_picture import ReconstructionPicture
from .resumable_checkpoint import ResumableCheckpoint
from .sampling_conditions import Conditions, conditions_of_images, read_conditions, select_conditions
from .sampling_dataset import SamplingDataset
from .sampling_features import AutoencoderFeatures, ImageStatistics, load_sampling_features
from .sampling_folder import SampleFolder
from .sampling_metrics import FIDUnlessCopied, HeldOutFIDMetric, fitted_predictions
from .sampling_picture import FirstBatchImageHandler
from .sampling_stop import StopWhenCopying

__all__ = [
    "AutocastInferer",
    "AutoencoderFeatures",
    "AutoencoderGenerator",
    "AutoencoderLoss",
    "Conditions",
    "EmbeddedImages",
    "EmbeddingStore",
    "FIDUnlessCopied",
    "FirstBatchImageHandler",
    "FrozenAutoencoderInferer",
    "GeneratorCheckpoint",
    "GradientClipping",
    "HardNegativeSampler",
    "HeldOutFIDMetric",
    "ImageStatistics",
    "LatentPrepareBatch",
    "LatentSamplingInferer",
    "LatentScaling",
    "LatentShapes",
    "NormFreezing",
    "PatchDiscriminatorLoss",
    "PatchGeneratorLoss",
    "ReconstructionPicture",
    "ResumableCheckpoint",
    "SampleFolder",
    "SamplingDataset",
    "StopWhenCopying",
    "TrainedGenerator",
    "WarmUpEMAHandler",
    "atomic_file",
    "compute_latent_shapes",
    "compute_scale_factor",
    "conditions_of_images",
    "create_embedding_evaluator",
    "embed_images",
    "encode_images",
    "export_embeddings",
    "fitted_predictions",
    "gaussian_kl",
    "iterate_posteriors",
    "load_autoencoder",
    "load_generator",
    "load_sampling_features",
    "perceptual_loss_at_hand",
    "prepare_reconstruction_batch",
    "prepare_standardized_batch",
    "read_conditions",
    "select_conditions",
    "state_dict_sha256",
]
