"""Freezing of the normalisation from an epoch on."""

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer

from monai_deepssim.engines import NormFreezing
from monai_deepssim.networks import DeepSSIMEmbedder


@pytest.mark.parametrize(("epoch", "batches_counted"), [(2, 1), (None, 3)])
def test_the_statistics_stop_moving_in_that_epoch(epoch, batches_counted):
    embedder = DeepSSIMEmbedder(backbone="convnext_atto", embedding_dim=8, hidden_dim=8)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=DataLoader([{"image": torch.randn(1, 64, 64), "label": torch.zeros(8)}] * 2, batch_size=2),
        network=embedder,
        optimizer=torch.optim.SGD(embedder.parameters(), lr=0.01),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[NormFreezing(embedder, epoch)],
    )
    trainer.run()
    assert embedder.fc[2].num_batches_tracked == batches_counted


def test_an_epoch_before_the_first_is_an_error():
    with pytest.raises(ValueError, match="from 1 on"):
        NormFreezing(DeepSSIMEmbedder(backbone="convnext_atto"), epoch=0)
