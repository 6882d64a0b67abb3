"""The detectors of whole volumes: slices that vote, coarse volumes in one pose, and which detector takes what."""

import numpy as np
import pytest
import torch
from monai.transforms import Affine
from torch import nn

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import (
    SUPPORTED_DETECTORS,
    ContrastiveCopyDetector,
    DeepSSIM3DDetector,
    MSEDetector,
    NCCDetector,
    SliceVotesDetector,
    SSIMDetector,
)

SLICES = 32  # a volume's in SliceVotesDetector


class PooledSlices(nn.Module):
    """An embedder of slices that needs no training: 8 x 8 pixels and, as flips do not matter to it, their mirrors."""

    def forward(self, images):
        pooled = nn.functional.adaptive_avg_pool2d(images, 8)
        return sum(pooled.flip(axes) for axes in ([], [2], [3], [2, 3])).flatten(1)


@pytest.fixture(scope="module")
def volumes():
    """Eight phantom heads."""
    dataset = PhantomBrainDataset(8, seed=31, volume=True, image_size=(32, 32, 32), progress=False)
    return torch.stack([item["image"].as_tensor() for item in dataset])


def turned(volume, axis, degrees):
    angles = [np.deg2rad(degrees) * (place == axis) for place in range(3)]
    return torch.as_tensor(np.asarray(Affine(rotate_params=angles, padding_mode="zeros", image_only=True)(volume)))


CHANGES = {
    "flip_x": lambda volume: volume.flip(1),
    "flip_y": lambda volume: volume.flip(2),
    "flip_z": lambda volume: volume.flip(3),
    "rotation_x": lambda volume: turned(volume, 0, 10),
    "rotation_y": lambda volume: turned(volume, 1, -10),
    "rotation_z": lambda volume: turned(volume, 2, 10),
    "shift": lambda volume: volume.roll((1, -2, 1), (1, 2, 3)),
    "gamma": lambda volume: volume**0.7,
    "other_size": lambda volume: nn.functional.interpolate(volume[None], (40, 40, 40), mode="trilinear")[0],
    "other_axes": lambda volume: volume.permute(0, 3, 1, 2),
    "wrong_spacing": lambda volume: volume[..., ::2],
}


@pytest.mark.parametrize("change", ["flip_x", "flip_y", "flip_z", "shift", "gamma", "other_size"])
def test_slices_vote_for_the_volume_that_a_copy_comes_from(volumes, change):
    detector = SliceVotesDetector(PooledSlices()).fit([volumes[:4]])
    (score, found), (stranger, _) = detector(CHANGES[change](volumes[2])[None])[0], detector(volumes[6:7])[0]
    assert found == 2
    assert score > stranger


@pytest.mark.parametrize("change", CHANGES)
def test_a_coarse_volume_in_one_pose_is_nearest_to_the_one_it_is_a_copy_of(volumes, change):
    detector = DeepSSIM3DDetector().fit([volumes[:4]])
    assert detector(CHANGES[change](volumes[2])[None])[0, 1] == 2


def test_the_order_of_the_slices_counts():
    slices = torch.eye(SLICES)[None]
    detector = SliceVotesDetector(nn.Flatten())
    other = 10 * torch.ones(1, SLICES, SLICES)  # nobody's best match
    training = torch.cat([slices, -other]).flatten(1)

    def score(order):
        return round(float(detector.compare(slices[:, order].flatten(1), training)[0, 0]), 3)

    assert score(list(range(SLICES))) == 1
    assert score(list(reversed(range(SLICES)))) == 1
    # The last slices exchanged: three offsets, of which the one with the most slices counts.
    assert score([*range(20), *range(26, 32), *range(20, 26)]) == pytest.approx(20 / SLICES, abs=0.001)
    shuffled = np.random.RandomState(0).permutation(SLICES).tolist()
    assert score(shuffled) < 0.3


def test_every_second_slice_is_consistent_by_another_slope():
    slices = torch.zeros(1, SLICES, SLICES)
    slices[0, :16] = torch.eye(SLICES)[::2]
    scores = SliceVotesDetector(nn.Flatten()).compare(slices.flatten(1), torch.eye(SLICES).flatten()[None])
    assert scores.item() == 1


