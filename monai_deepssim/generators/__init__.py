"""Latent diffusion models of images, and others to compare with: trained and sampled with MONAI's engines."""

from monai_deepssim.generators.autoencoder_generator import AutoencoderGenerator, prepare_reconstruction_batch
from monai_deepssim.generators.autoencoder_losses import (
    AutoencoderLoss,
    PatchDiscriminatorLoss,
    PatchGeneratorLoss,
    gaussian_kl,
    perceptual_loss_at_hand,
)
from monai_deepssim.generators.conditioning import VariableScaling, read_vectors, variable_values
from monai_deepssim.generators.duplication import DUPLICATION_RANGES, repetition_counts
from monai_deepssim.generators.generative_checkpoints import load_generator_network
from monai_deepssim.generators.generative_networks import (
    as_monai_network,
    check_generative_target,
    convert_generative_state_dict,
)
from monai_deepssim.generators.generator_images import GeneratorImages
from monai_deepssim.generators.latent_checkpoint import (
    GeneratorCheckpoint,
    TrainedGenerator,
    load_autoencoder,
    load_generator,
)
from monai_deepssim.generators.latent_ema import WarmUpEMAHandler
from monai_deepssim.generators.latent_encoding import (
    LatentPrepareBatch,
    LatentScaling,
    compute_scale_factor,
    encode_images,
    iterate_posteriors,
)
from monai_deepssim.generators.latent_inferer import (
    FrozenAutoencoderInferer,
    LatentSamplingInferer,
    LatentShapes,
    compute_latent_shapes,
    state_dict_sha256,
)
from monai_deepssim.generators.pictures import FirstBatchImageHandler, ReconstructionPicture
from monai_deepssim.generators.prior_generators import (
    GanDiscriminatorLoss,
    GanGeneratorLoss,
    PriorGAN,
    PriorVAE,
    VariationalLoss,
    build_discriminator,
    draw_from_prior,
    save_prior_generator,
)
from monai_deepssim.generators.sampling_dataset import (
    Conditions,
    SamplingDataset,
    conditions_of_images,
    read_conditions,
    select_conditions,
)
from monai_deepssim.generators.sampling_features import AutoencoderFeatures, ImageStatistics, load_sampling_features
from monai_deepssim.generators.sampling_folder import SampleFolder
from monai_deepssim.generators.sampling_validation import (
    FIDUnlessCopied,
    HeldOutFIDMetric,
    StopWhenCopying,
    fitted_predictions,
)

__all__ = [
    "DUPLICATION_RANGES",
    "AutoencoderFeatures",
    "AutoencoderGenerator",
    "AutoencoderLoss",
    "Conditions",
    "FIDUnlessCopied",
    "FirstBatchImageHandler",
    "FrozenAutoencoderInferer",
    "GanDiscriminatorLoss",
    "GanGeneratorLoss",
    "GeneratorCheckpoint",
    "GeneratorImages",
    "HeldOutFIDMetric",
    "ImageStatistics",
    "LatentPrepareBatch",
    "LatentSamplingInferer",
    "LatentScaling",
    "LatentShapes",
    "PatchDiscriminatorLoss",
    "PatchGeneratorLoss",
    "PriorGAN",
    "PriorVAE",
    "ReconstructionPicture",
    "SampleFolder",
    "SamplingDataset",
    "StopWhenCopying",
    "TrainedGenerator",
    "VariableScaling",
    "VariationalLoss",
    "WarmUpEMAHandler",
    "as_monai_network",
    "build_discriminator",
    "check_generative_target",
    "compute_latent_shapes",
    "compute_scale_factor",
    "conditions_of_images",
    "convert_generative_state_dict",
    "draw_from_prior",
    "encode_images",
    "fitted_predictions",
    "gaussian_kl",
    "iterate_posteriors",
    "load_autoencoder",
    "load_generator",
    "load_generator_network",
    "load_sampling_features",
    "perceptual_loss_at_hand",
    "prepare_reconstruction_batch",
    "read_conditions",
    "read_vectors",
    "repetition_counts",
    "save_prior_generator",
    "select_conditions",
    "state_dict_sha256",
    "variable_values",
]
