"""Images to embeddings with MONAI's evaluator, kept on disk in shards so that an interrupted run is continued.

The work is split in shards. A shard is one run of a :class:`~monai.engines.SupervisedEvaluator`, and its two files
appear by an atomic rename when it is complete, so a run that was killed at any moment leaves only whole shards behind,
and the next run computes the others. Several ranks share the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer
from monai.utils import CommonKeys
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from monai_deepssim.data import CHANGED, ImageDataset
from monai_deepssim.engines.embedded_images import NOTICED, EmbeddedImages
from monai_deepssim.engines.embedding_store import SIZE_COLUMNS, EmbeddingStore
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.networks import prepare_for_inference
from monai_deepssim.progress import progress_bar
from monai_deepssim.ranks import current_ranks
from monai_deepssim.similarity import standardize

__all__ = ["create_embedding_evaluator", "embed_images", "prepare_image_batch", "prepare_standardized_batch"]


def prepare_standardized_batch(
    batchdata: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Move a batch's images to the device and z-score each of them, as the embedders expect.

    A MONAI ``prepare_batch``: there is no label, so the second item is ``None``.

    Args:
        batchdata: has ``image`` of shape ``(N, 1, rows, columns)``, in [0, 1].
        device: where the network is.
        non_blocking: whether the copy to the device may overlap with other work.
        kwargs: further arguments of :meth:`torch.Tensor.to`.

    Returns:
        The standardised images ``(N, 1, rows, columns)``, and ``None``.

    Example:
        >>> image, label = prepare_standardized_batch({"image": torch.rand(2, 1, 8, 8)}, device="cpu")
        >>> image.shape, label, round(float(image[0].mean()), 4) == 0
        (torch.Size([2, 1, 8, 8]), None, True)
    """
    return standardize(prepare_image_batch(batchdata, device, non_blocking, **kwargs)[0]), None


