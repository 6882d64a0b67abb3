"""Networks that map an image to an embedding."""

from monai_deepssim.networks.autoencoders import AutoencoderWeights, ImageAutoencoder
from monai_deepssim.networks.backbones import SUPPORTED_BACKBONES, VOLUME_BACKBONES
from monai_deepssim.networks.checkpoints import TorchScriptEmbedder, load_deepssim
from monai_deepssim.networks.copy_detector import CopyDetector, load_copy_detector
from monai_deepssim.networks.deepssim_embedder import DeepSSIMEmbedder
from monai_deepssim.networks.flip_folding import fold_flips
from monai_deepssim.networks.inference import prepare_for_inference
from monai_deepssim.networks.layer_features import LayerFeatures, find_stages
from monai_deepssim.networks.mri_core import MRICoreEncoder
from monai_deepssim.networks.pair_similarity import PairSimilarity
from monai_deepssim.networks.state_dicts import (
    DamagedCheckpointError,
    describe_difference,
    is_torchscript,
    load_weights,
    read_checkpoint,
    read_state_dict,
    shapes_of,
)
from monai_deepssim.networks.volume_copy_detector import VolumeCopyDetector

__all__ = [
    "SUPPORTED_BACKBONES",
    "VOLUME_BACKBONES",
    "AutoencoderWeights",
    "CopyDetector",
    "DamagedCheckpointError",
    "DeepSSIMEmbedder",
    "ImageAutoencoder",
    "LayerFeatures",
    "MRICoreEncoder",
    "PairSimilarity",
    "TorchScriptEmbedder",
    "VolumeCopyDetector",
    "describe_difference",
    "find_stages",
    "fold_flips",
    "is_torchscript",
    "load_copy_detector",
    "load_deepssim",
    "load_weights",
    "prepare_for_inference",
    "read_checkpoint",
    "read_state_dict",
    "shapes_of",
]
