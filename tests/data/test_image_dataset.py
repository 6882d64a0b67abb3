"""A list of images as a dataset that carries its problems."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from monai_deepssim.data import ImageDataset, list_images


@pytest.fixture
def items(tmp_path, brain_slice, icbm152_file):
    Image.fromarray(brain_slice).save(tmp_path / "a.png")
    Image.fromarray(np.stack([brain_slice, brain_slice // 2, brain_slice], -1)).save(tmp_path / "b_colour.png")
    (tmp_path / "c_broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    Image.fromarray(brain_slice[:136, :112]).save(tmp_path / "d_fits.png")
    (tmp_path / "e.nii.gz").write_bytes(icbm152_file.read_bytes())
    return list_images(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_a_data_loader_carry_images_and_problems(items, num_workers):
    (batch,) = DataLoader(ImageDataset(items, (136, 112)), batch_size=8, num_workers=num_workers)
    assert batch["image"].shape == (5, 1, 136, 112)
    assert batch["image"].dtype == torch.float32
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    assert [bool(problem) for problem in batch["problem"]] == [False, False, True, False, False]
    assert items[2]["image"] in batch["problem"][2]
    assert batch["converted"].tolist() == [False, True, False, False, False]
    rows, columns = batch["original_size"]
    assert rows.tolist() == [233, 233, 0, 136, 233]
    assert columns.tolist() == [197, 197, 0, 112, 197]
    assert (batch["image"][2] == 0).all()
    assert ((batch["image"] >= 0) & (batch["image"] <= 1)).all()


def test_an_image_of_the_right_size_is_not_touched(items, brain_slice):
    picture = brain_slice[:136, :112].astype(np.float64)
    expected = ((picture - picture.min()) / (picture.max() - picture.min())).astype(np.float32)
    assert np.array_equal(ImageDataset(items, [136, 112])[3]["image"][0].numpy(), expected)


@pytest.mark.parametrize("image_size", [(136,), 136, (136, 0), (136.0, 112), (1, 136, 112)])
def test_an_image_size_that_is_not_rows_and_columns_is_refused(items, image_size):
    with pytest.raises(ValueError, match="image_size"):
        ImageDataset(items, image_size)
