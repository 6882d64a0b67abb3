"""NIfTI, in one file or in two, and Analyze."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import nibabel as nib
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1PairHeader
from nibabel.nifti2 import Nifti2PairHeader

from monai_deepssim.data.readers.nibabel_volumes import NibabelReader, NibabelVolume, read_start
from monai_deepssim.data.readers.streams import inflated_head
from monai_deepssim.data.readers.volumes import is_beside
from monai_deepssim.errors import UnusableInputError

__all__ = ["NiftiPairReader", "NiftiReader"]

_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_PAIR_HEADERS = {348: Nifti1PairHeader, 540: Nifti2PairHeader}
_LACKS = (
    "{file}: the file with its {role}, of the same name with {suffix}, is not beside it, or is a link. Restore it, "
    "or remove this one."
)
_ANALYZE_STARTS = ((348).to_bytes(4, "little"), (348).to_bytes(4, "big"))
# Byte 252 of an Analyze header, by Mayo's analyze_db.h: 0 is transverse and not flipped, 1 to 5 are other planes.
_ANALYZE_ORIENT_BYTE = 252


class NiftiReader(NibabelReader):
    """NIfTI by nibabel, turned by its affine matrix: sform, else qform, else x from right to left as in Analyze.

    A file with one axis of length 1, or with two axes, is an image; its affine tells which plane it shows.
    """

    name = "NIfTI"
    suffixes = (".nii", ".nii.gz", ".nii.bz2")

    def recognizes(self, head: bytes) -> bool | None:
        start = inflated_head(head)
        return start if start is None else start[344:348] == b"n+1\0" or start[4:8] == b"n+2\0"

    def open_volume(self, files: Sequence[str]) -> NibabelVolume:
        size = _header_size(read_start(files[0], 348))
        header = _HEADERS[size](read_start(files[0], size))
        if bytes(header["magic"].item()).startswith(b"ni"):
            raise UnusableInputError(
                f"{files[0]}: this is the header of a NIfTI pair, and its voxels are in another file. Name the two "
                ".hdr and .img."
            )
        if header.get_data_offset() < size:  # nibabel would show the header as voxels
            raise ValueError(f"the voxels begin at byte {header.get_data_offset()}, within its header")
        return NibabelVolume(header, header.get_best_affine(), files[0])


class NiftiPairReader(NibabelReader):
    """NIfTI and Analyze whose header and voxels are two files, ``.hdr`` and ``.img``.

    Analyze says nothing of its orientation that programs agree on: as in nibabel, x runs from right to left.
    """

    name = "NIfTI pair"
    suffixes = (".hdr", ".img", ".hdr.gz", ".img.gz")
    taken_as = "a volume or an image in two files of one name, header and voxels; so is Analyze 7.5"

    def recognizes(self, head: bytes) -> bool | None:
        start = inflated_head(head)
        if start is None:
            return None
        is_analyze = start[:4] in _ANALYZE_STARTS and start[344:347] == bytes(3) and len(start) >= 348
        return start[344:347] == b"ni1" or start[4:7] == b"ni2" or is_analyze

    def gather(
        self, paths: Sequence[Path], *, all_files: bool = False
    ) -> tuple[list[tuple[Path, ...]], dict[Path, str]]:
        return sorted({_files(path, paths) for path in paths}), {}

    def files_with(self, path: Path) -> tuple[Path, ...]:
        return _files(path)

    def open_volume(self, files: Sequence[str]) -> NibabelVolume:
        header_file, data_file = _pair_of(Path(files[0]), files)
        if header_file is None:
            raise UnusableInputError(_LACKS.format(file=data_file, role="header", suffix=".hdr"))
        start = read_start(str(header_file), 348)
        size = _header_size(start)
        if data_file is None:
            raise UnusableInputError(_LACKS.format(file=header_file, role="voxels", suffix=".img"))
        header: AnalyzeHeader
        if start[344:347] in (b"ni1", b"n+1") or size == 540:
            header = _PAIR_HEADERS[size](read_start(str(header_file), size))
        else:
            _check_analyze_orientation(header_file, start)
            header = nib.Spm2AnalyzeImage.header_class(start)
        return NibabelVolume(header, header.get_best_affine(), str(data_file))


def _header_size(start: bytes) -> int:
    """348 or 540 in either order of bytes, which stands at the start of every header.

    Raises:
        ValueError: it does not.
    """
    for size in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")):
        if size in _HEADERS:
            return size
    raise ValueError("it does not begin with 348 or 540, the size of its header")


def _files(path: Path, listed: Collection[Path] = ()) -> tuple[Path, ...]:
    return tuple(file for file in _pair_of(path, listed) if file is not None)


def _pair_of(path: Path, listed: Collection[str | Path]) -> tuple[Path | None, Path | None]:
    """The header and the file with the voxels, as far as they are on disk."""
    name = path.name
    compressed = name.lower().endswith(".gz")
    stem = name[: -len(".hdr.gz")] if compressed else name[: -len(".hdr")]
    is_header = name.lower().removesuffix(".gz").endswith(".hdr")
    kind = ".img" if is_header else ".hdr"
    kinds = [kind, kind.upper()]
    # Its like comes first: a.hdr.gz belongs to a.img.gz, where there is also a.img.
    candidates = [stem + kind + end for end in (".gz", "") for kind in kinds]
    candidates = candidates if compressed else candidates[2:] + candidates[:2]
    other = next(
        (path.with_name(candidate) for candidate in candidates if is_beside(path.with_name(candidate), listed)), None
    )
    return (path, other) if is_header else (other, path)


def _check_analyze_orientation(header_file: Path, start: bytes) -> None:
    if header_file.with_suffix(".mat").exists():
        raise UnusableInputError(
            f"{header_file}: the orientation of this Analyze volume is in {header_file.with_suffix('.mat').name}, "
            "which is not read. Convert it to NIfTI, for example with SPM or nibabel."
        )
    if start[_ANALYZE_ORIENT_BYTE] in range(1, 6):
        raise UnusableInputError(
            f"{header_file}: the slices of this Analyze volume are not axial (orient is "
            f"{start[_ANALYZE_ORIENT_BYTE]}, wanted 0). Convert it to NIfTI."
        )
