"""The images of a side as they are compared: the latest stay in memory, as many bytes of them as may."""

import pytest
import torch

from monai_deepssim.metrics import ComparedImages, compared_images


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 16, 16, 16)])
def test_as_many_images_stay_in_memory_as_bytes_may(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(row: int) -> torch.Tensor:
        loaded.append(row)
        return torch.full(shape, float(row))

    monkeypatch.setattr(compared_images, "_BYTES_KEPT", 3 * torch.zeros(shape).nbytes)
    side = ComparedImages(load)
    for row in (9, 0, 1, 2, 0, 1, 2, 3, 0):
        assert torch.equal(side.image(row), torch.full(shape, float(row)))
    assert loaded == [9, 0, 1, 2, 3, 0]
    side.keep(7, torch.full(shape, 7.0))
    assert torch.equal(side.image(7), torch.full(shape, 7.0))
    assert loaded == [9, 0, 1, 2, 3, 0]


def test_images_are_kept_where_they_are_compared_and_volumes_on_the_cpu() -> None:
    side = ComparedImages(torch.zeros(2, 1, 32, 32).__getitem__, device="meta")
    assert [side.image(1).device.type, side.coarse(1).device.type] == ["meta", "meta"]
    volumes = ComparedImages(torch.zeros(2, 1, 16, 16, 16).__getitem__, device="meta")
    assert volumes.image(1).device.type == "cpu"
