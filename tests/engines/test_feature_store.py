"""Local features are found once for each image, by what it holds, on any number of ranks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from rank_threads import on_ranks

from monai_deepssim.engines import FeatureStore, feature_store
from monai_deepssim.search import FeatureTable
from monai_deepssim.similarity import LocalFeatures
from monai_deepssim.stores import IN_MEMORY

NUM_KEYPOINTS = {"a": 3, "b": 0, "c": 5, "d": 2, "e": 4, "f": 1, "g": 6}


def features_of(key: str) -> LocalFeatures:
    random = np.random.default_rng(ord(key))
    count = NUM_KEYPOINTS[key]
    points = random.random((count, 2), np.float32)
    return LocalFeatures(points, random.integers(0, 255, (count, 128), dtype=np.uint8), float(ord(key)))


@pytest.fixture
def find(tmp_path):
    """Find the features of images by their keys; returns which were looked for."""

    def call(keys: str, folder: Path = tmp_path / "local_features", image_size=(64, 64)) -> str:
        looked_for: list[str] = []

        def extract(row: int) -> LocalFeatures:
            looked_for.append(keys[row])
            return features_of(keys[row])

        check(FeatureStore(folder, list(keys), image_size).find(extract), keys)
        return "".join(sorted(looked_for))

    return call


def check(table: FeatureTable, keys: str) -> None:
    assert len(table) == len(keys)
    for entry, key in zip(table, keys, strict=True):
        expected = features_of(key)
        np.testing.assert_array_equal(entry.points, expected.points)
        np.testing.assert_array_equal(entry.descriptors, expected.descriptors)
        assert entry.side == expected.side


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(feature_store, "_MOST_IMAGES", 2)


def test_features_are_found_once_and_by_what_images_hold(find, monkeypatch) -> None:
    assert find("abcab") == "abc"
    assert find("cba") == ""
    assert find("dcbae") == "de"
    assert find("dcbae", image_size=(64, 32)) == "abcde"
    monkeypatch.setattr(cv2, "__version__", "another")
    assert find("dcbae", image_size=(64, 32)) == "abcde"
    assert find("dcbae", image_size=(64, 32)) == ""


def test_features_of_images_that_are_gone_leave_the_disk(find, tmp_path) -> None:
    folder = tmp_path / "local_features"
    find("abcde")
    assert find("ace") == ""
    stored = b"".join(path.read_bytes() for path in folder.glob("*.npy"))
    assert features_of("a").descriptors[0].tobytes() in stored
    assert features_of("d").descriptors[0].tobytes() not in stored
    assert len(list(folder.glob("*.npy"))) == len(list(folder.glob("*.json"))) == 3
    assert find("g") == "g"
    assert len(list(folder.iterdir())) == 2


def test_what_a_killed_run_left_is_removed(find, tmp_path) -> None:
    folder = tmp_path / "local_features"
    find("abcde")
    first = min(folder.glob("*.json"))
    first.unlink()  # killed between the two files
    (folder / "shard-0123456789abcdef.npy.partial").write_bytes(b"half")
    assert len(find("abcde")) in (1, 2)
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json"}
    assert find("abcde") == ""


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_file_in_which_a_bit_has_changed_is_named_and_made_again(find, tmp_path, capsys, suffix) -> None:
    folder = tmp_path / "local_features"
    find("abcde")
    for path in folder.glob(f"*{suffix}"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 4
        path.write_bytes(content)
    assert find("abcde") == "abcde"
    assert capsys.readouterr().err.count(f"{suffix}: is damaged") == 3
    assert find("abcde") == ""


def test_a_file_under_another_name_is_not_believed(find, tmp_path, capsys) -> None:
    folder = tmp_path / "local_features"
    find("ab")
    for path in list(folder.iterdir()):
        path.rename(path.with_stem("shard-0123456789abcdef"))
    assert find("ab") == "ab"
    assert "its name does not fit" in capsys.readouterr().err


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("in_memory", [False, True])
def test_ranks_find_them_together_and_each_has_all(tmp_path, size, in_memory) -> None:
    folder = (IN_MEMORY if in_memory else tmp_path) / "local_features"
    for keys in ("abcdefg", "gfabb"):
        tables = on_ranks(size, lambda _, keys=keys: FeatureStore(folder, list(keys), (64, 64)).find(of(keys)))
        assert len(tables) == size
        for table in tables:
            check(table, keys)


def of(keys: str):
    return lambda row: features_of(keys[row])


def test_no_images_and_images_without_keypoints_are_no_special_case(find) -> None:
    assert find("") == ""
    assert find("b") == "b"
    assert find("bb") == ""
