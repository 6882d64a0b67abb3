"""The vote of local descriptors, by FAISS and without it, and the candidates of two searches."""

import cv2
import numpy as np
import pytest
import torch
from rank_threads import on_ranks

import monai_deepssim.search.descriptor_index as descriptor_index
from monai_deepssim.search import DescriptorIndex, LocalFeatureSearch, is_proven, unite_candidates
from monai_deepssim.search.local_feature_search import drop_common_features
from monai_deepssim.similarity import VERSIONS, LocalMatch, extract_local_features, extract_rest, match_local_features


@pytest.fixture(scope="module")
def descriptors() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, (count, 128), dtype=np.uint8) for count in (30, 0, 50, 40, 60)]


def test_the_votes_are_those_of_a_search_by_hand(descriptors):
    query = np.concatenate([descriptors[2][:10], descriptors[4][:5]])
    stacked = np.concatenate(descriptors).astype(np.float64)
    owners = np.repeat(np.arange(5), [len(rows) for rows in descriptors])
    unit = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    expected = np.zeros(5)
    for row in query.astype(np.float64):
        cosines = unit @ (row / np.linalg.norm(row))
        nearest = np.argsort(-cosines)[:2]
        for image in set(owners[nearest]):
            expected[image] += np.exp(10 * (max(cosines[n] for n in nearest if owners[n] == image) - 1))
    votes = DescriptorIndex(num_neighbors=2, use_faiss=False).fit(descriptors).vote(query)
    np.testing.assert_allclose(votes, expected, rtol=1e-4)
    assert votes[1] == 0


@pytest.fixture(params=["cells", "codes"])
def small_index(request, monkeypatch) -> None:
    if request.param == "codes":
        pytest.importorskip("faiss")
    monkeypatch.setattr(descriptor_index, "_LEAST_FOR_CODES", 1 if request.param == "codes" else 10**9)
    monkeypatch.setattr(descriptor_index, "_LEAST_FOR_CELLS", 1)
    monkeypatch.setattr(descriptor_index, "_ADDED_AT_ONCE", 700)


def exact_votes(images: list[np.ndarray], query: np.ndarray, monkeypatch, num_neighbors: int = 3) -> np.ndarray:
    """Votes of a search that compares all descriptors."""
    with monkeypatch.context() as patch:
        patch.setattr(descriptor_index, "_LEAST_FOR_CELLS", 10**9)
        return DescriptorIndex(num_neighbors, use_faiss=False).fit(images).vote(query)


def test_an_index_names_the_images_that_the_exact_search_names(small_index, monkeypatch):
    random = np.random.default_rng(1)
    images = [random.integers(0, 255, (100, 128), dtype=np.uint8) for _ in range(30)]
    index = DescriptorIndex().fit(images)
    for image in (0, 17, 29):
        votes = index.vote(images[image])
        assert votes.argmax() == exact_votes(images, images[image], monkeypatch).argmax() == image
        assert votes[image] > 98, "of 100 keypoints each lies in the cell where it is looked for"


def test_votes_of_an_index_weigh_as_much_as_those_of_the_exact_search(small_index, monkeypatch):
    for name in ("_NUM_PROBED", "_LEAST_PROBED"):
        monkeypatch.setattr(descriptor_index, name, 1000)  # all cells, so that the codes alone can lose a vote
    random = np.random.default_rng(1)
    images = [random.integers(0, 255, (100, 128), dtype=np.uint8) for _ in range(30)]
    near = np.clip(images[4].astype(int) + random.integers(-20, 20, images[4].shape), 0, 255).astype(np.uint8)
    votes = DescriptorIndex(1).fit(images).vote(near)
    np.testing.assert_allclose(votes[4], exact_votes(images, near, monkeypatch, 1)[4], rtol=1e-3)


def test_all_cells_together_vote_as_the_exact_search(monkeypatch):
    monkeypatch.setattr(descriptor_index, "_LEAST_FOR_CELLS", 1)
    for name in ("_NUM_PROBED", "_LEAST_PROBED"):
        monkeypatch.setattr(descriptor_index, name, 1000)
    random = np.random.default_rng(3)
    images = [random.integers(0, 255, (count, 128), dtype=np.uint8) for count in (300, 0, 50, 129, 64)]
    images[2][7] = 0  # a descriptor of length 0 is near to none
    query = np.concatenate([images[3][:20], random.integers(0, 255, (50, 128), dtype=np.uint8)])
    found = DescriptorIndex().fit(images).vote(query)
    np.testing.assert_allclose(found, exact_votes(images, query, monkeypatch), rtol=1e-5)


def test_ranks_build_one_index_together(small_index):
    random = np.random.default_rng(2)
    images = [random.integers(0, 255, (count, 128), dtype=np.uint8) for count in (300, 0, 500, 900, 400)]
    expected = DescriptorIndex().fit(images).vote(images[3])
    for size in (2, 3):
        for votes in on_ranks(size, lambda _: DescriptorIndex().fit(images).vote(images[3])):
            np.testing.assert_array_equal(votes, expected)


def test_several_queries_at_once_vote_as_each_by_itself(descriptors):
    index = DescriptorIndex(use_faiss=False).fit(descriptors)
    together = index.vote(np.stack([descriptors[0][:20], descriptors[3][:20]]))
    np.testing.assert_allclose(together, [index.vote(descriptors[0][:20]), index.vote(descriptors[3][:20])])


