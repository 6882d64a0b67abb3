"""The detector of an audit: what represents the images, and what finds the nearest training images."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_deepssim.audit.embedder import load_embedder, shipped_weights
from monai_deepssim.audit.options import SearchOptions
from monai_deepssim.audit.result import EmbedderIdentity
from monai_deepssim.engines.embedding import prepare_image_batch, prepare_standardized_batch
from monai_deepssim.engines.embedding_store import EmbeddedImages
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import SUPPORTED_DETECTORS, CopyDetectionMetric, DeepSSIMDetector
from monai_deepssim.search import NearestNeighbors

__all__ = ["AuditDetector", "load_detector"]

# These run on DeepSSIM's weights, so they have the shipped ones by default.
_ON_DEEPSSIM = ("deepssim", "memorization_index")
# As many digits as matches.csv shows, so that the verdict can be reproduced from the file.
_SCORE_DIGITS = 6


@dataclass
class AuditDetector:
    """A detector, loaded.

    Attributes:
        name: out of :data:`~monai_deepssim.metrics.SUPPORTED_DETECTORS`.
        metric: the detector.
        network: what the evaluator calls.
        prepare_batch: what the evaluator does with the images before that.
        identity: what tells it from another one.
    """

    name: str
    metric: CopyDetectionMetric
    network: nn.Module
    prepare_batch: Callable[..., Any]
    identity: EmbedderIdentity
    _search: Callable[[Tensor, int], tuple[Tensor, Tensor]] | None = None

    def fit(self, training: EmbeddedImages, device: torch.device) -> None:
        """Take the representations of the training images.

        Args:
            training: as stored.
            device: where cosines are computed.

        Raises:
            UnusableInputError: when the detector needs more images than there are.
        """
        if type(self.metric).compare is CopyDetectionMetric.compare:
            # Streams from the shards, which may be larger than memory.
            neighbors = NearestNeighbors(1, device=device).fit(training.embeddings)

            def search(queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
                neighbors.num_neighbors = k
                return neighbors.query(queries)

            self._search = search
            return
        try:
            self.metric.fit_representations(_rows(training))
        except ValueError as error:
            raise UnusableInputError(f"--detector {self.name}: {error}.") from error
        self._search = self.metric.search

    def search(self, images: EmbeddedImages, num_neighbors: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest training images.

        Args:
            images: as stored.
            num_neighbors: how many, k.

        Returns:
            Scores float64 ``(N, k)``, descending, and rows of the training images int64 ``(N, k)``.
        """
        assert self._search is not None, "fit comes first"
        scores, rows = self._search(_rows(images), num_neighbors)
        return np.round(scores.cpu().numpy().astype(np.float64), _SCORE_DIGITS), rows.cpu().numpy()

    def compare(self, images: EmbeddedImages, training: EmbeddedImages, pairs: np.ndarray) -> np.ndarray:
        """Score pairs.

        Args:
            images: as stored.
            training: as stored, the ones that were fitted.
            pairs: int64 ``(P, 2)``, positions in the lists of the two.

        Returns:
            float64 ``(P,)``, higher is closer.
        """
        first = _rows(images.subset(np.searchsorted(images.indices, pairs[:, 0])))
        second = _rows(training.subset(np.searchsorted(training.indices, pairs[:, 1])))
        return np.round(self.metric.compare_pairs(first, second).cpu().numpy().astype(np.float64), _SCORE_DIGITS)


def _rows(images: EmbeddedImages) -> Tensor:
    return torch.from_numpy(np.concatenate(images.embeddings))


class _Representation(nn.Module):
    """A detector's representation as the network that MONAI's evaluator calls."""

    def __init__(self, metric: CopyDetectionMetric) -> None:
        super().__init__()
        self.metric = metric

    def forward(self, images: Tensor) -> Tensor:
        return self.metric.represent_batch(images)


def load_detector(options: SearchOptions) -> AuditDetector:
    """Load the detector that the options name.

    Args:
        options: their ``detector``, ``checkpoint``, ``device`` and ``image_size`` are used.

    Returns:
        The detector, not fitted yet.

    Raises:
        UnusableInputError: when it needs weights that were not given, takes none, or they do not fit.
    """
    name = options.detector
    if name == "deepssim":
        network, identity = _load_embedder(options)
        metric: CopyDetectionMetric = DeepSSIMDetector(network, device=options.device)
        return AuditDetector(name, metric, network, prepare_standardized_batch, identity)
    kind = SUPPORTED_DETECTORS[name]
    takes_weights = "embedder" in inspect.signature(kind).parameters
    path = options.checkpoint
    if not takes_weights and path is not None:
        raise UnusableInputError(f"--checkpoint: --detector {name} has no weights. Leave the option out.")
    if takes_weights and path is None:
        if name not in _ON_DEEPSSIM:
            raise UnusableInputError(
                f"--checkpoint: was not given, but --detector {name} needs weights. Give the path of its checkpoint."
            )
        path = shipped_weights()
    if takes_weights:
        assert path is not None
        if not path.exists():
            raise UnusableInputError(f"--checkpoint: there is no {path}. Give the path of the weights of {name}.")
        metric = kind(path, device=options.device)  # type: ignore[call-arg, arg-type]
    else:
        metric = kind(device=options.device)
    probe = metric.represent_batch(torch.rand(1, 1, *options.image_size))
    # CLIP's weights may be a folder.
    files = [] if path is None else sorted(file for file in path.rglob("*") if file.is_file()) or [path]
    content = b"".join(file.read_bytes() for file in files)
    identity = EmbedderIdentity(
        name=kind.title,
        checkpoint=path,
        sha256=hashlib.sha256(name.encode() + b"\0" + content).hexdigest(),
        embedding_dim=int(probe.shape[1]),
    )
    return AuditDetector(name, metric, _Representation(metric), prepare_image_batch, identity)


def _load_embedder(options: SearchOptions) -> tuple[nn.Module, EmbedderIdentity]:
    """The DeepSSIM embedder that the options name, and what identifies it."""
    network = load_embedder(options.checkpoint, device=options.device)
    path = options.checkpoint or shipped_weights()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    try:
        with torch.inference_mode():
            probe = network(torch.zeros(1, 1, *options.image_size, device=options.device))
    except RuntimeError as error:
        raise UnusableInputError(
            f"--checkpoint: {path} does not take images of {options.image_size[0]} x {options.image_size[1]} with one "
            f"channel ({str(error).strip().splitlines()[-1]}). Give the weights of a DeepSSIM embedder."
        ) from error
    identity = EmbedderIdentity(
        name=f"{getattr(network, 'original_name', type(network).__name__)}, {parameters / 1e6:.1f} M parameters",
        checkpoint=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        embedding_dim=int(probe.shape[1]),
    )
    return network, identity
