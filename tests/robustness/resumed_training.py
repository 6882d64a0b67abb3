"""A small training that draws from every random state, for tests that disturb it."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import RandShiftIntensityd
from monai.utils import set_determinism
from torch import nn

from monai_deepssim.engines import ResumableCheckpoint
from monai_deepssim.workflow.exit_status import errors_in_words


def train(folder: str, epochs: str = "3") -> int:
    """Train in a folder and return the exit status; ``checkpoint.pt`` is there at the end."""
    set_determinism(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    data = [{"image": torch.full((1, 4, 4), float(n)), "label": torch.tensor([float(n)])} for n in range(6)]
    dataset = Dataset(data, RandShiftIntensityd("image", 0.2, prob=0.9))

    def loss(prediction: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return ((prediction - label) ** 2).mean() + prediction.mean() * (random.random() + np.random.random())

    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=int(epochs),
        train_data_loader=DataLoader(dataset, batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        train_handlers=[
            ResumableCheckpoint(Path(folder, "checkpoint.pt"), {"network": network, "optimizer": optimizer})
        ],
    )
    trainer.logger.disabled = True
    try:
        with errors_in_words():
            trainer.run()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(train(*sys.argv[1:]))
