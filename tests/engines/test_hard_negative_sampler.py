"""Look-alikes meet in one batch, and nothing is lost or repeated on the way."""

import pytest
import torch
from torch import nn

from monai_deepssim.engines import HardNegativeSampler


class FirstPixels(nn.Module):
    """An embedder whose embedding is the first pixels, standardised or not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        assert not self.training
        return images.flatten(1)[:, :4]


def images_of_families(families, members):
    """Members of a family differ by a little noise, families by a lot."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(families, 1, 8, 8, generator=generator)
    noise = 0.01 * torch.rand(families, members, 1, 8, 8, generator=generator)
    return [{"image": image} for image in (centres[:, None] + noise).flatten(0, 1)]


def test_each_image_comes_once_an_epoch_also_where_groups_do_not_divide_them():
    for count, size in ((10, 4), (12, 4), (3, 5), (7, 1)):
        sampler = HardNegativeSampler(images_of_families(1, count), FirstPixels(), group_size=size)

        assert sorted(sampler) == list(range(count))
        assert len(sampler) == count


def test_a_group_holds_the_images_that_the_network_takes_for_alike():
    sampler = HardNegativeSampler(images_of_families(families=6, members=4), FirstPixels(), group_size=4)

    order = torch.tensor(list(sampler)).view(6, 4) // 4  # four images per family

    assert (order == order[:, :1]).all()
    assert sorted(order[:, 0].tolist()) == list(range(6))


def test_the_order_of_groups_is_drawn_anew_each_epoch_and_repeats_with_the_seed():
    sampler = HardNegativeSampler(images_of_families(6, 4), FirstPixels(), group_size=4)

    torch.manual_seed(3)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(3)

    assert first != second
    assert first == list(sampler)


def test_the_network_goes_on_training_afterwards_and_is_not_changed():
    network = FirstPixels().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    list(HardNegativeSampler(images_of_families(2, 4), network, group_size=2))

    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_groups_of_one_are_plain_shuffling_and_need_no_embedding():
    network = FirstPixels()

    assert sorted(HardNegativeSampler(images_of_families(2, 4), network, group_size=1)) == list(range(8))
    assert network.calls == 0


def test_a_group_of_none_is_refused():
    with pytest.raises(ValueError, match="group_size=0"):
        HardNegativeSampler([], FirstPixels(), group_size=0)


def test_a_processor_that_would_have_to_emulate_bfloat16_embeds_without(monkeypatch):
    class Network(torch.nn.Flatten):
        def forward(self, images):
            cast.append(torch.is_autocast_enabled("cpu"))
            return super().forward(images)

    images = [{"image": torch.rand(1, 8, 8)} for _ in range(4)]
    for has_instructions in (True, False):
        cast = []
        monkeypatch.setattr("monai_deepssim.engines.autocast_inferer.has_bfloat16", lambda has=has_instructions: has)
        list(HardNegativeSampler(images, Network(), group_size=2))
        assert cast == [has_instructions]