def test_images_without_keypoints_have_no_votes_and_an_empty_index_says_what_to_do():
    empty = np.zeros((0, 128), np.uint8)
    assert DescriptorIndex().fit([empty, empty]).vote(np.ones((3, 128))).tolist() == [0, 0]
    assert DescriptorIndex().fit([np.ones((2, 128), np.uint8)]).vote(empty).tolist() == [0]
    with pytest.raises(RuntimeError, match=r"call fit\(descriptors\) first"):
        DescriptorIndex().vote(empty)
    with pytest.raises(ValueError, match="there are no images"):
        DescriptorIndex().fit([])
    with pytest.raises(ValueError, match="num_neighbors=0"):
        DescriptorIndex(num_neighbors=0)
    with pytest.raises(ValueError, match="num_candidates=0"):
        LocalFeatureSearch(num_candidates=0)


def test_excluded_training_images_are_not_proposed(phantoms):
    features = [extract_local_features(image) for image in phantoms[:5]]
    search = LocalFeatureSearch().fit(features)
    assert search.query(features[3])[0][0] == 3
    assert all(image not in (3, 1) for image, _ in search.query(features[3], exclude=[3, 1]))


def match(num_inliers: int) -> LocalMatch:
    points = np.zeros((num_inliers, 2), np.float32)
    return LocalMatch(num_inliers, np.eye(2, 3), False, points, points, 1.0)


def test_candidates_of_both_searches_are_joined_and_a_proven_copy_needs_few():
    weak = [(image, match(inliers)) for image, inliers in ((9, 20), (8, 12), (7, 8), (6, 6), (5, 5), (4, 3))]
    assert not is_proven(weak)
    assert unite_candidates(weak, [1, 8, 2, 3], 7) == [9, 8, 7, 6, 1, 2, 3]
    assert unite_candidates(weak, [1, 8, 2, 3], 5) == [9, 8, 7, 6, 1]
    proven = [(9, match(120)), (8, match(40)), (7, match(12))]
    assert is_proven(proven)
    assert unite_candidates(proven, [1, 2, 3], 7) == [9, 8, 1]


def test_a_second_source_is_compared_before_repeats_of_the_first():
    def at(num_inliers: int, start: int) -> LocalMatch:
        points = np.column_stack([np.arange(start, start + num_inliers), np.zeros(num_inliers)]).astype(np.float32)
        return LocalMatch(num_inliers, np.eye(2, 3), False, points, points, 1.0)

    found = [*((image, at(40, 0)) for image in range(6)), (7, at(13, 100)), (8, at(12, 5))]
    assert unite_candidates(found, [20, 21], 4) == [0, 7, 1, 2]
    proven = [(9, at(90, 0)), *found]
    assert unite_candidates(proven, [20, 21], 10) == [9, 7, 0, 1, 2, 3, 4, 5, 20]
    assert unite_candidates(proven, [20, 21], 3) == [9, 7, 0]


def test_the_second_source_of_an_average_shows_when_the_first_is_taken_away(phantoms):
    images = [*phantoms[:6], *(torch.roll(phantoms[3], shift, 2) for shift in range(4))]
    average = 0.75 * phantoms[3] + 0.25 * phantoms[4]
    search = LocalFeatureSearch(num_candidates=1).fit([extract_local_features(image) for image in images])
    features = extract_local_features(average)
    assert set(dict(search.query(features))) == {3}
    found = dict(search.query(features, rest=lambda row, match: extract_rest(average, images[row], match)))
    assert found[3].num_inliers > 60
    assert found[4].num_inliers > 60
    assert set(dict(search.query(features, rest=lambda row, match: None))) == {3}


def test_what_is_left_of_a_pasted_image_is_where_nothing_was_pasted(phantoms):
    pasted = phantoms[5].clone()
    pasted[:, :68] = phantoms[6][:, :68]
    features = [extract_local_features(image) for image in (pasted, phantoms[5], phantoms[6])]
    match = match_local_features(features[0], features[2], VERSIONS[0])
    rest = extract_rest(pasted, phantoms[6], match)
    other = match_local_features(rest, features[1], VERSIONS[0])
    assert other.num_inliers > 40
    assert (other.points[:, 1] > 60).mean() > 0.9


def with_text(image: torch.Tensor) -> np.ndarray:
    pixels = cv2.resize(image[0].numpy(), (224, 272))
    burnt = np.zeros(pixels.shape, np.uint8)
    for line, text in enumerate(("ST. MARY HOSPITAL", "AVANTO 1.5 T", "SE 4 IM 12", "TR 500 TE 12")):
        cv2.putText(burnt, text, (4, 14 + 14 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    return np.maximum(pixels, burnt / np.float32(255))


def test_text_that_all_images_have_is_no_sign_of_a_copy_and_repeats_keep_their_keypoints(phantoms):
    features = [extract_local_features(with_text(image)) for image in phantoms[:11]]
    stranger = extract_local_features(with_text(phantoms[11]))
    every = [match_local_features(stranger, entry, VERSIONS[0]) for entry in features]
    assert max(found.num_inliers for found in every if found) > 20, "without more, the text alone is a match"
    search = LocalFeatureSearch().fit(features)
    assert max((found.num_inliers for _, found in search.query(stranger)), default=0) < 12
    image, found = search.query(features[3])[0]
    assert (image, found.num_inliers > 60) == (3, True)
    repeats = [extract_local_features(phantoms[0])] * 8 + features
    kept = drop_common_features(repeats)
    assert all(len(entry.points) == len(repeats[0].points) for entry in kept[:8])
    assert all(len(after.points) < len(before.points) for after, before in zip(kept[8:], features, strict=True))
