"""Headers of MetaImage and NRRD as far as they say which file has the voxels, and checks before ITK reads it.

ITK ends the whole process on some damaged MetaImage headers, allocates what they claim, passes over failed checksums
and follows the name of a data file anywhere. So these are checked here, and the geometry is left to ITK.
"""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from monai_deepssim.data.readers.volumes import is_beside
from monai_deepssim.errors import UnusableInputError

__all__ = ["ItkHeader", "check_voxels", "data_file_of", "is_itk_header", "read_itk_header"]

_MAX_HEADER_BYTES = 2**20
_MAX_LINE_LENGTH = 400  # of a field that has a meaning: in longer ones that are wrong, teem, ITK's NRRD, loses itself
_MAX_AXES = 4
_META_START = re.compile(rb"(ObjectType|ObjectSubType|Comment|Name|ID|NDims)\s*=")
_META_DATA = re.compile(rb"^ElementDataFile\s*=[^\n]*\n?", re.MULTILINE)
_NRRD_DATA = re.compile(rb"\r?\n\r?\n")
_META_LINE = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_NRRD_LINE = re.compile(r"^([\w ]+?): ?(.*?)\s*$", re.MULTILINE)
_NRRD_OWN_LINE = re.compile(r"#|[^:]*:=")  # comments, and keys of a user's own
_CHUNK = 2**20


@dataclass(frozen=True)
class ItkHeader:
    """The fields of a header.

    Attributes:
        is_nrrd: Whether it is NRRD; else MetaImage.
        fields: By name, in lower case and without spaces.
        size: Bytes from the start of the file to voxels in the same file.
    """

    is_nrrd: bool
    fields: dict[str, str]
    size: int

    @property
    def data_file(self) -> str:
        """The name of the file with the voxels, ``""`` where it is this one."""
        if self.is_nrrd:
            return self.fields.get("datafile", "")
        name = self.fields.get("elementdatafile", "")
        return "" if name.upper() == "LOCAL" else name


def is_itk_header(head: bytes) -> bool:
    """Whether a file is NRRD or MetaImage by its first bytes."""
    return head.startswith(b"NRRD000") or bool(_META_START.match(head) and b"NDims" in head)


def read_itk_header(path: Path) -> ItkHeader:
    """Read the fields of a header, and check what ITK does not.

    Raises:
        ValueError: it is no header, or has a field that ITK cannot take.
    """
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER_BYTES)
    if not is_itk_header(start):
        raise ValueError("it does not begin with the header of a MetaImage or an NRRD file")
    is_nrrd = start.startswith(b"NRRD")
    end = (_NRRD_DATA if is_nrrd else _META_DATA).search(start)
    size = end.end() if end else len(start)
    text = start[:size].decode("latin-1")
    if not is_nrrd and end is None:
        raise ValueError("its header has no ElementDataFile")
    pairs = (_NRRD_LINE if is_nrrd else _META_LINE).findall(text)
    fields = {name.lower().replace(" ", ""): value for name, value in pairs}
    lines = [line for line in text.splitlines() if not (is_nrrd and _NRRD_OWN_LINE.match(line))]
    if max(map(len, lines)) > _MAX_LINE_LENGTH:
        raise ValueError(f"a line of its header has more than {_MAX_LINE_LENGTH} characters")
    num_axes = fields.get("dimension" if is_nrrd else "ndims", "")
    lengths = fields.get("sizes" if is_nrrd else "dimsize", "").split()
    if num_axes not in map(str, range(2, _MAX_AXES + 1)):
        raise ValueError(f"its header tells {num_axes or 'no'} dimensions, wanted 2 to {_MAX_AXES}")
    if len(lengths) != int(num_axes) or not all(re.fullmatch(r"\d{1,9}", length) for length in lengths):
        raise ValueError(f"its header tells {num_axes} dimensions and the size {' '.join(lengths)!r}")
    return ItkHeader(is_nrrd, fields, size)


def data_file_of(path: Path, header: ItkHeader, listed: Collection[str | Path] = ()) -> Path:
    """Return the file with the voxels, which is the header itself or lies beside it.

    Args:
        path: Path of the header.
        header: As :func:`read_itk_header` returns it.
        listed: Files that were listed; any other one must not be a link.

    Raises:
        UnusableInputError: the header names several files, or one that is elsewhere or missing.
    """
    name = header.data_file
    if not name:
        return path
    if Path(name).name != name or "\\" in name or "%" in name or name.split()[0] == "LIST":
        raise UnusableInputError(
            f"{path}: the header names {name!r} as the file with its voxels, wanted one file in the same folder. Save "
            "the volume again, best in one file (.mha, .nrrd or .nii.gz)."
        )
    if not is_beside(path.parent / name, listed):
        raise UnusableInputError(
            f"{path}: the file with its voxels, {name}, is not beside it, or is a link. Restore it, or remove this one."
        )
    return path.parent / name


def check_voxels(path: Path, header: ItkHeader, num_bytes: int) -> None:
    """Unpack compressed voxels to the end, without keeping them, so that their checksum is compared.

    Args:
        path: Path of the file with the voxels.
        header: As :func:`read_itk_header` returns it.
        num_bytes: What the size of the volume says that the voxels take.

    Raises:
        ValueError: there are fewer or more, or they are damaged.
        Exception: what gzip, bzip2 or zlib raise for a damaged stream.
    """
    encoding = header.fields.get("encoding", "raw").lower() if header.is_nrrd else ""
    is_compressed_meta = not header.is_nrrd and header.fields.get("compresseddata", "").lower().startswith(("t", "1"))
    if encoding not in ("gz", "gzip", "bz2", "bzip2") and not is_compressed_meta:
        return
    if any(name in header.fields for name in ("lineskip", "byteskip", "headersize")):
        raise ValueError("its voxels are compressed behind a part that is skipped, which is not read")
    file_size = path.stat().st_size
    if int(header.fields.get("compresseddatasize") or 0) > file_size:
        raise ValueError(f"CompressedDataSize is more than the {file_size:,} bytes of the file")
    with path.open("rb") as file:
        file.seek(header.size if not header.data_file else 0)
        count = 0
        for chunk in _unpacked(file, encoding):
            count += len(chunk)
            if count > num_bytes + _CHUNK:
                break
    if count != num_bytes:
        raise ValueError(
            f"its voxels unpack to {'more' if count > num_bytes else 'less'} than the {num_bytes:,} bytes of its header"
        )


def _unpacked(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    if encoding:
        with gzip.open(file) if encoding.startswith("gz") else bz2.open(file) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        return
    unpacker = zlib.decompressobj()
    packed = b""
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(_CHUNK)
        chunk = unpacker.decompress(packed, _CHUNK)
        if not packed and not chunk:
            raise EOFError("its compressed voxels end early")
        yield chunk