def prepare_image_batch(
    batchdata: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Move a batch's images to the device as they are, for detectors that scale images themselves.

    A MONAI ``prepare_batch``, see :func:`prepare_standardized_batch`.

    Args:
        batchdata: has ``image`` of shape ``(N, 1, rows, columns)``, in [0, 1].
        device: where the network is.
        non_blocking: whether the copy to the device may overlap with other work.
        kwargs: further arguments of :meth:`torch.Tensor.to`.

    Returns:
        The images ``(N, 1, rows, columns)``, float32, and ``None``.

    Example:
        >>> image, label = prepare_image_batch({"image": torch.ones(2, 1, 8, 8)}, device="cpu")
        >>> float(image.mean()), label
        (1.0, None)
    """
    image = torch.as_tensor(batchdata[CommonKeys.IMAGE]).to(device=device, non_blocking=non_blocking, **kwargs)
    return image.float(), None


def create_embedding_evaluator(
    network: nn.Module,
    data_loader: Iterable,
    *,
    device: str | torch.device = "cpu",
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
    prepare_batch: Callable[..., Any] = prepare_standardized_batch,
) -> SupervisedEvaluator:
    """Make the MONAI evaluator whose ``engine.state.output`` holds a batch of embeddings under ``pred``.

    The images are standardised, the network is in eval mode and gradients are off.

    Args:
        network: standardised images ``(N, 1, rows, columns)`` to embeddings ``(N, D)``.
        data_loader: batches with ``image`` ``(N, 1, rows, columns)`` in [0, 1], such as those of
            :class:`~monai_deepssim.data.ImageDataset`.
        device: where to compute.
        inferer: how the network is called; MONAI's ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach, as MONAI's ``val_handlers``.
        prepare_batch: what becomes of a batch before the network.

    Returns:
        The evaluator, not yet run.

    Example:
        >>> images = [{"image": torch.rand(1, 8, 8)} for _ in range(3)]
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        >>> evaluator = create_embedding_evaluator(network, DataLoader(images, batch_size=3))
        >>> evaluator.run()
        >>> evaluator.state.output["pred"].shape
        torch.Size([3, 4])
    """
    return SupervisedEvaluator(
        device=torch.device(device),
        val_data_loader=data_loader,
        non_blocking=True,
        network=network.to(device),
        prepare_batch=prepare_batch,
        inferer=inferer,
        val_handlers=list(handlers),
        # Decollating would turn a batch of embeddings into a list of single ones, only to be stacked again.
        decollate=False,
    )


def embed_images(
    network: nn.Module,
    store: EmbeddingStore,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str | torch.device = "cpu",
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
    prepare_batch: Callable[..., Any] = prepare_standardized_batch,
    description: str = "images",
) -> EmbeddedImages:
    """Embed every image of a store that is not embedded yet, and return the embeddings of all of them.

    An image whose file cannot be read, or whose embedding is not finite, gets no embedding but an entry in
    :attr:`EmbeddedImages.problems`. A progress bar counts images.

    Args:
        network: standardised images ``(N, 1, rows, columns)`` to embeddings ``(N, D)``; of an embedder of this package
            a faster copy is used (:func:`~monai_deepssim.networks.prepare_for_inference`).
        store: where the shards are kept, and which images they are of.
        batch_size: images per step.
        num_workers: processes that read images; 0 reads in this one.
        device: where to compute.
        inferer: how the network is called; MONAI's ``SimpleInferer`` by default.
        handlers: Ignite handlers to attach to the evaluators.
        prepare_batch: what becomes of a batch before the network.
        description: what the progress bar calls the images.

    Returns:
        The embeddings, memory-mapped, with what was noticed about each image.

    Raises:
        UnusableInputError: if the store holds other images (:meth:`EmbeddingStore.open`), cannot be written, the
            memory of the device does not suffice, or a file has changed since it was hashed.

    Example:
        >>> import tempfile, numpy as np
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(f"{folder}/a.png")
        >>> items = [{"image": f"{folder}/a.png", "path": "a.png", "patient_id": "", "slice": None, "slice_axis": 2}]
        >>> store = EmbeddingStore(f"{folder}/shards", items, image_size=(64, 64), embedder_id="an example")
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 4))
        >>> embed_images(network, store).embeddings[0].shape
        (1, 4)
    """
    store.open()
    missing = store.missing(batch_size)
    reader = _Reader(
        ImageDataset(store.hashed_items, image_size=store.image_size),
        missing,
        batch_size=batch_size,
        num_workers=num_workers,
        # From pinned memory a batch is copied to a GPU while the one before it is embedded.
        pin_memory=torch.device(device).type == "cuda",
    )
    bar = progress_bar(
        total=len(store.items), initial=store.num_known, desc=description, unit=" images", disable=not missing
    )
    prepared = prepare_for_inference(network)

    def embed(number: int) -> bytes:
        collector = _BatchCollector(bar)
        evaluator = create_embedding_evaluator(
            prepared,
            reader.batches(number),
            device=device,
            inferer=inferer,
            handlers=[collector, *handlers],
            prepare_batch=prepare_batch,
        )
        _run(evaluator, batch_size, num_workers, device)
        notes = pd.concat(collector.notes)
        for problem in notes.loc[notes["problem_kind"] == CHANGED, "problem"]:
            raise UnusableInputError(problem)
        store.write(missing[number], np.concatenate(collector.embeddings), notes)
        return b""

    with bar, closing(reader):
        current_ranks().share(len(missing), embed)
    store.complete()
    return store.load()


def _run(evaluator: SupervisedEvaluator, batch_size: int, num_workers: int, device: str | torch.device) -> None:
    """Run an evaluator; what it lacks is told in words."""
    # Ignite logs an exception before it raises it again; the caller reports it, once.
    evaluator.logger.disabled = True
    try:
        evaluator.run()
    except torch.OutOfMemoryError as error:
        raise UnusableInputError(
            f"batch_size {batch_size}: {device} is out of memory. Give a smaller batch_size."
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UnusableInputError(
            f"num_workers {num_workers}: a process that reads images ended unexpectedly ({error}). "
            "Give num_workers 0, which reads them in the main process."
        ) from error


class _Reader:
    """Reads the batches of parts of a dataset.

    One rank takes all parts in their order, so that one loader reads them: processes start once, and read ahead beyond
    the end of a part. Of several ranks nobody knows which part comes next, and each part has a loader. An engine leaves
    a loader at its last batch, where its processes wait for more: they are told to end by :meth:`close`, since what is
    left to the garbage collector waits 5 s for each.

    Args:
        dataset: what is read.
        parts: positions in it, of each part.
        batch_size: items per batch.
        arguments: further ones of the loaders.
    """

    def __init__(self, dataset: Dataset, parts: Sequence[np.ndarray], batch_size: int, **arguments: Any) -> None:
        self._dataset, self._arguments = dataset, arguments
        self._batches = [np.split(part, range(batch_size, len(part), batch_size)) for part in parts]
        self._reading: Generator[Any, None, None] | None = None

    def batches(self, number: int) -> Iterable[Any]:
        """The batches of a part, an iterable with a length."""
        is_alone = current_ranks().size == 1
        if self._reading is None or not is_alone:
            self.close()
            parts = self._batches[number:] if is_alone else self._batches[number : number + 1]
            self._reading = _iterate(self._loader(chain.from_iterable(parts)))
        return _Next(self._reading, len(self._batches[number]))

    def close(self) -> None:
        """End the processes that read."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None

    def _loader(self, batches: Iterable[np.ndarray]) -> DataLoader:
        return DataLoader(self._dataset, batch_sampler=[batch.tolist() for batch in batches], **self._arguments)


def _iterate(loader: DataLoader) -> Generator[Any, None, None]:
    """Iterate a loader whose processes start with the first batch."""
    yield from loader


@dataclass(frozen=True)
class _Next:
    """So many of the next entries of an iterator."""

    iterator: Iterator[Any]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.iterator, self.count)


class _BatchCollector:
    """Keeps what the evaluator computes for one shard, as an Ignite handler."""

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar
        self.embeddings: list[np.ndarray] = []
        self.notes: list[pd.DataFrame] = []

    def attach(self, engine: SupervisedEvaluator) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: SupervisedEvaluator) -> None:
        batch = engine.state.batch
        embeddings = engine.state.output[CommonKeys.PRED].float().cpu().numpy()
        sides = dict(zip(SIZE_COLUMNS, map(np.asarray, batch["original_size"]), strict=False))
        notes = pd.DataFrame(
            {
                "problem": batch["problem"],
                "problem_kind": batch["problem_kind"],
                "converted": np.asarray(batch["converted"], dtype=bool),
                **sides,
                **{name: np.asarray(batch[name], dtype=bool) for name in NOTICED},
            }
        )
        has_direction = np.isfinite(embeddings).all(axis=1) & (embeddings != 0).any(axis=1)
        no_direction = "the embedder gives zeros, NaN or infinite numbers for it"
        notes.loc[~has_direction & (notes["problem"] == ""), "problem"] = no_direction
        self.embeddings.append(embeddings)
        self.notes.append(notes)
        self.bar.update(len(embeddings))
