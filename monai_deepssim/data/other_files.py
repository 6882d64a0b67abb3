"""What a file beside images is, by its content: a note, a file of the operating system, or what could hold an image."""

from __future__ import annotations

import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

__all__ = ["IGNORED_KINDS", "Ignored", "judge_file", "judge_folder"]

#: Why a file is not among the images: ``unread``, it could hold one; ``link``, it lies elsewhere; ``note``, a text;
#: ``system``, of an operating system; ``asked``, the user left it out; ``seen``, the images of a folder are listed
#: under another name of it.
IGNORED_KINDS = ("unread", "link", "note", "system", "asked", "seen")

# A list of 40,000 images with 100 characters each.
_LARGEST_NOTE_BYTES = 4 << 20
# Below this size, compression says nothing.
_SMALLEST_COMPRESSED_BYTES = 1024
# Words and numbers of a table shrink to a half or less; an image in Base64 stays at 0.75 of its characters.
_LEAST_COMPRESSION = 0.7
# Base64 in one line. The longest paths of Linux and Windows have 4,096 and 32,767 characters, but few have 1,000.
_LONGEST_WORD = 1000
# The pixels of an image of 64 x 64, the smallest that is audited, and the share of words that they are then.
_NUM_PIXELS, _SHARE_OF_PIXELS = 4096, 0.95
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_SEPARATORS = re.compile(r"[\s,;\[\]{}()]+")
_NUMBER = re.compile(r"[-+]?[\d.]+(?:e[-+]?\d+)?", re.IGNORECASE)

_APPLE_DOUBLE = b"\x00\x05\x16\x07"  # RFC 1740, appendix A
_SYSTEM_FILES = {".ds_store": b"\x00\x00\x00\x01Bud1", "thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"}
_LARGEST_SYSTEM_BYTES = 16 << 20
# Synology writes @eaDir/scan.png/SYNOPHOTO_THUMB_M.jpg for scan.png.
_THUMBNAIL = re.compile(r"SYNO(PHOTO|FILE)_THUMB_\w+\.(jpg|png)", re.IGNORECASE)
_SAME_PICTURE = 0.95  # correlation of both at 16 x 16 pixels


class Ignored(NamedTuple):
    """Why a file, or a folder with all that is in it, is not among the images.

    Attributes:
        kind: one of :data:`IGNORED_KINDS`.
        reason: in words.
    """

    kind: str
    reason: str


def judge_file(path: Path, otherwise: str) -> Ignored:
    """Say what a file is that no reader takes, by its content and never by its name alone.

    Args:
        path: a regular file.
        otherwise: the reason for a file that could hold an image.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "samples.csv")
        >>> _ = path.write_text("image,seed\\n0.png,17\\n")
        >>> judge_file(path, "not an image").kind
        'note'
    """
    try:
        size = path.stat().st_size
        if size <= _LARGEST_SYSTEM_BYTES and _is_system_file(path):
            return Ignored("system", "a file of the operating system")
        if path.suffix == ".dvc" and not path.with_suffix("").exists():
            return Ignored("unread", f"a DVC pointer to {path.stem}, which is not there (run: dvc pull)")
        if size <= _LARGEST_NOTE_BYTES and _is_note(path.read_bytes()):
            return Ignored("note", "a table or note beside the images" if size else "an empty file")
    except OSError as error:
        return Ignored("unread", f"cannot be opened ({error.strerror})")
    return Ignored("unread", otherwise)


def judge_folder(name: str, files: Iterable[Path]) -> Ignored:
    """Say what a folder is that no images are taken from: one whose name begins with a dot, or a system's own.

    Args:
        name: what to call the folder.
        files: the files in it and below; they are looked at up to the first that could hold an image.
    """
    kinds = set()
    for file in files:
        kind = judge_file(file, "").kind if file.is_file() and not file.is_symlink() else "unread"
        if kind == "unread":
            return Ignored("unread", f"{name} with files that could be images, such as {file.name}")
        kinds.add(kind)
    return Ignored("system" if "system" in kinds else "note", f"{name} without images")


def _is_note(content: bytes) -> bool:
    """Whether content is text, and none that spells the pixels of an image."""
    text = _decode(content)
    if text is None or _CONTROL_CHARACTERS.search(text):
        return False
    if len(content) >= _SMALLEST_COMPRESSED_BYTES and len(zlib.compress(content, 1)) > _LEAST_COMPRESSION * len(
        content
    ):
        return False
    words = [word for word in _SEPARATORS.split(text) if word]
    num_numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    is_array = num_numbers >= _NUM_PIXELS and num_numbers > _SHARE_OF_PIXELS * len(words)
    return not is_array and max(map(len, words), default=0) <= _LONGEST_WORD


def _decode(content: bytes) -> str | None:
    encoding = "utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8"
    for name in (encoding, "latin-1"):
        try:
            return content.decode(name)
        except UnicodeDecodeError:
            continue
    return None


def _is_system_file(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8)
    if path.name.startswith("._"):
        return head.startswith(_APPLE_DOUBLE)
    signature = _SYSTEM_FILES.get(path.name.lower())
    return (signature is not None and head == signature) or _is_thumbnail(path)


def _is_thumbnail(path: Path) -> bool:
    """Whether a picture is what its name says: a thumbnail of the file beside the folder that it lies in."""
    folder = path.parent.parent
    original = folder.parent / path.parent.name
    if folder.name != "@eaDir" or not _THUMBNAIL.fullmatch(path.name) or not original.is_file():
        return False
    try:
        pictures = [_tiny(path), _tiny(original)]
    except Exception:  # Pillow raises whatever its parsers stumble over
        return False
    return bool(np.corrcoef(pictures)[0, 1] > _SAME_PICTURE)


def _tiny(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L").resize((16, 16), Image.Resampling.BOX), dtype=float).ravel()
