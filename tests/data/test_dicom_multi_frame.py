"""Multi-frame DICOM files: those that are volumes are read as NIfTI is, all others are refused in words."""

import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ImplicitVRLittleEndian

from monai_deepssim.data import list_images, load_slice
from monai_deepssim.data.loading import read_item
from monai_deepssim.errors import UnusableInputError

AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
UPSIDE_DOWN, MIRRORED, TRANSPOSED = (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 1, 0, 0)
OBLIQUE = (0.96, 0.28, 0, -0.28, 0.96, 0)
SLICE_MM = 2.4


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def normal(cosines) -> np.ndarray:
    return np.cross(cosines[:3], cosines[3:])


@pytest.fixture
def frames() -> np.ndarray:
    """Five frames of 6 x 7 pixels, all different."""
    return np.random.default_rng(1).permutation(5 * 6 * 7).astype(np.uint16).reshape(5, 6, 7)


@pytest.fixture
def write_frames(write_dicom):
    """Return a function that writes an enhanced file, whose frames stand in another order than in space."""

    def write(path: Path, frames: np.ndarray, cosines=AXIAL, *, heights=None, slopes=None, spacing=(1, 1), **tags):
        heights = np.arange(len(frames)) * SLICE_MM if heights is None else heights
        order = np.random.default_rng(2).permutation(len(frames))
        per_frame = []
        for index in order:
            position = [float(value) for value in np.array([3, 4, 5]) + heights[index] * normal(cosines)]
            group = item(PlanePositionSequence=[item(ImagePositionPatient=position)])
            if slopes is not None:
                rescale = item(RescaleSlope=slopes[index], RescaleIntercept=-10)
                group.PixelValueTransformationSequence = [rescale]
            per_frame.append(group)
        shared = item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(cosines))],
            PixelMeasuresSequence=[item(PixelSpacing=list(spacing), SpacingBetweenSlices=7)],
        )
        tags = {
            "SOPClassUID": EnhancedMRImageStorage,
            "NumberOfFrames": len(frames),
            "SharedFunctionalGroupsSequence": [shared],
            "PerFrameFunctionalGroupsSequence": per_frame,
            "PixelData": frames[order].tobytes(),
            **tags,
        }
        write_dicom(path, frames[0], position=None, orientation=None)
        dataset = pydicom.dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        return path

    return write


