"""Networks that map an image to an embedding."""

from .backbones import SUPPORTED_BACKBONES
from .checkpoints import TorchScriptEmbedder, load_deepssim
from .deepssim_embedder import DeepSSIMEmbedder

__all__ = ["SUPPORTED_BACKBONES", "DeepSSIMEmbedder", "TorchScriptEmbedder", "load_deepssim"]
