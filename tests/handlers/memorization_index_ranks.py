"""What the tests of the Memorization Index handler run, where a spawned process can import it."""

import os
from datetime import timedelta

import torch
from memorization_ranks import make_generator, make_loader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import distributed

from monai_deepssim.handlers import MemorizationIndexHandler
from monai_deepssim.metrics import compute_memorization_index
from monai_deepssim.networks import LayerFeatures
from monai_deepssim.similarity import standardize

LAYERS = ["0", "2"]


def make_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty training images, and seven inputs of the generator, two of which are training images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(25, 1, 16, 16, generator=generator)
    return images[:20], torch.cat([images[[4, 2]], images[20:]])


def make_network() -> torch.nn.Module:
    torch.manual_seed(0)
    # A network in training mode would normalise each batch by itself.
    layers = torch.nn.Conv2d(1, 4, 5), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 4, 5)
    return torch.nn.Sequential(*layers).train()


def train_and_validate(
    training_share: torch.Tensor, validation_share: torch.Tensor, *, batch_size: int, decollate: bool, summary: str
) -> tuple[torch.nn.Module, SupervisedEvaluator]:
    """Train a generator for two epochs, with the index as the key metric of each validation."""
    network = make_generator()
    in_training = torch.nn.parallel.DistributedDataParallel(network) if distributed.is_initialized() else network
    loader = make_loader(training_share, 4)
    options = {"layers": LAYERS, "summary": summary, "covariance": "empirical", "threshold": 3.0}
    handler = MemorizationIndexHandler(make_network(), loader, **options)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=make_loader(validation_share, batch_size),
        network=network,
        key_val_metric={"index": handler},
        decollate=decollate,
    )
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=make_loader(make_images()[0], 5),
        network=in_training,
        optimizer=torch.optim.SGD(in_training.parameters(), lr=0.01),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[ValidationHandler(interval=1, validator=evaluator)],
    ).run()
    return network, evaluator


def expected_index(network: torch.nn.Module) -> torch.Tensor:
    """MI of what the trained network makes of all inputs, against all training images."""
    training_images, inputs = make_images()
    features = LayerFeatures(make_network().eval(), LAYERS)
    with torch.no_grad():
        query, train = (features(standardize(images)) for images in (network(inputs), training_images))
    return compute_memorization_index(query, train, covariance="empirical").mi


def run_rank(rank: int, folder: str) -> None:
    """Every way to share inputs and training images between two processes."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=300)
    )
    training_images, inputs = make_images()
    for training_split, validation_split in ((13, 3), (20, 7), (0, 0)):
        shares = (
            images[:place] if rank == 0 else images[place:]
            for images, place in ((training_images, training_split), (inputs, validation_split))
        )
        network, evaluator = train_and_validate(*shares, batch_size=2, decollate=training_split != 20, summary="mi")
        expected = expected_index(network)
        assert abs(evaluator.state.metrics["index"] - expected.mean().item()) < 1e-3
        torch.testing.assert_close(evaluator.state.metric_details["index"][:, 0], expected, atol=1e-3, rtol=0)
    distributed.barrier()
    # Not by destroy_process_group: in torch 2.4 it can wait for a thread of gloo that waits for the interpreter's lock.
    os._exit(0)
