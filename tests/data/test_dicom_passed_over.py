"""Which DICOM files of a folder are no images to audit, and that nothing of it happens in silence."""

from pathlib import Path

import pytest
from pydicom import uid
from pydicom.data import get_testdata_file

from monai_deepssim.data import list_images, load_slice, scan_images
from monai_deepssim.data.readers import READERS
from monai_deepssim.errors import UnusableInputError

(READER,) = (reader for reader in READERS if reader.name == "DICOM")


def gathered(folder, *, all_files=False):
    images, ignored = READER.gather(sorted(folder.iterdir()), all_files=all_files)
    return [files[0].name for files in images], {path.name: reason for path, reason in ignored.items()}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SOPClassUID": uid.SegmentationStorage}, "a segmentation"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7"}, "a label map"),
        ({"SOPClassUID": uid.RTDoseStorage}, "an RT dose"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "a secondary capture"),
        ({"SOPClassUID": uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage}, "a secondary capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a picture of a screen"),
    ],
)
def test_what_is_no_image_to_audit_is_passed_over_unless_all_is_asked_for(
    tmp_path, brain_slice, write_dicom, tags, reason
):
    write_dicom(tmp_path / "image.dcm", brain_slice)
    write_dicom(tmp_path / "other.dcm", brain_slice, **tags)
    images, ignored = gathered(tmp_path)
    assert images == ["image.dcm"]
    assert ignored["other.dcm"].startswith(reason)
    assert "--all_dicom" in ignored["other.dcm"]
    assert gathered(tmp_path, all_files=True) == (["image.dcm", "other.dcm"], {})
    assert load_slice({"image": tmp_path / "other.dcm"}).shape == (1, 233, 197)


@pytest.mark.parametrize(
    "image_type",
    [
        ["DERIVED", "SECONDARY", "MPR"],
        ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
        ["DERIVED", "SECONDARY", "OTHER"],
        ["ORIGINAL", "SECONDARY", "AXIAL"],
        "",
    ],
)
def test_derived_images_are_images(tmp_path, brain_slice, write_dicom, image_type):
    write_dicom(tmp_path / "image.dcm", brain_slice)
    write_dicom(tmp_path / "other.dcm", brain_slice, ImageType=image_type)
    assert gathered(tmp_path) == (["image.dcm", "other.dcm"], {})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtplan.dcm", "RT Plan Storage"),
        ("rtstruct.dcm", "RT Structure Set Storage"),
        ("reportsi.dcm", "Basic Text SR Storage"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform Storage"),
    ],
)
@pytest.mark.parametrize("all_files", [False, True])
def test_what_has_no_pixels_is_passed_over_with_the_name_of_its_class(name, reason, all_files):
    images, ignored = READER.gather([Path(get_testdata_file(name))], all_files=all_files)
    assert images == []
    assert list(ignored.values()) == [f"DICOM without an image ({reason})"]


def test_where_all_are_secondary_captures_they_are_the_images(tmp_path, brain_slice, write_dicom):
    for index in range(3):
        write_dicom(tmp_path / f"{index}.dcm", brain_slice, SOPClassUID=uid.SecondaryCaptureImageStorage)
    assert gathered(tmp_path) == (["0.dcm", "1.dcm", "2.dcm"], {})
    write_dicom(tmp_path / "localizer.dcm", brain_slice, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert gathered(tmp_path)[0] == ["0.dcm", "1.dcm", "2.dcm"]


def test_a_capture_that_calls_itself_synthetic_is_an_image(tmp_path, brain_slice, write_dicom):
    write_dicom(tmp_path / "image.dcm", brain_slice)
    tags = {"SOPClassUID": uid.SecondaryCaptureImageStorage, "ConversionType": "SYN"}
    write_dicom(tmp_path / "synthetic.dcm", brain_slice, **tags)
    assert gathered(tmp_path) == (["image.dcm", "synthetic.dcm"], {})


def test_a_folder_of_which_all_is_passed_over_ends_in_an_error_that_names_the_option(
    tmp_path, brain_slice, write_dicom
):
    write_dicom(tmp_path / "a.dcm", brain_slice, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(UnusableInputError, match=r"a\.dcm: a localizer.*--all_dicom"):
        scan_images(tmp_path)


def test_a_file_that_is_named_is_read_whatever_it_is(tmp_path, brain_slice, write_dicom):
    path = write_dicom(tmp_path / "a.dcm", brain_slice, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert load_slice(list_images(path)[0]).shape == (1, 233, 197)
