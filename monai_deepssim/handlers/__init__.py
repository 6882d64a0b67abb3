"""Ignite handlers over the metrics, for MONAI's trainers and evaluators."""

from monai_deepssim.handlers.deepssim import DeepSSIMHandler
from monai_deepssim.handlers.memorization import MemorizationHandler, predictions_only
from monai_deepssim.handlers.memorization_index import MemorizationIndexHandler
from monai_deepssim.handlers.uneven_shares import UnevenSharesMetricHandler

__all__ = [
    "DeepSSIMHandler",
    "MemorizationHandler",
    "MemorizationIndexHandler",
    "UnevenSharesMetricHandler",
    "predictions_only",
]
