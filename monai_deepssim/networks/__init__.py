"""Networks that map an image to an embedding."""

from .backbones import SUPPORTED_BACKBONES
from .checkpoints import TorchScriptEmbedder, load_deepssim
from .copy_detector import CopyDetector, load_copy_detector
from .deepssim_embedder import DeepSSIMEmbedder
from .flip_folding import fold_flips
from .generative_checkpoints import load_generator_network
from .generative_networks import as_monai_network, check_generative_target
from .generative_state_dict import convert_generative_state_dict
from .layer_features import LayerFeatures, find_stages
from .mri_core import MRICoreEncoder
from .pair_similarity import PairSimilarity

__all__ = [
    "SUPPORTED_BACKBONES",
    "CopyDetector",
    "DeepSSIMEmbedder",
    "LayerFeatures",
    "MRICoreEncoder",
    "PairSimilarity",
    "TorchScriptEmbedder",
    "as_monai_network",
    "check_generative_target",
    "convert_generative_state_dict",
    "find_stages",
    "fold_flips",
    "load_copy_detector",
    "load_deepssim",
    "load_generator_network",
]
