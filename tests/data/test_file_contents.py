"""The content of a file goes before its name, and a message says what a file really is."""

import gzip
import os
import re

import numpy as np
import pytest
from PIL import Image

from monai_deepssim.data import list_images, reader_of
from monai_deepssim.data.readers import READERS, unread_suffixes

PIXELS = np.random.default_rng(0).permutation(12 * 17).reshape(12, 17).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"<!DOCTYPE html>\n<html>404", "holds an HTML page"),
        ("a.png", b"\xef\xbb\xbf<HTML><body>404", "holds an HTML page"),
        ("a.png", b"<?xml version='1.0'?><Error>denied</Error>", "holds an XML document"),
        ("a.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "holds an SVG drawing"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer .*git lfs pull"),
        ("a.nii.gz", b"/annex/objects/MD5E-s1--1.nii.gz\n", "a git-annex pointer .*git annex get"),
        ("a.tif", b"outs:\n- md5: 1\n  path: a.tif\n", "a DVC pointer .*dvc pull"),
        ("a.npy", b"some words", "holds text"),
        ("a.jpg", "some words".encode("utf-16"), "holds text in UTF-16"),
        ("a.tif", bytes(2000), "holds nothing but zeros"),
        ("a.png", b"%PDF-1.7", "holds a PDF document"),
        ("a.png", b"\0\0\0\x18ftypheic\0\0\0\0", "holds a HEIC image"),
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0", "holds a HEIC image and is not a PNG"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0", "holds an AVIF image and is not a PNG"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "holds HDF5 and is not a PNG"),
        ("a.jxl", b"\xff\x0a", "holds a JPEG XL image and is not a PNG"),
        ("a.jls", b"\xff\xd8\xff\xf7", "holds a JPEG-LS image and is not a PNG"),
        ("a.png", gzip.compress(b"words", mtime=0), "holds gzip data"),
        ("a.hdr", b"#?RADIANCE\n" + bytes(500), "holds a Radiance image"),
        ("a.gif", b"", r"empty \(0 bytes\)"),
    ],
)
def test_what_cannot_be_read_is_named_for_what_it_is(tmp_path, refusal, name, content, message):
    (tmp_path / name).write_bytes(content)
    (item,) = list_images(tmp_path)  # an image that is missed, and not passed over
    assert item["path"] == name
    assert re.search(message, refusal(tmp_path / name))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("name", ["scan.png", "scan.jpg", "scan.tif", "scan.nii", "scan.dcm", "scan.npy", "scan"])
def test_a_picture_is_read_whatever_it_is_called(tmp_path, shows, kind, name):
    options = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    Image.fromarray(PIXELS).save(tmp_path / name, format=kind, **options)
    shows(tmp_path / name, PIXELS, 0.02 if kind == "JPEG" else 1e-6)


def test_a_dicom_file_named_as_a_picture_is_dicom(tmp_path, shows, write_dicom):
    write_dicom(tmp_path / "scan.png", PIXELS)
    assert reader_of(tmp_path / "scan.png").name == "DICOM"
    shows(tmp_path / "scan.png", PIXELS)


def test_a_dicom_file_that_is_a_tiff_too_is_what_its_suffix_says(tmp_path, shows, write_dicom):
    content = bytearray(write_dicom(tmp_path / "a.dcm", PIXELS).read_bytes())
    content[:4] = b"II*\0"  # the preamble is free for a second format, DICOM PS3.10 7.1
    (tmp_path / "a.dcm").write_bytes(content)
    shows(tmp_path / "a.dcm", PIXELS)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "scan.png")
    assert reader_of(tmp_path / "scan.png").name == "PNG"
    os.mkfifo(tmp_path / "scan")
    assert reader_of(tmp_path / "scan") is None


def test_every_suffix_is_of_one_reader_and_read_or_unread():
    suffixes = [suffix for reader in READERS for suffix in reader.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert not set(suffixes) & set(unread_suffixes())
    assert {".avif", ".heic", ".h5", ".mnc", ".zarr"} <= set(unread_suffixes())
