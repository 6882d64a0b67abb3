"""The order of a training's images in which look-alikes meet in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler

from monai_deepssim.engines.autocast_inferer import AutocastInferer
from monai_deepssim.similarity import standardize

__all__ = ["HardNegativeSampler"]

_BATCH_SIZE = 64


class HardNegativeSampler(Sampler[int]):
    """Visit every image once an epoch, in groups of images that the network holds to be alike.

    Two random subjects are easily told apart, and after a while a batch of them teaches nothing. A group here is a
    random image and those of its nearest neighbours, by the network as it is at the start of the epoch, that are not in
    another group yet. With a batch of a few groups, most of what the network still confuses is in the batch. The loss
    stays what it is: the pairs are chosen, their SSIM is not.

    Args:
        images: the training images before augmentation, items with ``image``, ``(1, H, W)`` in [0, 1] and all of one
            size; in the order of the data set that the sampler is for.
        network: the embedder in training, or the plain network inside its DistributedDataParallel wrapper.
        group_size: images in a group, 1 or more; the batch size should be a multiple of it. 1 is plain shuffling.

    Raises:
        ValueError: when the group size is below 1.

    Example:
        >>> images = [{"image": torch.rand(1, 8, 8)} for _ in range(10)]
        >>> sampler = HardNegativeSampler(images, nn.Flatten(), group_size=5)
        >>> sorted(sampler) == list(range(10)), len(sampler)
        (True, 10)
    """

    def __init__(self, images: Sequence[dict[str, Any]], network: nn.Module, group_size: int = 4) -> None:
        if group_size < 1:
            raise ValueError(f"got group_size={group_size}, want 1 or more")
        self.images = images
        self.network = network
        self.group_size = group_size

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.images))
        if self.group_size == 1:
            yield from order.tolist()
            return
        embeddings = self._embed()
        free = torch.ones(len(order), dtype=torch.bool)
        groups = []
        for anchor in order.tolist():
            if not free[anchor]:
                continue
            free[anchor] = False
            similarity = (embeddings @ embeddings[anchor]).masked_fill(~free, -torch.inf)
            nearest = similarity.topk(min(self.group_size - 1, int(free.sum()))).indices
            free[nearest] = False
            groups.append([anchor, *nearest.tolist()])
        # The last groups are made of what was left over: in a random order they spread over the batches.
        for position in torch.randperm(len(groups)).tolist():
            yield from groups[position]

    @torch.no_grad()
    def _embed(self) -> Tensor:
        training = self.network.training
        device = next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))
        self.network.eval()
        embeddings, inferer = [], AutocastInferer()
        for start in range(0, len(self.images), _BATCH_SIZE):
            positions = range(start, min(start + _BATCH_SIZE, len(self.images)))
            batch = torch.stack([torch.as_tensor(self.images[i]["image"]) for i in positions])
            batch = batch.to(device)
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            embeddings.append(inferer(standardize(batch), self.network).float().cpu())
        self.network.train(training)
        return nn.functional.normalize(torch.cat(embeddings), dim=1)
