"""GDCM in a process of its own: at some damaged pictures it ends its process, where other decoders raise.

This module is also what that process runs, so that it imports nothing but NumPy and pydicom.
"""

from __future__ import annotations

import atexit
import io
import os
import subprocess
import sys
import threading
from typing import BinaryIO

import numpy as np
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array

__all__ = ["decode_with_gdcm"]

_PIXEL_KEYWORDS = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_LENGTH_BYTES = 8
_MAX_SECONDS = 120.0  # a frame takes milliseconds; one that takes longer never ends

_lock = threading.Lock()
# By the process that talks to it: one that was forked must not read the answers of another.
_processes: dict[int, subprocess.Popen] = {}


def decode_with_gdcm(dataset: Dataset, code: bytes) -> np.ndarray:
    """Decode a compressed frame.

    Args:
        dataset: Elements that describe the pixels, and the transfer syntax in ``file_meta``.
        code: The compressed frame.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for colour, as stored.

    Raises:
        ValueError: GDCM cannot decode it, or ended.
    """
    request = _as_file(dataset, code)
    with _lock:
        process = _running_process()
        timer = threading.Timer(_MAX_SECONDS, process.kill)
        timer.start()
        try:
            _send(process.stdin, request)  # type: ignore[arg-type]
            reply = _receive(process.stdout)  # type: ignore[arg-type]
        except OSError:
            reply = None
        finally:
            timer.cancel()
        if reply is None:
            _end_process()
    if reply is None:
        raise ValueError("GDCM gave up at this picture")
    pixels = np.load(io.BytesIO(reply), allow_pickle=False)
    if pixels.dtype.kind == "U":
        raise ValueError(str(pixels))
    return pixels


def _as_file(dataset: Dataset, code: bytes) -> bytes:
    """Return a DICOM file with one frame and nothing else."""
    image = Dataset()
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            image[keyword] = dataset[keyword]
    image.PixelData = encapsulate([code])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    stream = io.BytesIO()
    dcmwrite(stream, image)
    return stream.getvalue()


def _running_process() -> subprocess.Popen:
    process = _processes.get(os.getpid())
    if process is None or process.poll() is not None:
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, stderr=nowhere)
        _processes[os.getpid()] = process
    return process


@atexit.register
def _end_process() -> None:
    process = _processes.pop(os.getpid(), None)
    if process is not None:
        process.kill()
        process.communicate()


def _send(stream: BinaryIO, content: bytes) -> None:
    stream.write(len(content).to_bytes(_LENGTH_BYTES, "big") + content)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes | None:
    length = stream.read(_LENGTH_BYTES)
    content = stream.read(int.from_bytes(length, "big")) if len(length) == _LENGTH_BYTES else b""
    return content or None


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
    while request := _receive(requests):
        try:
            image = dcmread(io.BytesIO(request), force=True)
            pixels = pixel_array(image, index=0, decoding_plugin="gdcm", correct_unused_bits=False)
        except Exception as error:  # whatever it raises is told to the other process
            pixels = np.array(str(error) or type(error).__name__)
        stream = io.BytesIO()
        np.save(stream, pixels)
        _send(replies, stream.getvalue())


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # what GDCM prints must not get between the replies
        _serve(sys.stdin.buffer, output)
