"""Pictures that show several images, or colours that grey does not tell apart, are known by their pixels."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from monai_deepssim.data import PhantomBrainDataset, PhantomChestDataset, PhantomShapesDataset
from monai_deepssim.data.contact_sheets import is_contact_sheet
from monai_deepssim.data.grey import is_lost_in_grey

COHORTS = (PhantomBrainDataset, PhantomChestDataset, PhantomShapesDataset)


@pytest.fixture(scope="module", params=COHORTS, ids=lambda cohort: cohort.__name__)
def images(request) -> torch.Tensor:
    return torch.stack([item["image"].as_tensor() for item in request.param(36, 7, progress=False)])


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    return PhantomBrainDataset(1, 7, progress=False)[0]["image"].numpy()[0]


def through_jpeg(picture: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray((picture * 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("columns", [3, 4, 6])
@pytest.mark.parametrize("between", [0.0, 1.0], ids=["black", "white"])
def test_a_grid_of_torchvision_is_a_sheet_also_as_jpeg_and_with_an_unfilled_row(images, columns, between) -> None:
    for count in (columns * columns, columns * columns - 1):
        grid = make_grid(images[:count], nrow=columns, pad_value=between)[0].numpy()
        assert is_contact_sheet(grid)
        assert is_contact_sheet(through_jpeg(grid))


def test_one_image_is_no_sheet_and_neither_are_two(images) -> None:
    assert not any(is_contact_sheet(image[0].numpy()) for image in images)
    assert not is_contact_sheet(make_grid(images[:2])[0].numpy())
    assert not is_contact_sheet(np.zeros((64, 64)))


def test_images_at_unequal_distances_and_letters_are_no_sheet(brain) -> None:
    picture = np.zeros((136, 700))
    for start in (0, 120, 400):
        picture[:, start : start + 112] = brain
    assert not is_contact_sheet(picture)
    lettered = np.pad(brain, ((40, 40), (0, 0)))
    lettered[10:20, 30:60] = lettered[-20:-10, 30:60] = 1
    assert not is_contact_sheet(lettered)


@pytest.mark.parametrize("colours", [cv2.COLORMAP_JET, cv2.COLORMAP_TURBO, cv2.COLORMAP_RAINBOW, cv2.COLORMAP_HSV])
def test_a_map_whose_luma_rises_and_falls_is_lost_in_grey(brain, colours) -> None:
    levels = (brain * 255).astype(np.uint8)
    assert is_lost_in_grey(cv2.applyColorMap(levels, colours)[..., ::-1])


@pytest.mark.parametrize("colours", [cv2.COLORMAP_HOT, cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_MAGMA, cv2.COLORMAP_BONE])
def test_a_map_whose_luma_rises_is_not(brain, colours) -> None:
    levels = (brain * 255).astype(np.uint8)
    assert not is_lost_in_grey(cv2.applyColorMap(levels, colours)[..., ::-1])


def test_three_images_in_the_channels_of_one_are_lost_in_grey(images) -> None:
    assert is_lost_in_grey(np.moveaxis(images[:3, 0].numpy(), 0, -1))


def test_a_contour_and_the_tint_of_a_decoder_are_not(brain) -> None:
    contoured = np.repeat(brain[..., None], 3, axis=2)
    inside = (brain > 0.4) & ~(cv2.erode((brain > 0.4).astype(np.uint8), np.ones((3, 3))) > 0)
    contoured[inside] = (1, 0, 0)
    assert not is_lost_in_grey(contoured)
    tint = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (*brain.shape, 3)), (0, 0), 12)
    assert not is_lost_in_grey((brain[..., None] + tint).clip(0, 1))
