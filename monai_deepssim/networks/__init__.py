"""Networks that map an image to an embedding."""

from .backbones import SUPPORTED_BACKBONES
from .checkpoints import TorchScriptEmbedder, load_deepssim
from .copy_detector import CopyDetector, load_copy_detector
from .deepssim_embedder import DeepSSIMEmbedder
from .pair_similarity import PairSimilarity

__all__ = [
    "SUPPORTED_BACKBONES",
    "CopyDetector",
    "DeepSSIMEmbedder",
    "PairSimilarity",
    "TorchScriptEmbedder",
    "load_copy_detector",
    "load_deepssim",
]