def test_slices_that_found_their_best_match_elsewhere_do_not_count():
    one, other = torch.eye(SLICES), torch.eye(SLICES)
    one[24:] = 0.5 * one[24:]
    other[:24] = 0.5 * other[:24]
    scores = SliceVotesDetector(nn.Flatten()).compare(
        torch.eye(SLICES).flatten()[None], torch.stack([one, other]).flatten(1)
    )
    torch.testing.assert_close(scores, torch.tensor([[24 / SLICES, 8 / SLICES]]))


def test_a_search_of_the_training_side_in_itself_finds_a_repeat(volumes):
    detector = SliceVotesDetector(PooledSlices())
    training = detector.represent_batch(torch.cat([volumes[:4], volumes[1:2] ** 0.8]))
    scores, found = detector.fit_representations(training).search(training, 2)
    assert set(found[1].tolist()) == {1, 4}
    assert scores[1].min() > 0.5
    assert scores[[0, 2, 3], 1].max() < 0.5


def test_a_pair_has_the_score_that_a_search_gives_it(volumes):
    detector = SliceVotesDetector(PooledSlices()).fit([volumes[:4]])
    representations = detector.represent_batch(volumes[:4] ** 0.7)
    scores, found = detector.search(representations, 1)
    pairs = detector.compare_pairs(representations, detector.training_representations[found[:, 0]])
    torch.testing.assert_close(pairs, scores[:, 0])


def test_slices_of_background_are_left_out(volumes):
    detector = SliceVotesDetector(PooledSlices())
    thin = volumes[:1].clone()
    thin[..., :8] = 0
    shown = detector.represent_batch(thin).view(SLICES, -1).any(1)
    assert 0 < shown.sum() < SLICES
    assert not detector.represent_batch(torch.full((1, 1, 32, 32, 32), 0.5)).any()


@pytest.mark.parametrize("detector", [SliceVotesDetector(PooledSlices()), DeepSSIM3DDetector()])
def test_a_constant_volume_is_a_copy_of_nothing(volumes, detector):
    output = detector.fit([volumes[:3]])(torch.full((1, 1, 32, 32, 32), 0.5))
    assert output[0, 0] == 0


def test_an_embedder_of_volumes_is_compared_by_its_cosine_and_has_no_threshold_of_its_own(volumes):
    embedder = nn.Sequential(nn.AdaptiveAvgPool3d(8), nn.Flatten())
    detector = DeepSSIM3DDetector(embedder).fit([volumes[:4]])
    assert detector.represent_batch(volumes[:1]).shape == (1, 512)
    assert detector(volumes[:4])[:, 1].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(detector.score_pairs(volumes[:2], volumes[:2]).float(), torch.ones(2))
    with pytest.raises(ValueError, match="no published threshold"):
        detector.aggregate()


@pytest.mark.parametrize("build", [SSIMDetector, NCCDetector, MSEDetector])
def test_pixels_of_volumes_are_compared_as_those_of_images(volumes, build):
    assert build().fit([volumes[:4]])(volumes[:4])[:, 1].tolist() == [0, 1, 2, 3]


def test_a_copy_detector_takes_volumes_with_an_embedder_of_volumes(volumes):
    embedder = nn.Sequential(nn.AdaptiveAvgPool3d(8), nn.Flatten())
    assert ContrastiveCopyDetector(embedder).fit([volumes[:4]])(volumes[1:3])[:, 1].tolist() == [1, 2]


def test_each_detector_says_what_it_takes_and_refuses_the_rest(volumes):
    takes = {name: kind.spatial_dims for name, kind in SUPPORTED_DETECTORS.items()}
    assert {name for name, dims in takes.items() if dims == (3,)} == {"slice_votes", "deepssim_3d"}
    both = {"ssim", "ncc", "mse", "copy_detector", "deepssim_aligned"}
    assert {name for name, dims in takes.items() if dims == (2, 3)} == both
    with pytest.raises(ValueError, match=r"want \(B, 1, X, Y, Z\)"):
        DeepSSIM3DDetector().fit([torch.rand(2, 1, 32, 32)])
    with pytest.raises(ValueError, match=r"want \(B, 1, H, W\) in"):
        SUPPORTED_DETECTORS["phash"]().fit([volumes[:1]])
