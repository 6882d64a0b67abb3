"""What tests of the handlers run, in one process and in each of two, where a spawned process can import it."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler, from_engine
from sklearn.metrics.pairwise import cosine_similarity
from torch import distributed

from monai_deepssim.handlers import DeepSSIMHandler, MemorizationHandler
from monai_deepssim.metrics import MemorizationMetric
from monai_deepssim.similarity import standardize


def make_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Six training images, and five inputs of the generator, two of which are training images."""
    generator = torch.Generator().manual_seed(0)
    training_images, others = torch.rand(2, 6, 1, 16, 16, generator=generator)
    return training_images, torch.cat([training_images[[4, 2]], others[:3]])


def make_embedder() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 16, 64))


def make_generator() -> torch.nn.Module:
    """Gives back what it gets, nearly."""
    generator = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(generator.weight, 0.9)
    torch.nn.init.constant_(generator.bias, 0.05)
    return generator


def make_loader(images: torch.Tensor, batch_size: int) -> DataLoader:
    # The label is mirrored, so that a score of an image with its label is not 1.
    items = [{"image": image, "label": image.flip(-1)} for image in images]
    return DataLoader(Dataset(items), batch_size=batch_size)


def train_and_validate(
    *,
    training_share: torch.Tensor,
    validation_share: torch.Tensor,
    batch_size: int,
    decollate: bool,
    key_metric: str,
    cache_path: Path | None = None,
    epochs: int = 2,
) -> tuple[torch.nn.Module, SupervisedEvaluator]:
    """Train a generator with validation after every epoch; the metric that is not the key is an additional one."""
    network = make_generator()
    in_training = torch.nn.parallel.DistributedDataParallel(network) if distributed.is_initialized() else network
    metrics = {
        "copy_fraction": MemorizationHandler(make_embedder(), make_loader(training_share, 4), cache_path=cache_path),
        "deepssim": DeepSSIMHandler(make_embedder(), output_transform=from_engine(["pred", "label"])),
    }
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=make_loader(validation_share, batch_size),
        network=network,
        key_val_metric={key_metric: metrics.pop(key_metric)},
        additional_metrics=metrics,
        metric_cmp_fn=lambda current, best: current < best,
        decollate=decollate,
    )
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=make_loader(make_images()[0], 3),
        network=in_training,
        optimizer=torch.optim.SGD(in_training.parameters(), lr=0.01),
        loss_function=torch.nn.MSELoss(),
        key_train_metric={
            "train_deepssim": DeepSSIMHandler(make_embedder(), output_transform=from_engine(["pred", "label"]))
        },
        train_handlers=[ValidationHandler(interval=1, validator=evaluator)],
        decollate=decollate,
    ).run()
    return network, evaluator


def check(network: torch.nn.Module, evaluator: SupervisedEvaluator, key_metric: str) -> None:
    """Compare with scikit-learn's cosines of what the trained network makes of all the validation images."""
    training_images, inputs = make_images()
    embedder = make_embedder()
    with torch.no_grad():
        predictions, labels, training = (
            embedder(standardize(images)) for images in (network(inputs), inputs.flip(-1), training_images)
        )
    nearest = torch.from_numpy(cosine_similarity(predictions, training).max(1))
    pairs = torch.from_numpy(cosine_similarity(predictions, labels).diagonal().copy())
    state = evaluator.state
    torch.testing.assert_close(state.metric_details["copy_fraction"][:, 0], nearest, atol=1e-5, rtol=0)
    torch.testing.assert_close(state.metric_details["deepssim"][:, 0], pairs, atol=1e-5, rtol=0)
    assert abs(state.metrics["copy_fraction"] - 0.4) < 1e-6
    assert abs(state.metrics["deepssim"] - pairs.mean().item()) < 1e-5
    assert state.key_metric_name == key_metric
    assert state.best_metric_epoch >= 1


def run_rank(rank: int, folder: str) -> None:
    """Every way to share five validation images and six training images between two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=300)
    )
    training_images, inputs = make_images()
    cache_path = Path(folder, "embeddings.pt")
    shares = {
        "uneven": ((slice(0, 4), slice(4, 6)), (slice(0, 3), slice(3, 5))),
        "rank 1 has nothing": ((slice(0, 6), slice(0, 0)), (slice(0, 5), slice(0, 0))),
        "rank 0 has nothing": ((slice(0, 0), slice(0, 6)), (slice(0, 0), slice(0, 5))),
    }
    for number, (training_shares, validation_shares) in enumerate(shares.values()):
        key_metric = ("copy_fraction", "deepssim")[number % 2]
        network, evaluator = train_and_validate(
            training_share=training_images[training_shares[rank]],
            validation_share=inputs[validation_shares[rank]],
            batch_size=2,
            decollate=number != 1,
            key_metric=key_metric,
            cache_path=cache_path if number < 2 else None,
        )
        check(network, evaluator, key_metric)

    everywhere = MemorizationMetric(make_embedder(), verify=True, top_k=6)
    everywhere.fit(training_images.split(4) if rank == 0 else [])
    scores = everywhere(training_images[:2].flip(-1))
    assert scores[:, 1].tolist() == [0, 1]

    metric = MemorizationMetric(make_embedder())
    with pytest.raises(ValueError, match=r"no training images.*on any rank"):
        metric.fit([])
    distributed.barrier()
    # Not by destroy_process_group: in torch 2.4 it can wait for a thread of gloo that waits for the interpreter's lock.
    os._exit(0)