def save_nifti(path: Path, frames: np.ndarray, cosines, spacing=(1, 1)) -> None:
    """Save frames as NIfTI by the equation of DICOM PS3.3 C.7.6.2.1.1: columns, rows, slices to LPS, then RAS."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = np.array(cosines[:3]) * spacing[1], np.array(cosines[3:]) * spacing[0]
    affine[:3, 2], affine[:3, 3] = normal(cosines) * SLICE_MM, (3, 4, 5)
    nib.save(nib.Nifti1Image(frames.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine), path)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("cosines", [AXIAL, CORONAL, SAGITTAL, UPSIDE_DOWN, MIRRORED, TRANSPOSED, OBLIQUE])
def test_frames_behind_one_another_are_the_volume_that_nifti_shows(tmp_path, frames, write_frames, cosines, slice_axis):
    write_frames(tmp_path / "a.dcm", frames, cosines, spacing=(1, 2))
    save_nifti(tmp_path / "b.nii", frames, cosines, spacing=(1, 2))
    items = list_images(tmp_path, slices="all", slice_axis=slice_axis)
    dicom, nifti = ([entry for entry in items if entry["path"].startswith(name)] for name in "ab")
    assert len(dicom) == len(nifti) > 4
    for first, second in zip(dicom, nifti, strict=True):
        # The affine of NIfTI is float32, and so are the sizes by which pixels are made square.
        torch.testing.assert_close(load_slice(first), load_slice(second), rtol=0, atol=1e-5)
        assert read_item(first).original_size == read_item(second).original_size


@pytest.mark.parametrize("cosines", [AXIAL, CORONAL, SAGITTAL, UPSIDE_DOWN, MIRRORED, TRANSPOSED, OBLIQUE])
def test_an_enhanced_file_is_the_whole_volume_that_nifti_is(tmp_path, frames, write_frames, cosines):
    write_frames(tmp_path / "a.dcm", frames, cosines, spacing=(1, 2))
    save_nifti(tmp_path / "b.nii", frames, cosines, spacing=(1, 2))
    dicom, nifti = (read_item(entry) for entry in list_images(tmp_path, volumes=True))
    torch.testing.assert_close(dicom.image, nifti.image, rtol=0, atol=1e-5)
    assert dicom.original_size == nifti.original_size
    assert dicom.resampled
    assert nifti.resampled


def test_each_frame_has_its_own_rescaling(tmp_path, frames, write_frames):
    slopes = [1.0, 3.0, 0.5, 2.0, 4.0]
    write_frames(tmp_path / "a.dcm", frames, slopes=slopes)
    save_nifti(tmp_path / "b.nii", (frames * np.reshape(slopes, (5, 1, 1)) - 10), AXIAL)
    for slice_axis in range(3):
        items = list_images(tmp_path, slices="all", slice_axis=slice_axis)
        for first, second in zip(items[: len(items) // 2], items[len(items) // 2 :], strict=True):
            torch.testing.assert_close(load_slice(first), load_slice(second), rtol=0, atol=1e-6)


def test_a_shared_rescaling_turns_all_frames(tmp_path, frames, write_frames):
    path = write_frames(tmp_path / "a.dcm", frames)
    dataset = pydicom.dcmread(path)
    rescale = item(RescaleSlope=-2, RescaleIntercept=5)
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [rescale]
    dataset.save_as(tmp_path / "b.dcm")
    plain, turned = (load_slice({"image": tmp_path / name, "slice": 1}) for name in ("a.dcm", "b.dcm"))
    torch.testing.assert_close(turned, 1 - plain, rtol=0, atol=1e-6)


def test_an_enhanced_file_of_one_frame_is_turned_by_its_groups(tmp_path, frames, write_frames):
    write_frames(tmp_path / "a.dcm", frames[:1], UPSIDE_DOWN)
    save_nifti(tmp_path / "b.nii", frames[:1], UPSIDE_DOWN)
    first, second = list_images(tmp_path)
    assert torch.equal(load_slice(first), load_slice(second))


def test_enhanced_files_of_one_frame_form_a_series(tmp_path, frames, write_frames):
    for index, frame in enumerate(frames):
        write_frames(tmp_path / f"{index}.dcm", frame[None], heights=[index * SLICE_MM], SeriesInstanceUID="1.2.3")
    save_nifti(tmp_path / "nifti.nii", frames, AXIAL)
    series, nifti = list_images(tmp_path, slices=3)
    assert torch.equal(load_slice(series), load_slice(nifti))


def refusal(path: Path, **others) -> str:
    with pytest.raises(UnusableInputError) as caught:
        load_slice({**list_images(path)[0], **others})
    assert path.name in str(caught.value)
    return str(caught.value)


def test_frames_at_one_position_are_refused(tmp_path, frames, write_frames):
    path = write_frames(tmp_path / "echoes.dcm", frames[:4], heights=np.array([0, 0, 1, 1]))
    assert "several of the 4 images" in refusal(path)
    path = write_frames(tmp_path / "times.dcm", frames, heights=np.zeros(5))
    assert "several of the 5 images" in refusal(path)


def test_frames_in_several_directions_are_refused(tmp_path, frames, write_frames):
    path = write_frames(tmp_path / "localizer.dcm", frames)
    dataset = pydicom.dcmread(path)
    turned = item(ImageOrientationPatient=list(CORONAL))
    dataset.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [turned]
    dataset.save_as(path)
    assert "differ in size, direction or pixel size" in refusal(path)


def test_frames_that_the_header_does_not_count_are_refused(tmp_path, frames, write_frames):
    path = write_frames(tmp_path / "a.dcm", frames)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence[4]
    dataset.save_as(path)
    assert "describes 4 frames, and NumberOfFrames is 5" in refusal(path)


@pytest.mark.parametrize("position", [(0, 0, 0), None])
def test_frames_without_positions_are_refused(tmp_path, frames, write_dicom, position):
    path = tmp_path / "cine.dcm"
    write_dicom(path, frames[0], position=position)
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames, dataset.PixelData = 5, frames.tobytes()
    dataset.save_as(path)
    assert "the 5 frames of the file have no positions in the patient" in refusal(path)


def test_films_of_ultrasound_are_refused():
    assert "the 30 frames of the file" in refusal(Path(get_testdata_file("examples_ybr_color.dcm")))


def csa_header(tags):
    """Siemens's header, https://nipy.org/nibabel/dicom/siemens_csa.html, with an item for each tag with a value."""
    content = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, value in tags.items():
        texts = [] if value is None else [f"{value:>8}\0".encode()]
        content += struct.pack("<64si4s3i", name.encode(), 1, b"IS", 6, len(texts), 77)
        for text in texts:
            content += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + b"\0" * (-len(text) % 4)
    return content


