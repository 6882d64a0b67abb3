"""The detector of an audit: what represents the images, and what finds the nearest training images."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_deepssim.audit.embedded_side import EmbedderIdentity
from monai_deepssim.audit.embedder import load_embedder, shipped_weights
from monai_deepssim.audit.search_options import SearchOptions
from monai_deepssim.engines import EmbeddedImages, ShardedSearch, prepare_image_batch, prepare_standardized_batch
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import SUPPORTED_DETECTORS, CopyDetectionMetric, DeepSSIMDetector, make_detector
from monai_deepssim.search import SearchRecall

__all__ = ["AuditDetector", "load_detector"]

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
        engine: what searches; ``None`` for the exact search, until that takes too long.
    """

    name: str
    metric: CopyDetectionMetric
    network: nn.Module
    prepare_batch: Callable[..., Any]
    identity: EmbedderIdentity
    engine: str | None = None
    _search: ShardedSearch = field(init=False)

    def __post_init__(self) -> None:
        self._search = ShardedSearch(self.metric, self.engine)

    @property
    def recall(self) -> SearchRecall:
        """How much of what the exact search finds the search finds, measured by the first one."""
        return self._search.recall

    def fit(self, training: EmbeddedImages, num_queries: int = 0) -> None:
        """Take the representations of the training images, which stay on the disk where cosines are compared.

        Args:
            training: the training side, as stored.
            num_queries: images that will be looked up.

        Raises:
            UnusableInputError: when the detector needs more images than there are.
        """
        try:
            self._search.fit(training.embeddings, num_queries)
        except ValueError as error:
            raise UnusableInputError(f"--detector {self.name}: {error}.") from error

    def search(
        self, images: EmbeddedImages, num_neighbors: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest training images.

        Args:
            images: the images' embeddings, as stored.
            num_neighbors: number of neighbours, k.
            among: bool ``(M,)``, which training images may be found; only where :attr:`searches_among`.

        Returns:
            Scores float64 ``(N, k)``, descending, and rows of the training images int64 ``(N, k)``.
        """
        allowed = None if among is None else torch.from_numpy(among)
        scores, rows = self._search.search(_representations(images), num_neighbors, allowed)
        return _rounded(scores), rows.cpu().numpy()

    @property
    def searches_among(self) -> bool:
        """Whether a search can be confined to some training images."""
        return self.metric.searches_parts

    def compare(self, images: EmbeddedImages, training: EmbeddedImages, pairs: np.ndarray) -> np.ndarray:
        """Score pairs.

        Args:
            images: the images' embeddings, as stored.
            training: as stored, the ones that were fitted.
            pairs: int64 ``(P, 2)``, rows of the two.

        Returns:
            float64 ``(P,)``, higher is closer.
        """
        first, second = images.subset(pairs[:, 0]), training.subset(pairs[:, 1])
        return _rounded(self.metric.compare_pairs(_representations(first), _representations(second)))


def _representations(images: EmbeddedImages) -> Tensor:
    return torch.from_numpy(np.concatenate(images.embeddings)).float()


def _rounded(scores: Tensor) -> np.ndarray:
    return np.round(scores.cpu().numpy().astype(np.float64), _SCORE_DIGITS)


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
        options: their ``detector``, ``detector_options``, ``checkpoint``, ``allow_torchscript``, ``device`` and
            ``image_size`` are used.

    Returns:
        The detector, not fitted yet.

    Raises:
        UnusableInputError: when it needs weights that were not given, takes none, or they do not fit.
    """
    name, path, arguments = options.detector, options.checkpoint, options.detector_options
    kind = SUPPORTED_DETECTORS[name]
    weights = inspect.signature(kind).parameters.get("embedder")
    if weights is None and path is not None:
        raise UnusableInputError(f"--checkpoint: --detector {name} has no weights. Leave the option out.")
    if weights is not None and weights.default is weights.empty and path is None:
        if kind.shipped_weights is None:
            raise UnusableInputError(
                f"--checkpoint: was not given, but --detector {name} needs weights. Give the path of its checkpoint."
            )
        path = shipped_weights(kind.shipped_weights)
    if path is not None and not path.exists():
        raise UnusableInputError(f"--checkpoint: {path} is not a file or folder. Give the path of {name}'s weights.")
    is_deepssim = kind is DeepSSIMDetector
    network, identity = _load_embedder(options) if is_deepssim else (None, None)
    try:
        metric = make_detector(name, network or path, device=options.device, **arguments)
    except UnusableInputError as error:
        raise UnusableInputError(f"--detector {name}: {error}") from error
    if network is not None and identity is not None:
        return AuditDetector(name, metric, network, prepare_standardized_batch, identity, options.search)
    try:
        probe = metric.represent_batch(torch.rand(1, 1, *options.image_size))
    except ValueError as error:
        raise UnusableInputError(f"--detector {name}: {error}.") from error
    # CLIP's weights may be a folder.
    files = [] if path is None else sorted(file for file in path.rglob("*") if file.is_file()) or [path]
    content = [name.encode() + b"\0", *(file.read_bytes() for file in files)]
    if arguments:
        content.append(repr(sorted(arguments.items())).encode())
    identity = EmbedderIdentity(
        name=kind.title,
        checkpoint=path,
        sha256=hashlib.sha256(b"".join(content)).hexdigest(),
        embedding_dim=int(probe.shape[1]),
    )
    return AuditDetector(name, metric, _Representation(metric), prepare_image_batch, identity, options.search)


def _load_embedder(options: SearchOptions) -> tuple[nn.Module, EmbedderIdentity]:
    """The DeepSSIM embedder that the options name, and what identifies it."""
    network = load_embedder(options.checkpoint, device=options.device, allow_torchscript=options.allow_torchscript)
    path = options.checkpoint or shipped_weights()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    try:
        with torch.inference_mode():
            probe = network(torch.zeros(1, 1, *options.image_size, device=options.device))
    except RuntimeError as error:
        raise UnusableInputError(
            f"--checkpoint: {path} does not take images of {' x '.join(map(str, options.image_size))} with one channel "
            f"({str(error).strip().splitlines()[-1]}). Give the weights of a DeepSSIM embedder."
        ) from error
    identity = EmbedderIdentity(
        name=f"{getattr(network, 'original_name', type(network).__name__)}, {parameters / 1e6:.1f} M parameters",
        checkpoint=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        embedding_dim=int(probe.shape[1]),
    )
    return network, identity
