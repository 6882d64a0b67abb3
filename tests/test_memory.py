"""What cannot fit into the memory of the machine is refused before it is made."""

import os

import pytest
import torch

from monai_deepssim import UnusableInputError, find_copies
from monai_deepssim.memory import check_memory


@pytest.fixture
def one_mebibyte(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 2**8, "SC_PAGE_SIZE": 2**12}[name])


def test_a_machine_that_does_not_tell_its_memory_refuses_nothing(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    check_memory(2**80, "a batch", "Give a smaller one.")


def test_what_fits_is_let_through(one_mebibyte):
    check_memory(2**20, "a batch", "Give a smaller one.")
    with pytest.raises(
        UnusableInputError, match=r"^a batch takes at least 1 GiB of memory, and this machine has 0 GiB"
    ):
        check_memory(2**20 + 1, "a batch", "Give a smaller one.")


def test_an_image_size_beyond_memory_is_refused_by_its_name():
    images = torch.rand(2, 1, 64, 64)
    with pytest.raises(UnusableInputError, match=r"^--image_size: an image of 100000000 x 100000000 takes at least"):
        find_copies(images, images.clone(), image_size=[10**8, 10**8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 8, "image_size": [256, 256]}, r"^--batch_size: 8 images of 256 x 256 takes? at least"),
        ({"top_k": 10**6, "image_size": [64, 64]}, r"^--top_k: a list of 80,000 candidates, 1,000,000 of each image"),
    ],
)
def test_batches_and_candidates_beyond_memory_are_refused_before_anything_is_embedded(one_mebibyte, options, message):
    images = torch.rand(200, 1, 8, 8)
    with pytest.raises(UnusableInputError, match=message):
        find_copies(images, images.clone(), controls=None, **options)
