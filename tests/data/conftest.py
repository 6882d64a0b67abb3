"""Real and written images in every format."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nilearn
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from monai_deepssim.data import load_slice
from monai_deepssim.errors import UnusableInputError

AXIAL = (1, 0, 0, 0, 1, 0)


@pytest.fixture(scope="session")
def icbm152_file() -> Path:
    """The T1 template that nilearn ships: 197 x 233 x 189 voxels of 1 mm, stored in RAS order."""
    return Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


@pytest.fixture(scope="session")
def brain_slice(icbm152_file: Path) -> np.ndarray:
    """A real axial slice, front up and the patient's right on the left, uint8, with a landmark that makes it uneven."""
    volume = nib.load(icbm152_file)
    plane = np.asarray(volume.dataobj[:, :, 90])
    picture = np.round(plane / plane.max() * 255).astype(np.uint8).T[::-1, ::-1].copy()
    picture[40:50, 20:60] = 255
    return picture


@pytest.fixture
def lopsided() -> np.ndarray:
    """A volume in RAS order whose every voxel and slice differs, so that no flip or transposition goes unnoticed."""
    return np.random.default_rng(0).permutation(6 * 7 * 8).astype(np.int16).reshape(6, 7, 8)


@pytest.fixture
def shows() -> Callable[..., None]:
    """Return a function that checks that a file shows the picture expected, scaled to [0, 1]."""

    def check(path: Path, picture: np.ndarray, tolerance: float = 1e-6, **item: object) -> None:
        values = np.asarray(picture).astype(np.float64)
        expected = (values - values.min()) / (values.max() - values.min())
        assert load_slice({"image": str(path), **item})[0].numpy() == pytest.approx(expected, abs=tolerance)

    return check


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Return a function that gives the message with which a file is refused, which names it."""

    def message(path: Path, **item: object) -> str:
        with pytest.raises(UnusableInputError) as caught:
            load_slice({"image": str(path), **item})
        assert path.name in str(caught.value)
        return str(caught.value)

    return message


@pytest.fixture
def write_dicom() -> Callable[..., Path]:
    """Return a function that writes pixels as one DICOM file."""

    def write(
        path: Path,
        pixels: np.ndarray,
        *,
        series: str | None = None,
        position: tuple[float, float, float] | None = (0, 0, 0),
        orientation: tuple[float, ...] | None = AXIAL,
        photometric: str = "MONOCHROME2",
        **tags: object,
    ) -> Path:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID = series or generate_uid()
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        if pixels.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = photometric
        dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        if orientation is not None:
            dataset.ImageOrientationPatient = list(orientation)
        if position is not None:
            dataset.ImagePositionPatient = list(position)
        for name, value in tags.items():
            setattr(dataset, name, value)
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        pydicom.dcmwrite(path, dataset)
        return path

    return write


@pytest.fixture
def write_series(write_dicom: Callable[..., Path]) -> Callable[..., list[Path]]:
    """Return a function that writes a RAS volume as a DICOM series of the plane with the given index."""
    # Per anatomical axis: the directions of the columns and rows in DICOM's LPS, as scanners write them.
    orientations = {2: (1, 0, 0, 0, 1, 0), 1: (1, 0, 0, 0, 0, -1), 0: (0, 1, 0, 0, 0, -1)}

    def write(folder: Path, volume: np.ndarray, axis: int, names: list[str]) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        paths = []
        for index, name in enumerate(names):
            position = [0.0, 0.0, 0.0]
            position[axis] = index * (1 if axis == 2 else -1)  # RAS to LPS
            plane = np.take(volume, index, axis).T[::-1, ::-1]
            paths.append(
                write_dicom(
                    folder / name, plane, series=series, position=tuple(position), orientation=orientations[axis]
                )
            )
        return paths

    return write
