"""The shape that all copy detectors share: fit on training images, score synthetic ones, name the nearest."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from monai.metrics.metric import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics.uneven_shares import SyncsUnevenShares
from monai_deepssim.search import SEARCH_ENGINES, Embeddings, NearestNeighbors, make_neighbors, search_by_similarity

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CopyDetectionMetric", "SearchStages"]


class SearchStages(NamedTuple):
    """A search of the training images, with what each of its stages kept: it shows where a copy was lost.

    Unused places of a row of ``proposed`` and ``kept`` hold -1.
    """

    #: float ``(N, k)``, the highest first.
    scores: Tensor
    #: int64 ``(N, k)``, training images with these scores.
    indices: Tensor
    #: int64 ``(N, P)``, training images that a search proposed.
    proposed: Tensor
    #: int64 ``(N, K)``, the proposed training images that were compared on the pixels.
    kept: Tensor


class CopyDetectionMetric(SyncsUnevenShares, CumulativeIterationMetric, ABC):
    """Finds the training image that each synthetic image is nearest to, by a representation and a similarity.

    ``fit(training_loader)`` once, then ``metric(synthetic_images)`` batch by batch: each call gives ``(B, 2)``, the
    highest similarity to a training image and the index of that image. ``aggregate()`` is the copy fraction: the share
    of the synthetic images, of all ranks, whose score is above the threshold.

    An image with a NaN or infinite pixel, or whose representation has such a number or no direction, has no score: it
    gets NaN and -1, and is left out of the copy fraction. Among the training images it is an error.

    A detector is a subclass in a file of its own in ``metrics/detectors``: it has to say how an image is represented,
    and, where that is not the cosine of two representations, how two are compared. The first line of its docstring and
    ``needs`` are its row in the table of ``docs/detectors.md``.

    Args:
        threshold: score above which an image is a copy; ``default_threshold`` of the class if that is ``None``.
        device: where images are represented; the representations are kept on the CPU.

    Example:
        >>> class MeanIntensity(CopyDetectionMetric):
        ...     def represent(self, images):
        ...         return images.mean((2, 3))
        ...
        ...     def compare(self, queries, training):
        ...         return -torch.cdist(queries, training)
        >>> metric = MeanIntensity(threshold=-0.1).fit([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
        >>> metric(torch.full((1, 1, 8, 8), 0.75))
        tensor([[-0.2500,  1.0000]])
        >>> metric.aggregate()
        tensor(0.)
    """

    #: Name in tables.
    title: ClassVar[str] = ""
    #: What has to be given to run it.
    needs: ClassVar[str] = "nothing"
    #: File below the folder of the bundles with the weights that it runs on where no others are given.
    shipped_weights: ClassVar[str | None] = None
    #: Score above which an image is a copy, if the method's authors gave one; their source in words.
    default_threshold: ClassVar[float | None] = None
    threshold_source: ClassVar[str] = ""
    threshold_is_of_any_weights: ClassVar[bool] = True
    #: Numbers of spatial dimensions of the images that it takes.
    spatial_dims: ClassVar[tuple[int, ...]] = (2,)
    #: Whether all images have to have one size.
    wants_one_size: ClassVar[bool] = False

    def __init__(self, threshold: float | None = None, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.threshold = self.default_threshold if threshold is None else threshold
        self.device = torch.device("cpu" if device is None else device)
        self._image_shape: torch.Size | None = None
        self._training: Embeddings | None = None
        self._neighbors: NearestNeighbors | None = None
        self._engine = SEARCH_ENGINES[0]

    def prepare_embedder(
        self, embedder: nn.Module | str | os.PathLike[str], load: Callable[[str | os.PathLike[str]], nn.Module]
    ) -> nn.Module:
        """Bring a network to the device, in eval mode.

        Args:
            embedder: the network, or the path of its weights.
            load: reads such a file.

        Returns:
            The network.
        """
        network = embedder if isinstance(embedder, nn.Module) else load(embedder)
        return network.to(self.device).eval()

    @property
    def image_shape(self) -> torch.Size:
        """Of the images that were represented, such as ``(1, H, W)``.

        Raises:
            RuntimeError: before any was.
        """
        if self._image_shape is None:
            raise RuntimeError(
                f"{type(self).__name__} has not represented any image yet: call fit(training_loader) first"
            )
        return self._image_shape

    @property
    def _compares_by_cosine(self) -> bool:
        return type(self).compare is CopyDetectionMetric.compare

    @property
    def searches_parts(self) -> bool:
        """Whether searches of parts of the training set, put together, find what a search of all of it finds.

        So it is for a detector that compares two representations and has no search of its own.
        """
        kind, base = type(self), CopyDetectionMetric
        return kind.search is base.search and kind.fit_representations is base.fit_representations

    @abstractmethod
    def represent(self, images: Tensor) -> Tensor:
        """Represent images.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1], float32, on ``self.device``.

        Returns:
            ``(B, D)``, finite.
        """

    def compare(self, queries: Tensor, training: Tensor) -> Tensor:
        """Compare each of the one with each of the other: their cosine, where a subclass does not say otherwise.

        Args:
            queries: representations ``(n, D)``.
            training: representations ``(m, D)``.

        Returns:
            ``(n, m)``, higher is closer.
        """
        return _unit_rows(queries) @ _unit_rows(training).T

    def compare_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare each of the one with its partner in the other.

        Args:
            first: representations ``(n, D)``.
            second: representations ``(n, D)``.

        Returns:
            ``(n,)``, higher is closer.
        """
        if self._compares_by_cosine:
            return (_unit_rows(first) * _unit_rows(second)).sum(1)
        pairs = zip(first.split(1), second.split(1), strict=True)
        return torch.cat([self.compare(one, other).flatten() for one, other in pairs])

    def fit(self, training_images: Iterable[Tensor | Mapping[str, Any]]) -> Self:
        """Represent the training images.

        Args:
            training_images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``, as a
                DataLoader gives them.

        Returns:
            This object.

        Raises:
            ValueError: when there are none.
        """
        return self.fit_representations(self.represent_all(training_images))

    def represent_all(self, images: Iterable[Tensor | Mapping[str, Any]]) -> Tensor:
        """Represent the images of a loader.

        Args:
            images: batches ``(B, 1, H, W)`` in [0, 1], or dictionaries with such an ``image``.

        Returns:
            ``(N, D)`` float32 on the CPU.

        Raises:
            ValueError: when there are none, or a pixel is NaN or infinite.
        """
        batches = []
        for number, batch in enumerate(images):
            tensor = batch["image"] if isinstance(batch, Mapping) else batch
            batches.append(self.represent_batch(tensor))
            broken = (~_is_finite(tensor)).nonzero().flatten().tolist()
            if broken:
                raise ValueError(
                    f"got NaN or infinite pixels in image(s) {broken[:5]} of batch {number}: leave them out"
                )
        if not batches:
            raise ValueError("there are no images to represent: the loader gave no batch")
        return torch.cat(batches)

    def fit_representations(self, training: Embeddings) -> Self:
        """Take representations that were computed before.

        Args:
            training: ``(M, D)``, of :meth:`represent_batch`, or a sequence of shards of it. Where representations are
                compared by their cosine, shards may be larger than memory.

        Returns:
            This object.

        Raises:
            UnusableInputError: when one that is compared by its cosine is all zeros or not finite.
        """
        self._training = training
        is_cosine = self._compares_by_cosine
        self._neighbors = make_neighbors(self._engine, self.device).fit(training) if is_cosine else None
        return self

    def use_engine(self, engine: str) -> Self:
        """Search with an index of FAISS, from the next fit on.

        Args:
            engine: one of :data:`~monai_deepssim.search.SEARCH_ENGINES`.

        Returns:
            This object.

        Raises:
            UnusableInputError: when this detector compares by something else than a cosine, which no index knows, or
                FAISS is not installed.
        """
        if engine != SEARCH_ENGINES[0] and not self.searches_by_cosine:
            raise UnusableInputError(
                f"--search {engine}: searches by the cosine of embeddings, and {self.title or type(self).__name__} has "
                "a search of its own. Give --search exact, or leave the option out."
            )
        make_neighbors(engine)
        self._engine = engine
        return self

    @property
    def searches_by_cosine(self) -> bool:
        """Whether the nearest are found by the cosine of representations, so that an index can find them."""
        return self._compares_by_cosine and self.searches_parts

    @property
    def uses_index(self) -> bool:
        """Whether an index searches, and not the exact search."""
        return self._engine != SEARCH_ENGINES[0]

    @property
    def neighbors(self) -> NearestNeighbors | None:
        """The search among the representations that were fitted; ``None`` where they are not compared by a cosine."""
        return self._neighbors

    @property
    def training_representations(self) -> Tensor:
        """Those that were fitted, ``(M, D)``.

        Raises:
            RuntimeError: before :meth:`fit`.
        """
        if self._training is None:
            raise RuntimeError(f"{type(self).__name__} has no training images yet: call fit(training_loader) first")
        if not isinstance(self._training, Tensor):
            self._training = torch.from_numpy(np.concatenate(self._training)).float()
        return self._training

    @torch.no_grad()
    def represent_batch(self, images: Tensor) -> Tensor:
        """Represent images wherever they are, and bring the result to the CPU.

        Args:
            images: ``(B, 1, H, W)`` in [0, 1].

        Returns:
            ``(B, D)`` float32 on the CPU.

        Raises:
            ValueError: when the shape is another, or differs from that of earlier images where all have to be of one
                size.
        """
        self._check_shape(images)
        plain = convert_to_tensor(images, dtype=torch.float32, track_meta=False, device=self.device)
        return self.represent(plain).float().cpu()

    def _check_shape(self, images: Any) -> None:
        if not isinstance(images, Tensor) or images.ndim - 2 not in self.spatial_dims or images.shape[1] != 1:
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images)
            shapes = {2: "(B, 1, H, W)", 3: "(B, 1, X, Y, Z)"}
            wanted = " or ".join(shapes[dims] for dims in self.spatial_dims)
            raise ValueError(f"got images {got}, want {wanted} in [0, 1]: {type(self).__name__} takes no others")
        if not self.wants_one_size:
            return
        if self._image_shape is not None and images.shape[1:] != self._image_shape:
            raise ValueError(
                f"got images of {tuple(images.shape[2:])} pixels after others of {tuple(self._image_shape[1:])}: bring "
                "all to one size, such as with FitImageSize"
            )
        self._image_shape = images.shape[1:]

    def search(self, representations: Tensor, num_neighbors: int = 1) -> tuple[Tensor, Tensor]:
        """Find the training images that are most similar.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.

        Returns:
            ``(scores, indices)``, both ``(N, k)``, the most similar first.
        """
        return self.search_among(representations, num_neighbors, None)

    def search_among(self, representations: Tensor, num_neighbors: int, among: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find the most similar of some training images; only for a detector that :attr:`searches_parts`.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.
            among: bool ``(M,)``, which training images may be found; ``None`` for all.

        Returns:
            As :meth:`search`; fewer columns where fewer may be found.
        """
        if self._neighbors is not None:
            return self._neighbors.kneighbors(representations, num_neighbors, among)
        training = self.training_representations
        rows = torch.arange(len(training)) if among is None else among.nonzero().flatten()
        if not len(rows):
            return torch.empty(len(representations), 0), torch.empty(len(representations), 0, dtype=torch.int64)
        training = training if among is None else training[rows]
        scores, indices = search_by_similarity(representations, training, self.compare, num_neighbors)
        return scores, rows[indices]

    def search_stages(self, representations: Tensor, num_neighbors: int = 1) -> SearchStages:
        """Find the training images that are most similar, and report what each stage of the search kept.

        Args:
            representations: ``(N, D)``, of :meth:`represent_batch`.
            num_neighbors: number of neighbours, k.

        Returns:
            Scores, indices and stages. A detector of one stage proposes and keeps what it finds.
        """
        scores, indices = self.search(representations, num_neighbors)
        return SearchStages(scores, indices, indices, indices)

    def score_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Score each image of one batch against its partner in another.

        Args:
            x: ``(B, 1, H, W)`` in [0, 1].
            y: the same.

        Returns:
            ``(B,)``, higher is closer.
        """
        return self.compare_pairs(self.represent_batch(x), self.represent_batch(y))

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        self._check_shape(y_pred)
        output = torch.tensor([torch.nan, -1.0]).repeat(len(y_pred), 1)
        scored = _is_finite(y_pred).cpu().nonzero().flatten()
        if len(scored):
            # As they are where all have a score: a copy may lie elsewhere in memory, and round otherwise.
            representations = self.represent_batch(y_pred if len(scored) == len(y_pred) else y_pred[scored])
            usable = representations.isfinite().all(1)
            if self._compares_by_cosine:
                usable &= (representations != 0).any(1)
            scored = scored[usable]
            if len(scored):
                scores, indices = self._find_nearest(y_pred[scored], representations[usable])
                output[scored] = torch.stack([scores.to(output), indices.to(output)], dim=1)
        return output

    def _find_nearest(self, images: Tensor, representations: Tensor) -> tuple[Tensor, Tensor]:
        """The highest score ``(n,)`` of each image, and the training image ``(n,)`` that it belongs to."""
        scores, indices = self.search(representations)
        return scores[:, 0], indices[:, 0]

    def aggregate(self) -> Tensor:  # type: ignore[override]
        """The copy fraction: the share of all scores since ``reset()`` that is above the threshold.

        Returns:
            A scalar tensor; NaN when nothing was scored. An image with NaN or infinite pixels has no score, and is left
            out.

        Raises:
            ValueError: when there is no threshold.
        """
        if self.threshold is None:
            raise ValueError(f"{type(self).__name__} has no published threshold: give one, or read get_buffer()")
        buffer = self.get_buffer()
        if buffer is None or len(buffer) == 0:
            return torch.tensor(torch.nan)
        scores = buffer[:, 0][~buffer[:, 0].isnan()]
        return (scores > self.threshold).float().mean()  # of none it is NaN


def _is_finite(images: Tensor) -> Tensor:
    """Whether all pixels of each image are finite numbers, ``(B,)``."""
    return images.flatten(1).isfinite().all(1)


def _unit_rows(rows: Tensor) -> Tensor:
    # Not F.normalize, which would turn a row of zeros into a similarity of 0 with everything, unnoticed.
    lengths = torch.linalg.vector_norm(rows.double(), dim=1, keepdim=True)
    return rows.double() / lengths