def mosaic_by(sign, dataset):
    """Write one sign of a mosaic into a header: those by which dcm2niix knows one."""
    siemens = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    if sign in ("MOSAIC", "MOSAIC_NORM", "VFRAME"):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", sign]
    elif sign == "number":
        siemens.add_new(0x0A, "US", 48)
    elif sign == "number without its creator":
        dataset.Manufacturer = "Siemens Healthineers"
        del dataset[0x00190010]
        dataset.add_new(0x0019100A, "US", 48)
    elif sign == "times":
        siemens.add_new(0x29, "FD", [0.0, 52.5, 105.0])
    elif sign == "csa header":
        header = csa_header({"EchoLinePosition": 32, "NumberOfImagesInMosaic": 36, "ImaCoilString": None})
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", header)
    elif sign == "frame":
        text, group = Dataset(), Dataset()
        text.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0x75, "CS", ["ORIGINAL", "M", "MOSAIC"])
        group.private_block(0x0021, "SIEMENS MR SDI 02", create=True).add_new(0xFE, "SQ", Sequence([text]))
        dataset.PerFrameFunctionalGroupsSequence = Sequence([group])
    elif sign == "grid":
        dataset.private_block(0x0065, "Image Private Header", create=True).add_new(0x50, "DS", "30")


SIGNS = [
    "MOSAIC",
    "MOSAIC_NORM",
    "VFRAME",
    "number",
    "number without its creator",
    "times",
    "csa header",
    "frame",
    "grid",
]


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_mosaic_is_refused_with_the_word_dcm2niix(tmp_path, frames, write_dicom, sign, implicit):
    path = write_dicom(tmp_path / "a.dcm", frames[0])
    dataset = pydicom.dcmread(path)
    mosaic_by(sign, dataset)
    if implicit:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path)
    assert "mosaic" in refusal(path)
    assert "dcm2niix" in refusal(path)


def test_siemens_headers_without_a_mosaic_are_images(tmp_path, frames, write_dicom):
    for number, tags in enumerate(
        [{"NumberOfImagesInMosaic": None, "NumberOfPrescans10": 8}, {"NumberOfImagesInMosaic": 0}]
    ):
        path = write_dicom(tmp_path / f"{number}.dcm", frames[0])
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 1)
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", csa_header(tags))
        dataset.save_as(path)
        assert load_slice(list_images(path)[0]).shape == (1, 6, 7)


def test_a_mosaic_that_the_scanner_took_apart_is_a_volume(tmp_path, frames, write_frames):
    """Siemens's XA30 leaves MOSAIC in the ImageType of enhanced files (rordenlab/dcm2niix, issue 553)."""
    path = write_frames(tmp_path / "a.dcm", frames, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    assert [load_slice(item).shape for item in list_images(path, slices="all")] == [(1, 6, 7)] * len(frames)


def test_one_image_in_a_private_grid_is_no_mosaic(tmp_path, frames, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", frames[0])
    dataset = pydicom.dcmread(path)
    dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x0A, "US", 48)
    dataset.private_block(0x0065, "Image Private Header", create=True).add_new(0x50, "DS", "1")
    dataset.save_as(path)
    assert load_slice(list_images(path)[0]).shape == (1, 6, 7)
