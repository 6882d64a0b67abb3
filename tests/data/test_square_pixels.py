"""A body keeps its proportions where pixels are not square, in every format that tells their size."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_deepssim.data import ImageDataset, list_images, load_slice
from monai_deepssim.data.loading import read_item
from monai_deepssim.data.square_pixels import make_square
from monai_deepssim.errors import UnusableInputError


def disc(height_mm: float, width_mm: float) -> np.ndarray:
    """A disc of 50 mm radius, 20 mm above the middle of 160 x 160 mm, in pixels of that height and width."""
    rows, columns = round(160 / height_mm), round(160 / width_mm)
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) * height_mm - 60, (np.arange(columns) + 0.5) * width_mm - 80, indexing="ij"
    )
    return (255 / (1 + np.exp((np.hypot(x, y) - 50) / 2))).round().astype(np.uint8)


def extent(image: np.ndarray) -> tuple[int, int]:
    """Rows and columns that hold the disc."""
    return int((image > 0.5).any(1).sum()), int((image > 0.5).any(0).sum())


def load(path: Path, **item) -> np.ndarray:
    return load_slice({"image": str(path), **item})[0].numpy()


def write_nifti(path: Path, picture: np.ndarray, height_mm: float, width_mm: float) -> None:
    ras = picture[::-1, ::-1].T[:, :, None]  # x to the right, y to the front
    nib.save(nib.Nifti1Image(np.ascontiguousarray(ras), np.diag([width_mm, height_mm, 5.0, 1.0])), path)


@pytest.mark.parametrize(("height_mm", "width_mm"), [(1.0, 2.0), (2.0, 1.0), (1.0, 1.3)])
def test_a_disc_is_round_whatever_the_pixels_are(tmp_path, write_dicom, height_mm, width_mm) -> None:
    picture = disc(height_mm, width_mm)
    write_nifti(tmp_path / "a.nii.gz", picture, height_mm, width_mm)
    write_dicom(tmp_path / "a.dcm", picture, PixelSpacing=[height_mm, width_mm])
    expected = disc(1.0, 1.0) / 255

    for name in ("a.nii.gz", "a.dcm"):
        image = load(tmp_path / name)
        assert image.shape == pytest.approx((160, 160), abs=1)
        assert extent(image) == pytest.approx((100, 100), abs=2)
        assert (image.min(), image.max()) == (0, 1)
        assert np.abs(image[:159, :159] - expected[:159, :159]).mean() < 0.01
        loaded = read_item({"image": tmp_path / name})
        assert (loaded.resampled, loaded.original_size) == (True, picture.shape)


def test_a_slice_of_1_by_2_mm_is_the_same_in_nifti_and_dicom_and_as_the_square_picture_of_it(
    tmp_path, write_dicom
) -> None:
    picture = disc(2.0, 1.0)
    write_nifti(tmp_path / "a.nii", picture, 2.0, 1.0)
    write_dicom(tmp_path / "a.dcm", picture, PixelSpacing=[2.0, 1.0])
    # What a viewer shows: rows twice as high.
    shown = Image.fromarray(picture.astype(np.float32)).resize((160, 160), Image.Resampling.BILINEAR)
    shown.save(tmp_path / "a.tif")

    images = {item["path"]: load_slice(item)[0].numpy() for item in list_images(tmp_path)}

    assert np.array_equal(images["a.nii"], images["a.dcm"])
    assert np.allclose(images["a.nii"], images["a.tif"], atol=1e-5)


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacing": [0.5, 1.0]},
        {"ImagerPixelSpacing": [0.5, 1.0]},
        {"NominalScannedPixelSpacing": [0.5, 1.0]},
        {"PixelAspectRatio": [1, 2]},
        {"PixelSpacing": [0.5, 1.0], "ImagerPixelSpacing": [1.0, 1.0]},
    ],
    ids=lambda tags: "+".join(tags),
)
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0), None])
def test_dicom_tells_the_height_of_a_pixel_first(tmp_path, write_dicom, tags, orientation) -> None:
    path = write_dicom(tmp_path / "a.dcm", disc(1.0, 2.0), orientation=orientation, **tags)

    assert extent(load(path)) == pytest.approx((100, 100), abs=2)


def test_without_a_usable_spacing_pixels_are_taken_to_be_square(tmp_path, write_dicom) -> None:
    picture = disc(1.0, 2.0)
    write_dicom(tmp_path / "a.dcm", picture)
    write_dicom(tmp_path / "b.dcm", picture, PixelSpacing=[0, 2])
    Image.fromarray(picture).save(tmp_path / "a.png", dpi=(100, 200))

    for name in ("a.dcm", "b.dcm", "a.png"):
        loaded = read_item({"image": tmp_path / name})
        assert not loaded.resampled
        assert np.array_equal(loaded.image[0].numpy(), (picture / 255).astype(np.float32))


def test_pixels_that_differ_by_rounding_are_left_as_they_are(tmp_path) -> None:
    picture = disc(1.0, 1.0)
    write_nifti(tmp_path / "a.nii", picture, 0.4297, 0.42969)

    assert np.array_equal(load(tmp_path / "a.nii"), (picture / 255).astype(np.float32))


def ellipsoid(size_mm: tuple[float, float, float]) -> np.ndarray:
    """A ball of 50 mm radius in the middle of a cube of 120 mm, in RAS order."""
    axes = [(np.arange(round(120 / size)) + 0.5) * size - 60 for size in size_mm]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    return (255 / (1 + np.exp((distance - 50) / 2))).round().astype(np.uint8)


# The shorter side of a pixel in that plane, where voxels are of 1 x 2 x 5 mm.
PLANES = pytest.mark.parametrize(("slice_axis", "shorter_mm"), [(0, 2), (1, 1), (2, 1)])


@PLANES
@pytest.mark.parametrize("codes", ["RAS", "PIR", "SPL"])
def test_a_ball_is_round_in_every_plane_of_a_volume(tmp_path, slice_axis, shorter_mm, codes) -> None:
    image = nib.Nifti1Image(ellipsoid((1.0, 2.0, 5.0)), np.diag([1.0, 2.0, 5.0, 1.0]))
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
    nib.save(turned, tmp_path / "volume.nii.gz")

    plane = load(tmp_path / "volume.nii.gz", slice_axis=slice_axis)

    assert plane.shape == (120 // shorter_mm, 120 // shorter_mm)
    assert extent(plane) == pytest.approx((100 // shorter_mm, 100 // shorter_mm), abs=3)


@PLANES
def test_across_a_dicom_series_the_distance_of_its_slices_counts(tmp_path, write_dicom, slice_axis, shorter_mm) -> None:
    volume = ellipsoid((1.0, 2.0, 5.0))
    for index in range(volume.shape[2]):
        write_dicom(
            tmp_path / f"{index:02d}.dcm",
            np.ascontiguousarray(volume[:, :, index].T[::-1, ::-1]),
            series="1.2.3",
            position=(0.0, 0.0, 5.0 * index),
            PixelSpacing=[2.0, 1.0],
            SliceThickness=3.0,  # with a gap of 2 mm
        )
    (item,) = list_images(tmp_path, slice_axis=slice_axis)

    plane = load_slice(item)[0].numpy()

    assert plane.shape == (120 // shorter_mm, 120 // shorter_mm)
    assert extent(plane) == pytest.approx((100 // shorter_mm, 100 // shorter_mm), abs=3)


def test_a_data_set_says_which_images_it_resampled(tmp_path) -> None:
    write_nifti(tmp_path / "a.nii", disc(1.0, 2.0), 1.0, 2.0)
    write_nifti(tmp_path / "b.nii", disc(1.0, 1.0), 1.0, 1.0)
    (tmp_path / "c.nii").write_bytes(b"")

    samples = list(ImageDataset(list_images(tmp_path), image_size=(64, 64)))

    assert [sample["resampled"] for sample in samples] == [True, False, False]
    assert [sample["original_size"] for sample in samples] == [(160, 80), (160, 160), (0, 0)]
    assert np.abs(samples[0]["image"].numpy() - samples[1]["image"].numpy()).mean() < 0.01


def test_a_header_that_cannot_be_is_named(tmp_path) -> None:
    write_nifti(tmp_path / "a.nii", disc(1.0, 1.0), 1.0, 1000.0)

    with pytest.raises(UnusableInputError, match=r"a\.nii.*1000 mm wide"):
        load(tmp_path / "a.nii")


def test_what_is_square_is_not_touched() -> None:
    plane = np.random.default_rng(0).random((5, 7))

    assert make_square(plane, (0.7, 0.7)) is plane
    assert make_square(plane, (1.4, 0.7)).shape == (10, 7)
