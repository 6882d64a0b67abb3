"""Embedding: images are read while others are embedded, and what a reader raises is raised."""

import threading

import pytest
import torch

from monai_deepssim.data import ImageDataset
from monai_deepssim.engines import EmbeddingStore, embed_images


def store_of(folder, count) -> EmbeddingStore:
    images = list(torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    items = [{"image": image, "path": f"{number}.png", "patient_id": ""} for number, image in enumerate(images)]
    return EmbeddingStore(folder, items, image_size=(8, 8), embedder_id="one")


def test_a_batch_is_read_while_the_one_before_it_is_embedded(tmp_path, monkeypatch) -> None:
    third_is_read = threading.Event()
    read = ImageDataset.__getitem__

    def read_and_tell(dataset, index):
        if index == 2:
            third_is_read.set()
        return read(dataset, index)

    class Network(torch.nn.Module):
        def forward(self, images):
            assert third_is_read.wait(10), "the second batch is not read before the first is embedded"
            return images.flatten(1) + 1

    monkeypatch.setattr(ImageDataset, "__getitem__", read_and_tell)
    embedded = embed_images(Network(), store_of(tmp_path, 4), batch_size=2)
    assert sum(map(len, embedded.embeddings)) == 4


def test_an_error_while_reading_ahead_is_raised_and_no_thread_is_left(tmp_path, monkeypatch) -> None:
    read = ImageDataset.__getitem__

    def read_some(dataset, index):
        if index == 5:
            raise MemoryError("no room")
        return read(dataset, index)

    monkeypatch.setattr(ImageDataset, "__getitem__", read_some)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        embed_images(torch.nn.Flatten(), store_of(tmp_path, 8), batch_size=2)
    assert threading.active_count() == before
