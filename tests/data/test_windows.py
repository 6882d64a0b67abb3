"""A slice in Hounsfield units, seen through a window, is the picture that was made of it; the window can be found."""

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from monai_deepssim.data import NAMED_WINDOWS, choose_windows, list_images, load_slice
from monai_deepssim.data.loading import read_item
from monai_deepssim.data.windows import STANDARD_WINDOWS, fit_window, resolve_window, window_ends
from monai_deepssim.errors import UnusableInputError

SOFT_TISSUE = "40,400"


def make_body(seed: int, side: int = 96) -> np.ndarray:
    """An abdomen in Hounsfield units: air, fat, muscle, organs, gas, a spine; no two are alike."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    image = np.full((side, side), -1000.0)

    def fill(row: float, column: float, height: float, width: float, value: float) -> None:
        waves = ndimage.gaussian_filter(random.standard_normal(image.shape), side / 12)
        distance = np.hypot((rows - row) / height, (columns - column) / width)
        image[distance < 1 + 0.1 * waves / waves.std()] = value

    fill(0, 0, 0.32, 0.42, -105)
    fill(0, 0, 0.27, 0.36, 50)
    fill(-0.03, 0, 0.2, 0.28, -90)
    for value in random.permutation([20, 45, 60, 90, 130, 200, -900]):
        fill(*random.uniform(-0.14, 0.12, 2), *random.uniform(0.03, 0.1, 2), value)
    fill(0.18, 0, 0.05, 0.06, random.uniform(300, 900))
    return np.round(image + random.normal(0, 12, image.shape)).clip(-1024)


def scaled(image: np.ndarray) -> np.ndarray:
    return (image - image.min()) / np.ptp(image)


def write_nifti(path, hounsfield: np.ndarray) -> None:
    ras = np.ascontiguousarray(hounsfield[::-1, ::-1].T[:, :, None].astype(np.int16))
    nib.save(nib.Nifti1Image(ras, np.eye(4)), path)


def write_ct(write_dicom, path, hounsfield: np.ndarray, **tags: object) -> None:
    rescale = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}
    write_dicom(path, (hounsfield + 1024).astype(np.uint16), **{**rescale, **tags})


def write_picture(path, hounsfield: np.ndarray, window: str) -> None:
    low, high = window_ends(window)
    Image.fromarray(np.round(255 * np.clip((hounsfield - low) / (high - low), 0, 1)).astype(np.uint8)).save(path)


@pytest.mark.parametrize("window", ["40,400", "40,80", "-600,1500", "300,1500"])
def test_a_slice_in_a_window_is_the_picture_of_that_window(tmp_path, write_dicom, window):
    hounsfield = make_body(0)
    hounsfield[40:43, 40:43] = 12_000  # metal
    write_nifti(tmp_path / "a.nii.gz", hounsfield)
    write_ct(write_dicom, tmp_path / "b.dcm", hounsfield)
    write_picture(tmp_path / "c.png", hounsfield, window)
    images = [load_slice(item) for item in list_images(tmp_path, window=window)]
    assert torch.equal(images[0], images[1])
    assert float((images[0] - images[2]).abs().max()) < 2 / 255  # the picture has 256 levels
    assert float((load_slice({"image": str(tmp_path / "a.nii.gz")}) - images[2]).abs().max()) > 0.2


def test_a_window_leaves_alone_what_is_not_in_hounsfield_units(tmp_path, brain_slice, write_dicom):
    Image.fromarray(brain_slice).save(tmp_path / "8.png")
    Image.fromarray(brain_slice.astype(np.uint16) * 200).save(tmp_path / "16.png")
    Image.fromarray(brain_slice.astype(np.float32) / 40 - 3).save(tmp_path / "z.tif")
    signed = brain_slice.astype(np.int32) * 20
    write_dicom(tmp_path / "mr.dcm", signed.astype(np.uint16), Modality="MR", RescaleSlope=1, RescaleIntercept=-1024)
    write_dicom(tmp_path / "capture.dcm", brain_slice, Modality="CT", RescaleSlope=1, RescaleIntercept=0)
    items = list_images(tmp_path, window="0,2000")
    assert {item["window"] for item in items} == {"0,2000"}
    for item in items:
        assert torch.equal(load_slice(item), load_slice({**item, "window": ""})), item["path"]


def test_a_crop_without_air_has_no_sign_of_hounsfield_units_and_takes_the_window_that_is_given(tmp_path):
    crop = make_body(1)[30:60, 30:60].clip(-120)
    write_nifti(tmp_path / "crop.nii", crop)
    assert not read_item({"image": str(tmp_path / "crop.nii")}).hounsfield
    image = load_slice({"image": str(tmp_path / "crop.nii"), "window": "40,100"})
    clipped = crop.clip(-10, 90)
    assert np.allclose(image[0], (clipped - clipped.min()) / np.ptp(clipped), atol=1e-6)


def test_a_list_names_windows_of_its_own_and_keeps_those_of_an_earlier_list(tmp_path):
    for name in ("a.nii", "b.nii"):
        write_nifti(tmp_path / name, make_body(2))
    (tmp_path / "list.csv").write_text('image,window\na.nii,"-600, 1500"\nb.nii,\n')
    items = list_images(tmp_path / "list.csv", window=SOFT_TISSUE)
    assert [item["window"] for item in items] == ["-600,1500", SOFT_TISSUE]
    assert [item["window"] for item in list_images(items)] == ["-600,1500", SOFT_TISSUE]
    # One slice in two windows is two images, and twice in one window it is one.
    two = [{"image": str(tmp_path / "a.nii"), "window": window} for window in ("lung", SOFT_TISSUE, "lung")]
    assert [item["window"] for item in list_images(two)] == ["-600,1500", SOFT_TISSUE]
    (tmp_path / "list.csv").write_text("image,window\na.nii,wide\n")
    with pytest.raises(UnusableInputError, match=r"line 2: window is 'wide', wanted center and a width"):
        list_images(tmp_path / "list.csv")


@pytest.mark.parametrize("name", NAMED_WINDOWS)
def test_a_name_is_the_window_of_that_name_in_calls_lists_and_csvs(tmp_path, name):
    write_nifti(tmp_path / "a.nii", make_body(4))
    window = NAMED_WINDOWS[name]
    numbers = f"{window.center},{window.width}"
    (tmp_path / "list.csv").write_text(f"image,window\na.nii,{name.upper()}\n")
    by_name, by_numbers = (list_images(tmp_path, window=text) for text in (name, numbers))
    assert by_name == by_numbers
    assert list_images(tmp_path / "list.csv")[0]["window"] == by_name[0]["window"] == numbers
    assert torch.equal(load_slice(by_name[0]), load_slice({"image": str(tmp_path / "a.nii"), "window": numbers}))
    assert choose_windows({"training": by_name, "synthetic": []}, {"training": name})["training"].window == numbers
    assert (window.center, window.width) in STANDARD_WINDOWS.values()  # and is tried by auto
    assert window.source


def test_a_name_that_is_unknown_is_answered_with_the_names(tmp_path):
    write_nifti(tmp_path / "a.nii", make_body(4))
    with pytest.raises(
        UnusableInputError, match=r"window is 'lungs', wanted .* names brain, soft, lung, bone, coronary"
    ):
        list_images(tmp_path, window="lungs")
    with pytest.raises(ValueError, match="lungs"):
        resolve_window("lungs")


@pytest.mark.parametrize("window", ["40,0", "40,-400", "40", "40,400,1", "nan,400", "40,inf"])
def test_a_window_without_center_and_width_is_refused(window):
    with pytest.raises(ValueError, match="want center and a width above 0"):
        resolve_window(window)


def test_a_window_that_shows_nothing_is_named(tmp_path):
    write_nifti(tmp_path / "a.nii", make_body(3))
    with pytest.raises(UnusableInputError, match="in the window 9000,10 every pixel is 8995"):
        load_slice({"image": str(tmp_path / "a.nii"), "window": "9000,10"})


@pytest.mark.parametrize("window", ["40,400", "60,160", "95,650"])
def test_the_window_of_pictures_of_other_bodies_is_found(window):
    low, high = window_ends(window)
    pictures = [scaled(make_body(seed).clip(low, high)) for seed in range(20, 36)]
    fitted = fit_window([make_body(seed) for seed in range(16)], pictures)
    assert fitted.distance < 0.03
    found = window_ends(fitted.text)
    assert max(abs(found[0] - low), abs(found[1] - high)) < 0.2 * (high - low)


def test_pictures_of_the_full_range_need_no_window():
    bodies = [make_body(seed) for seed in range(24)]
    for seed, body in enumerate(bodies):
        body[50:53, 50:53] = np.random.default_rng(seed).uniform(3_000, 9_000)  # metal
    assert fit_window(bodies[:12], [scaled(body) for body in bodies[12:]]).text == ""


@pytest.fixture
def sides(tmp_path, write_dicom) -> dict:
    """Training images as DICOM, held-out ones as NIfTI, and synthetic ones as pictures of soft tissue."""
    for name in ("training", "synthetic", "holdout"):
        (tmp_path / name).mkdir()
    for seed in range(10):
        window = {"WindowCenter": [300, 40], "WindowWidth": [1500, 400]}
        write_ct(write_dicom, tmp_path / "training" / f"{seed}.dcm", make_body(seed), **window)
        write_picture(tmp_path / "synthetic" / f"{seed}.png", make_body(20 + seed), SOFT_TISSUE)
        write_nifti(tmp_path / "holdout" / f"{seed}.nii", make_body(40 + seed))
    return {name: list_images(tmp_path / name) for name in ("training", "synthetic", "holdout")}


def test_sides_in_hounsfield_units_get_the_window_of_the_pictures_and_it_is_told(sides):
    choices = choose_windows(sides, "auto")
    assert {name: choice.window for name, choice in choices.items()} == {
        "training": SOFT_TISSUE,
        "synthetic": "",
        "holdout": SOFT_TISSUE,
    }
    assert choices["training"].reason.startswith(
        "The training and holdout images are in Hounsfield units, the synthetic images are not. The grey levels agree "
        "best with the window 40, 400 (center, width: soft tissue)"
    )
    assert choices["synthetic"].reason == ""
    items = choices["training"].give(sides["training"])
    assert {item["window"] for item in items} == {SOFT_TISSUE}


def test_a_window_that_is_given_is_taken_as_it_is(sides):
    choices = choose_windows(sides, {"training": "300,1500", "holdout": "none"})
    assert {name: choice.window for name, choice in choices.items()} == {
        "training": "300,1500",
        "synthetic": "",
        "holdout": "",
    }
    assert {choice.window for choice in choose_windows(sides, "none").values()} == {""}


def test_sides_that_are_all_in_hounsfield_units_or_all_pictures_get_no_window(sides):
    for names in (("training", "holdout"), ("synthetic",)):
        choices = choose_windows({name: sides[name] for name in names}, "auto")
        assert {(choice.window, choice.reason) for choice in choices.values()} == {("", "")}
