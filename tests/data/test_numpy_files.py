"""Arrays that NumPy saved: one image per file, and nothing that would be guessed."""

import io
import struct
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

PIXELS = np.random.default_rng(0).permutation(12 * 17).reshape(12, 17)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", ">i2", "i4", "u8", "f2", ">f4", "f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_every_type_of_numbers_keeps_its_values(tmp_path, shows, dtype, order, name):
    pixels = np.array(PIXELS % (2 if dtype == "?" else 120), dtype=dtype, order=order)
    (np.save if name == "a.npy" else np.savez_compressed)(tmp_path / name, pixels)
    shows(tmp_path / name, pixels)
    (tmp_path / "without_suffix").write_bytes((tmp_path / name).read_bytes())
    shows(tmp_path / "without_suffix", pixels)


@pytest.mark.parametrize("shape", [(1, 12, 17), (12, 17, 1), (12, 17)])
def test_an_axis_of_length_one_is_no_stack(tmp_path, shows, shape):
    np.save(tmp_path / "a.npy", PIXELS.reshape(shape))
    shows(tmp_path / "a.npy", PIXELS)


def test_three_channels_behind_are_colours(tmp_path, shows):
    colours = np.random.default_rng(0).random((12, 17, 3))
    np.save(tmp_path / "a.npy", colours)
    shows(tmp_path / "a.npy", colours @ np.array([0.299, 0.587, 0.114]))


@pytest.mark.parametrize("shape", [(12,), (3, 12, 17), (8, 12, 17), (12, 17, 4), (1, 1, 12, 17), ()])
def test_what_may_be_a_volume_a_stack_or_colours_is_refused(tmp_path, refusal, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    assert f"has the shape {shape}, wanted (rows, columns)" in refusal(tmp_path / "a.npy")


def test_objects_texts_and_complex_numbers_are_refused(tmp_path, refusal):
    for array in (np.array([[{}, 1]], dtype=object), np.array([["a", "b"]]), np.ones((3, 3), complex)):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        assert "Save the file with one number per voxel" in refusal(tmp_path / "a.npy")


def test_an_archive_of_several_arrays_is_refused(tmp_path, refusal):
    np.savez(tmp_path / "a.npz", image=PIXELS, label=PIXELS)
    assert "holds image.npy, label.npy, wanted one array" in refusal(tmp_path / "a.npz")


def test_a_header_that_claims_more_than_there_is_costs_no_memory(tmp_path, refusal):
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(100))
    assert "tells a size of 1000000 x 1000000" in refusal(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", PIXELS)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    assert "cut short" in refusal(tmp_path / "a.npy")


def test_a_flipped_bit_in_an_archive_is_found(tmp_path, refusal):
    np.savez(tmp_path / "a.npz", PIXELS)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert "CRC" in refusal(tmp_path / "a.npz")


def test_an_archive_that_unpacks_to_more_than_its_array_is_read_no_further(tmp_path, shows):
    array = io.BytesIO()
    np.save(array, PIXELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", array.getvalue() + bytes(2**26))
    assert struct.unpack_from("<I", (tmp_path / "a.npz").read_bytes(), 22)[0] > 2**26
    shows(tmp_path / "a.npz", PIXELS)
