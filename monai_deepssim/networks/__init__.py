"""Networks that map an image to an embedding."""

from .backbones import SUPPORTED_BACKBONES
from .checkpoints import TorchScriptEmbedder, load_deepssim
from .copy_detector import CopyDetector, load_copy_detector
from .deepssim_embedder import DeepSSIMEmbedder
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
    "find_stages",
    "load_copy_detector",
    "load_deepssim",
]
