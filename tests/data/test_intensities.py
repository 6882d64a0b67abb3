"""Padding and stray pixels are no intensities; what is left of an image is what it is without them."""

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_deepssim.data import ImageDataset, load_slice
from monai_deepssim.data.intensities import clean_intensities, is_hounsfield
from monai_deepssim.data.loading import read_item
from monai_deepssim.errors import UnusableInputError


def write_nifti(path, picture: np.ndarray) -> dict:
    nib.save(nib.Nifti1Image(np.ascontiguousarray(picture[::-1, ::-1].T[:, :, None]), np.eye(4)), path)
    return {"image": str(path)}


@pytest.fixture
def framed(brain_slice) -> np.ndarray:
    """A slice as a scanner has it, 0 to 4080, with a border of 12 rows that is as dark as its background."""
    picture = brain_slice.astype(np.float32) * 16
    picture[:12] = 0
    return picture


@pytest.mark.parametrize("padding", [-1e10, -32768, -9999, -3024, -2000, -1024, np.nan])
def test_padding_becomes_the_lowest_intensity_of_the_rest(tmp_path, framed, padding):
    padded = framed.copy()
    padded[:12] = padding
    loaded = read_item(write_nifti(tmp_path / "padded.nii.gz", padded))
    assert loaded.padded
    assert not loaded.clipped
    assert torch.equal(loaded.image, load_slice(write_nifti(tmp_path / "plain.nii.gz", framed)))


@pytest.mark.parametrize("padding", [-2000, -2048, -3024, -32768, -1e10])
def test_padding_below_the_air_of_ct_becomes_air(padding):
    picture = np.random.default_rng(0).normal(0, 10, (64, 64)).clip(-40, 40) + np.linspace(-1000, 1200, 64)
    expected = picture.copy()
    expected[:8] = picture[8:].min()
    picture[:8] = padding
    clean = clean_intensities(picture)
    assert np.array_equal(clean.pixels, expected)
    assert clean.is_padded
    assert clean.is_hounsfield


def test_a_hole_of_nan_inside_of_an_image_is_refused_and_a_frame_with_it(tmp_path, framed):
    framed[:12] = np.nan
    framed[100, 100] = np.nan
    with pytest.raises(UnusableInputError, match="NaN or infinite, and are no border"):
        load_slice(write_nifti(tmp_path / "a.nii", framed))


@pytest.mark.parametrize("brightness", [30_000, 65_535, 4_000_000, 1e30])
@pytest.mark.parametrize("side", [1, 30])
def test_hot_pixels_and_burnt_in_text_do_not_darken_an_image(tmp_path, framed, brightness, side):
    hot = framed.copy()
    hot[150 : 150 + side, 20 : 20 + side] = brightness
    loaded = read_item(write_nifti(tmp_path / "hot.nii", hot))
    assert loaded.clipped
    assert not loaded.padded
    others = np.ones(framed.shape, bool)
    others[150 : 150 + side, 20 : 20 + side] = False
    plain = load_slice(write_nifti(tmp_path / "plain.nii", framed))[0].numpy()
    assert np.array_equal(loaded.image[0].numpy()[others], plain[others])


def test_dead_pixels_and_hot_pixels_beside_padding_are_told_apart():
    image = np.random.default_rng(0).uniform(30_000, 34_000, (64, 64))
    image[0, 0], image[1, 1] = 30_000, 34_000
    broken = image.copy()
    broken[20, 20], broken[30, 30] = 0, 1e9
    assert clean_intensities(broken).pixels.min() == 30_000
    assert clean_intensities(broken).pixels.max() == 34_000
    broken = image - 30_000
    broken[:5], broken[30, 30] = -1e10, 1e10
    clean = clean_intensities(broken)
    assert (clean.is_padded, clean.is_clipped) == (True, True)
    assert 3_900 < clean.pixels.max() <= 4_000
    assert 0 <= clean.pixels.min() < 100


def test_ordinary_images_come_back_as_they_are(brain_slice, framed):
    z_scored = (framed - framed.mean()) / framed.std()
    bright_spot = framed.copy()
    bright_spot[100:103, 100:103] = 3 * 4080
    signed = np.random.default_rng(0).normal(0, 100, (64, 64))
    binary = np.where(np.arange(4096).reshape(64, 64) % 64 == 9, 255.0, 0)
    for image in (brain_slice.astype(float), framed, z_scored, framed / 2040 - 1, bright_spot, signed, binary):
        clean = clean_intensities(image)
        assert clean.pixels is image
        assert (clean.is_padded, clean.is_clipped, clean.is_hounsfield) == (False, False, False)


def test_an_image_of_one_value_but_for_a_pixel_is_refused(tmp_path):
    pixels = np.full((64, 64), 7, np.uint8)
    pixels[3, 4] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(UnusableInputError, match="all pixels but 1 are 7"):
        load_slice({"image": str(tmp_path / "a.png")})


def test_the_dataset_tells_what_was_replaced(tmp_path, framed):
    items = [write_nifti(tmp_path / "plain.nii", framed)]
    framed[:12] = -1e10
    items.append(write_nifti(tmp_path / "padded.nii", framed))
    framed[100, 100] = 1e30
    items.append(write_nifti(tmp_path / "hot.nii", framed))
    samples = ImageDataset(items, image_size=(64, 64))
    assert [samples[index]["padded"] for index in range(3)] == [False, True, True]
    assert [samples[index]["clipped"] for index in range(3)] == [False, False, True]


def test_hounsfield_units_are_told_from_phases_pictures_and_other_negative_values():
    random = np.random.default_rng(0)
    assert is_hounsfield(random.uniform(-1000, 1200, (32, 32)))
    assert not is_hounsfield(random.uniform(0, 255, (32, 32)))
    assert not is_hounsfield(random.uniform(-4096, 4095, (32, 32)))
    assert not is_hounsfield(random.uniform(-300, 300, (32, 32)))
    assert not is_hounsfield(random.uniform(-1000, 1200, (32, 32)), in_header=False)
    assert is_hounsfield(random.uniform(-90, 300, (32, 32)), in_header=True)
    assert not is_hounsfield(random.uniform(0, 255, (32, 32)), in_header=True)
    # Nor is a window applied to phases, whose lowest values no CT has, or to scores around 0.
    windows = {
        low: clean_intensities(random.uniform(low, -low, (32, 32)), (-160, 240)).is_windowed
        for low in (-4096, -300, -9)
    }
    assert windows == {-4096: False, -300: True, -9: False}
