"""No byte of a store can change without being noticed, named and made again."""

import warnings
from contextlib import contextmanager

import numpy as np
import pytest

from monai_deepssim import UnusableInputError, stores
from monai_deepssim.files import atomic_file
from monai_deepssim.progress import quiet
from monai_deepssim.stores import ArrayStore, read_sealed, read_sealed_array, write_sealed, write_sealed_array

CONTENT = {"name": "sub-01/ä.png", "scores": [0.1, 1e-300, float("inf"), None], "rows": 3}


def test_what_is_sealed_comes_back_as_it_was(tmp_path) -> None:
    write_sealed(tmp_path / "a.json", CONTENT)
    assert read_sealed(tmp_path / "a.json") == CONTENT
    assert read_sealed(tmp_path / "b.json") is None


@pytest.mark.parametrize("bit", [0, 3, 6])
def test_a_bit_that_is_flipped_anywhere_in_a_sealed_file_is_noticed(tmp_path, bit) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        with quiet(), pytest.warns(UserWarning, match=r"a\.json: is damaged"):
            assert read_sealed(path) is None, place
        assert not path.exists()


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_bit_that_is_flipped_anywhere_in_a_sealed_array_or_its_notes_is_noticed(tmp_path, suffix) -> None:
    path = tmp_path / "a.npy"
    write_sealed_array(path, np.arange(40, dtype=np.float32), {"of": ["sub-01/ä.png"]})
    contents = {end: path.with_suffix(end).read_bytes() for end in (".npy", ".json")}
    for place in range(len(contents[suffix])):
        for end, content in contents.items():
            path.with_suffix(end).write_bytes(content)
        flipped = bytearray(contents[suffix])
        flipped[place] ^= 1 << place % 8
        path.with_suffix(suffix).write_bytes(flipped)
        with quiet(), pytest.warns(UserWarning, match=rf"a\{suffix}: is damaged"):
            assert read_sealed_array(path) is None, place


def test_an_array_that_changes_on_its_way_to_the_disk_is_not_taken_for_written(tmp_path, monkeypatch) -> None:
    @contextmanager
    def write_otherwise(path):
        with atomic_file(path) as file:
            yield file
        if path.suffix == ".npy":
            path.write_bytes(path.read_bytes()[:-1] + b"!")

    monkeypatch.setattr(stores, "atomic_file", write_otherwise)
    with quiet(), pytest.warns(UserWarning, match="is damaged"):  # noqa: SIM117
        with pytest.raises(UnusableInputError, match="what was written is not what is there"):
            write_sealed_array(tmp_path / "a.npy", np.arange(3.0), {})


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_a_sealed_file_that_was_cut_short_is_noticed(tmp_path, length) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    path.write_bytes(path.read_bytes()[:length])
    with quiet(), pytest.warns(UserWarning, match="is damaged"):
        assert read_sealed(path) is None


@pytest.mark.parametrize("bit", [0, 5])
def test_a_bit_that_is_flipped_anywhere_in_a_cell_never_gives_other_numbers(tmp_path, bit) -> None:
    store, path = ArrayStore(tmp_path), tmp_path / "cell.npz"
    arrays = {"scores": np.linspace(0, 1, 5), "ranks": np.arange(4), "seconds": 2.5}
    store.save("cell", "key", arrays)
    whole, noticed = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        path.write_bytes(flipped)
        with quiet(), warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("always")
            loaded = store.load("cell", "key")
        noticed += bool(record)
        # The archive has bytes that say nothing, such as the time of a member.
        if loaded is not None:
            for name, array in arrays.items():
                np.testing.assert_array_equal(loaded[name], array, err_msg=f"byte {place}")
    assert noticed > len(whole) / 3 / 2


def test_what_is_damaged_is_named_on_the_terminal(tmp_path, capsys) -> None:
    ArrayStore(tmp_path).save("ssim/none", "key", {"scores": np.ones(3)})
    (tmp_path / "ssim/none.npz").write_bytes(b"PK")
    assert ArrayStore(tmp_path).load("ssim/none", "key") is None
    assert "none.npz: is damaged" in capsys.readouterr().err
