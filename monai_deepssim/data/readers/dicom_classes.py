"""Which DICOM files are no images of a patient, so that an audit passes over them unless it is asked to read all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import uid

from monai_deepssim.data.readers.dicom_header import DicomHeader

__all__ = ["PASSED_OVER_CLASSES", "PASSED_OVER_TYPES", "SECONDARY_CAPTURES", "passed_over"]

#: Storage classes with pixels that are no picture of the patient, and why.
PASSED_OVER_CLASSES: dict[uid.UID, str] = {
    uid.SegmentationStorage: "a segmentation: its pixels are labels",
    uid.UID("1.2.840.10008.5.1.4.1.1.66.7"): "a label map: its pixels are labels",
    uid.UID("1.2.840.10008.5.1.4.1.1.66.8"): "a height map of a segmentation: its pixels are labels",
    uid.RTDoseStorage: "an RT dose: its pixels are doses",
}

#: Values of ImageType by which a scanner marks what is no image to read, and why. DERIVED and SECONDARY are not among
#: them: a reformatted plane, a projection, a map of diffusion and every image that was normalised is so.
PASSED_OVER_TYPES: dict[str, str] = {
    "LOCALIZER": "a localizer, which only planned the acquisition",
    "SCREEN SAVE": "a picture of a screen",
    "CSA REPORT": "a report of the scanner as a picture",
}

#: Classes of pictures that did not come from a scanner as an image: screens, scanned films, and what programs write.
SECONDARY_CAPTURES = (
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
_SYNTHETIC = "SYN"  # ConversionType of a synthetic image: PS3.3 C.8.6.1


def passed_over(headers: Sequence[DicomHeader], *, all_files: bool = False) -> dict[Path, str]:
    """Return the files of a folder that hold no image to audit, with the reason.

    Secondary captures are screens and reports beside acquired images. Where all images of a folder are secondary
    captures, they are its images: programs write synthetic images with this class.

    Args:
        headers: Those of all DICOM files that were found in the folder and the folders in it.
        all_files: Whether to pass over nothing but files without pixels.
    """
    reasons = {header.path: _reason(header, all_files) for header in headers}
    images = [header for header in headers if not reasons[header.path]]
    captures = {header.path for header in images if _is_capture(header)}
    if not all_files and 0 < len(captures) < len(images):
        reasons |= dict.fromkeys(captures, "a secondary capture beside acquired images; --all_dicom reads it")
    return {path: reason for path, reason in reasons.items() if reason}


def _reason(header: DicomHeader, all_files: bool) -> str:
    if header.shape is None:
        name = f" ({header.sop_class.name})" if header.sop_class else ""
        return f"DICOM without an image{name}"
    if all_files:
        return ""
    reasons = [PASSED_OVER_CLASSES.get(header.sop_class), *map(PASSED_OVER_TYPES.get, header.image_type)]
    return next((f"{reason}; --all_dicom reads it" for reason in reasons if reason), "")


def _is_capture(header: DicomHeader) -> bool:
    return header.sop_class in SECONDARY_CAPTURES and header.conversion_type != _SYNTHETIC
