"""Local features of many images by number: one array or several, with keypoints left out or not."""

import numpy as np
import pytest

from monai_deepssim.search import FeatureTable, tabulate_features
from monai_deepssim.similarity import LocalFeatures

COUNTS = (3, 0, 5, 0, 4, 0)


@pytest.fixture(scope="module")
def features() -> list[LocalFeatures]:
    random = np.random.default_rng(0)
    return [
        LocalFeatures(
            random.random((count, 2), np.float32), random.integers(0, 255, (count, 128), dtype=np.uint8), 10.0 + number
        )
        for number, count in enumerate(COUNTS)
    ]


@pytest.fixture(params=["one block", "several blocks in another order"])
def table(request, features) -> FeatureTable:
    if request.param == "one block":
        return FeatureTable.of(features)
    order = [4, 1, 5, 0, 2, 3]
    blocks = [tabulate_features([features[image] for image in part])[0] for part in (order[:3], [], order[3:])]
    starts = np.empty(len(features), np.int64)
    starts[order] = np.cumsum([0, *(COUNTS[image] for image in order)])[:-1]
    return FeatureTable(blocks, starts, np.array(COUNTS), np.array([entry.side for entry in features]))


def test_images_have_the_features_that_were_given(table, features) -> None:
    assert len(table) == len(features)
    for found, given in zip(table, features, strict=True):
        np.testing.assert_array_equal(found.points, given.points)
        np.testing.assert_array_equal(found.descriptors, given.descriptors)
        assert found.side == given.side
    assert [entry.side for entry in table[-2:]] == [14.0, 15.0]
    with pytest.raises(IndexError):
        table[6]


def test_keypoints_are_found_by_their_numbers(table, features) -> None:
    owners = np.repeat(np.arange(6), COUNTS)
    stacked = np.concatenate([entry.descriptors for entry in features])
    numbers = np.random.default_rng(1).permutation(np.repeat(np.arange(12), 2))
    assert table.num_keypoints == 12
    np.testing.assert_array_equal(table.images_of(numbers), owners[numbers])
    np.testing.assert_array_equal(table.descriptors_of(numbers), stacked[numbers])
    assert table.descriptors_of(np.empty(0, np.int64)).shape == (0, 128)


def test_keypoints_that_are_left_out_keep_the_numbers_of_the_others(table, features) -> None:
    left_out = np.zeros(12, bool)
    left_out[[0, 3, 7]] = True
    fewer = table.without(left_out)
    np.testing.assert_array_equal(fewer.numbers, [1, 2, 4, 5, 6, 8, 9, 10, 11])
    np.testing.assert_array_equal(fewer[0].points, features[0].points[1:])
    np.testing.assert_array_equal(fewer[2].descriptors, features[2].descriptors[1:4])
    left_out[:] = np.arange(12) == 11
    assert [len(entry.points) for entry in fewer.without(left_out)] == [2, 0, 3, 0, 3, 0]
    assert table.without(np.zeros(12, bool)) is table


def test_descriptors_of_another_type_are_refused_and_not_cut() -> None:
    halves = LocalFeatures(np.zeros((2, 2), np.float32), np.full((2, 128), 0.5, np.float32), 64.0)
    with pytest.raises(ValueError, match=r"descriptors of type float32, want uint8"):
        FeatureTable.of([halves])
    assert len(FeatureTable.of([])) == 0
