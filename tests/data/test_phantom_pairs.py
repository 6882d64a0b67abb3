"""Labelled phantom pairs."""

import pytest
import torch

from monai_deepssim.data import PhantomBrainDataset, PhantomPairDataset
from monai_deepssim.similarity import pairwise_ssim, standardize


@pytest.fixture(scope="module")
def pairs():
    return list(PhantomPairDataset(num_pairs=12, seed=31, progress=False))


def ssim(pair):
    return pairwise_ssim(standardize(pair["real"][None].as_tensor()), standardize(pair["synthetic"][None].as_tensor()))


def test_every_third_pair_is_of_one_label(pairs):
    assert [pair["label"] for pair in pairs] == [0, 1, 2] * 4


def test_the_labels_are_true_on_the_pixels(pairs):
    for pair in pairs:
        value = ssim(pair).item()
        if pair["label"] == 1:
            assert torch.equal(pair["real"], pair["synthetic"])
        elif pair["label"] == 2:
            assert 0.60 < value <= 0.85
        else:
            assert value < 0.6


def test_the_real_images_are_the_cohort_of_that_seed_and_no_subject_is_used_twice(pairs):
    cohort = PhantomBrainDataset(num_subjects=2, seed=31, progress=False)
    assert torch.equal(pairs[1]["real"], cohort[1]["image"])
    others = torch.stack([pairs[0]["synthetic"], *[pair["real"] for pair in pairs]]).as_tensor()
    between = pairwise_ssim(standardize(others)).fill_diagonal_(0)
    assert between.max() < 0.75


def test_the_same_seed_gives_the_same_pairs(pairs):
    again = PhantomPairDataset(num_pairs=12, seed=31, progress=False)
    assert all(torch.equal(a["synthetic"], b["synthetic"]) for a, b in zip(pairs, again, strict=True))


def test_no_pairs_are_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        PhantomPairDataset(num_pairs=0, seed=1)


def test_similar_images_can_be_neighbouring_slices_of_the_same_subject():
    slices = list(PhantomPairDataset(num_pairs=24, seed=31, similar="slice", progress=False))
    values = torch.tensor([ssim(pair).item() for pair in slices if pair["label"] == 2])
    assert ((values > 0.55) & (values < 0.9)).all()
    assert 0.6 < values.mean() < 0.85
    # Noise is that of another acquisition, not the same one seen twice.
    assert all(not torch.equal(pair["real"], pair["synthetic"]) for pair in slices if pair["label"] == 2)


def test_both_kinds_of_similar_images_come_in_turn(pairs):
    both = list(PhantomPairDataset(num_pairs=12, seed=31, similar="both", progress=False))
    same_as_warps = [torch.equal(one["synthetic"], other["synthetic"]) for one, other in zip(both, pairs, strict=True)]
    assert same_as_warps == [True] * 5 + [False] + [True] * 5 + [False]


def test_an_unknown_kind_of_similar_image_is_an_error():
    with pytest.raises(ValueError, match="warp, slice or both"):
        PhantomPairDataset(num_pairs=3, seed=1, similar="neighbour")
