"""Networks that map an image to an embedding."""

from .backbones import SUPPORTED_BACKBONES
from .deepssim_embedder import DeepSSIMEmbedder

__all__ = ["SUPPORTED_BACKBONES", "DeepSSIMEmbedder"]
