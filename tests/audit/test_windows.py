"""Training images in Hounsfield units beside pictures of a window: the window is found, told and recorded."""

import json

import nibabel as nib
import numpy as np
import pytest
from audit_files import write_png
from pandas.testing import assert_frame_equal
from scipy import ndimage

from monai_deepssim import find_copies
from monai_deepssim.errors import UnusableInputError

LEVELS = range(50, 98, 4)


def to_hounsfield(picture: np.ndarray, seed: int) -> np.ndarray:
    """A head of computed tomography: a brain of 15 to 55 HU with noise, a skull around it, and air."""
    head = ndimage.binary_fill_holes(picture > 60)
    skull = ndimage.binary_dilation(head, iterations=6) & ~head
    image = np.where(head, 15 + 40 / 255 * picture, -1000.0)
    image[skull] = 900
    return np.round(image + np.random.default_rng(seed).normal(0, 8, image.shape))


def write_nifti(path, hounsfield: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ras = np.ascontiguousarray(hounsfield[::-1, ::-1].T[:, :, None].astype(np.int16))
    nib.save(nib.Nifti1Image(ras, np.eye(4)), path)


def write_window(path, hounsfield: np.ndarray, center: float, width: float) -> None:
    write_png(path, np.round(255 * np.clip((hounsfield - center) / width + 0.5, 0, 1)).astype(np.uint8))


@pytest.fixture
def computed_tomography(folders, axial):
    """Training images in Hounsfield units, and pictures of brain windows: three copies and four others."""
    for path in (*(folders / "training").iterdir(), *(folders / "synthetic").iterdir()):
        path.unlink()
    for number, level in enumerate(LEVELS):
        image = to_hounsfield(axial(level), level)
        write_nifti(folders / "training" / f"sub-{number % 3}_z{level}.nii", image)
        if level in (54, 70, 86):
            write_window(folders / "synthetic" / f"copy-of-{level}.png", image, 40, 80)
    for level in range(102, 118, 4):
        write_window(folders / "synthetic" / f"other-{level}.png", to_hounsfield(axial(level), level), 40, 80)
    return folders


def test_copies_are_found_in_a_window_that_is_found_and_the_files_say_which(audit, computed_tomography, capsys):
    result = audit()
    copies = result.matches[result.matches["synthetic_path"].str.startswith("copy")]
    assert (copies["score"] > 0.99).all()
    assert all(f"z{match.synthetic_path[8:10]}" in match.training_path for match in copies.itertuples())
    images = json.loads((computed_tomography / "out" / "summary.json").read_text())["images"]
    (window,) = images["training"]["windows"]
    assert images["synthetic"]["windows"] == []
    center, width = map(float, window.split(","))
    assert center == pytest.approx(40, abs=8)
    assert width == pytest.approx(80, abs=20)
    sentence = "The training images are in Hounsfield units, the synthetic images are not."
    assert images["training"]["window_reason"].startswith(sentence)
    assert sentence in capsys.readouterr().out
    assert sentence in (computed_tomography / "out" / "report.html").read_text()


def test_without_a_window_the_gate_is_undecided_and_says_what_to_do(audit, computed_tomography):
    with pytest.raises(SystemExit) as end:
        audit(window="none", max_copy_fraction=1.0)
    assert end.value.code == 2
    summary = json.loads((computed_tomography / "out" / "summary.json").read_text())
    (reason,) = (one for one in summary["gate"]["reasons"] if one["code"] == "sides_differ")
    assert "training images are in Hounsfield units and the synthetic images are not" in reason["text"]
    assert "option window" in reason["text"]


def test_another_window_is_another_audit(audit, computed_tomography, capsys):
    audit(window="40,80")
    audit(window=(40, 80))
    audit(window="brain")
    capsys.readouterr()
    other = audit(window="40,400")
    # Each slice is another image under another window, and none of what was embedded is taken for it.
    assert "are embedded already" not in capsys.readouterr().out
    assert_frame_equal(other.matches, audit(window="40,400", output_dir="fresh").matches)


def test_padding_and_stray_pixels_are_counted(audit, computed_tomography, axial, capsys):
    padded = to_hounsfield(axial(60), 60)
    padded[:10] = -3024
    write_nifti(computed_tomography / "training" / "sub-4_z60.nii", padded)
    hot = axial(120).astype(np.int32) * 16
    hot[100, 100] = 4_000_000
    path = computed_tomography / "synthetic" / "hot.nii"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(hot[::-1, ::-1].T[:, :, None]), np.eye(4)), path)
    audit()
    images = json.loads((computed_tomography / "out" / "summary.json").read_text())["images"]
    assert images["training"]["padding_replaced"] == ["sub-4_z60.nii"]
    assert images["synthetic"]["stray_pixels_replaced"] == ["hot.nii"]
    printed = capsys.readouterr().out
    assert "Padding: in 1 training images" in printed
    assert "Stray pixels: in 1 synthetic images" in printed
    report = (computed_tomography / "out" / "report.html").read_text()
    assert "in 1 padding was set to the lowest intensity" in report


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (
            "40",
            "--window: is '40', wanted center and width in Hounsfield units, such as 40,400, brain, soft, lung, bone, "
            "coronary, auto or none",
        ),
        ([40, -80], "the width is above 0"),
        ({"train": "auto"}, "--window: 'train' is no side. The sides are: training, synthetic, holdout"),
        ("training=wide", "--window of training: is 'wide', wanted center and width"),
    ],
)
def test_a_window_that_is_none_is_refused(computed_tomography, window, message):
    with pytest.raises(UnusableInputError) as refusal:
        find_copies(computed_tomography / "training", computed_tomography / "synthetic", window=window)
    assert message in str(refusal.value)
