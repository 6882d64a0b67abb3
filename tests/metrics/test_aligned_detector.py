"""The detector in two stages."""

import numpy as np
import pytest
import torch

from monai_deepssim.metrics import (
    AlignedDetector,
    ComparedImages,
    NCCDetector,
    SSIMDetector,
    find_local_matches,
    tabulate_candidates,
    verify_candidates,
)
from monai_deepssim.search import LocalFeatureSearch
from monai_deepssim.similarity import (
    DEFORMATION_COST,
    aligned_ssim,
    copy_score,
    extract_local_features,
    match_coarsely,
    pose,
    posed_ssim,
    screen,
    shrink_volumes,
)
from monai_deepssim.transforms import Perturbation


@pytest.fixture(scope="module")
def copies(phantoms):
    change = Perturbation("shift_3").set_random_state(5)
    return torch.stack([change(image) for image in phantoms[:6]])


def test_a_copy_that_the_first_stage_ranks_low_is_found_within_its_shortlist(phantoms, copies):
    flipped = copies.flip(2)
    first, found = (
        SSIMDetector().fit([phantoms]),
        AlignedDetector(SSIMDetector(), top_k=12, local_features=False).fit([phantoms]),
    )
    assert (first(flipped)[:, 1] == torch.arange(6)).float().mean() < 1
    result = found(flipped)
    assert result[:, 1].tolist() == list(range(6))
    expected = copy_score(flipped, phantoms[:6]).score
    torch.testing.assert_close(result[:, 0], expected)


def test_what_is_not_proposed_is_not_found(phantoms, copies):
    detector = AlignedDetector(NCCDetector(), top_k=3, num_screened=3, local_features=False).fit([phantoms])
    representations = detector.represent_batch(copies)
    scores, indices = detector.search(representations, num_neighbors=10)
    assert scores.shape == indices.shape == (6, 3)
    assert (scores.diff(dim=1) <= 0).all()
    _, shortlist = NCCDetector().fit([phantoms]).search(NCCDetector().represent_batch(copies), 3)
    assert [sorted(row) for row in indices.tolist()] == [sorted(row) for row in shortlist.tolist()]


class ByPosition(NCCDetector):
    """Proposes the same training images for every image, the first of them first."""

    def search(self, representations, num_neighbors=1):
        rows = torch.arange(min(num_neighbors, len(self.training_representations)))
        return torch.zeros(len(representations), len(rows)), rows.repeat(len(representations), 1)


def test_a_copy_whose_source_is_proposed_last_is_screened_into_the_shortlist(phantoms):
    # A warp within the images, and a pose: what an embedding confuses, and pixels in one pose do not.
    changes = [Perturbation(name).set_random_state(3) for name in ("warp", "rotation_10", "flip_vertical")]
    for change in changes:
        changed = torch.stack([change(image) for image in phantoms[-3:]])
        detector = AlignedDetector(ByPosition(), top_k=1, local_features=False).fit([phantoms])
        assert detector(changed)[:, 1].tolist() == [9, 10, 11]
        blind = AlignedDetector(ByPosition(), top_k=1, num_screened=8, local_features=False).fit([phantoms])
        assert set(blind(changed)[:, 1].tolist()) <= set(range(8))


def test_the_shortlist_is_that_of_the_highest_posed_ssim(phantoms, copies):
    proposed = torch.tensor([[7, 3, 0, 11], [2, 1, 9, 4]])

    def kept(images, training, keep):
        candidates = tabulate_candidates(proposed.numpy(), torch.zeros(2, 4).numpy())
        sides = ComparedImages(images.__getitem__), ComparedImages(training.__getitem__)
        pairs = verify_candidates(candidates, *sides, keep=keep)
        assert set(pairs["found_by"]) == {"detector"}
        return [sorted(group) for _, group in pairs.groupby("query")["training"]]

    ssim = posed_ssim(pose(copies[:2]), pose(phantoms)).gather(1, proposed)
    expected = proposed.gather(1, ssim.argsort(dim=1, descending=True)[:, :2])
    assert kept(copies[:2], phantoms, 2) == expected.sort(dim=1).values.tolist()
    assert kept(copies[:2], phantoms, 4) == proposed.sort(dim=1).values.tolist()
    volumes = torch.rand(12, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    small = shrink_volumes(volumes)
    fits = torch.stack([match_coarsely(one, small) for one in small[:2]]).gather(1, proposed)
    expected = proposed.gather(1, fits.argsort(dim=1, descending=True)[:, :2])
    assert kept(volumes[:2], volumes, 2) == expected.sort(dim=1).values.tolist()


def test_without_local_features_the_score_of_a_pair_is_that_of_its_pixels(phantoms, copies):
    detector = AlignedDetector(NCCDetector(), top_k=1, local_features=False)
    scores = detector.score_pairs(copies, phantoms[:6])
    torch.testing.assert_close(scores, copy_score(copies, phantoms[:6]).score)
    assert (scores >= aligned_ssim(copies, phantoms[:6]).ssim).all()
    matrix = detector.compare(detector.represent_batch(copies[:2]), detector.represent_batch(phantoms[:3]))
    assert matrix.shape == (2, 3)
    assert matrix.argmax(1).tolist() == [0, 1]


def test_a_deformed_copy_is_scored_as_in_an_audit_with_its_deformation_paid(phantoms):
    change = Perturbation("warp").set_random_state(2)
    warped = torch.stack([change(image).as_tensor() for image in phantoms[:4]])
    detector = AlignedDetector(NCCDetector(), top_k=2, local_features=False).fit([phantoms])

    found, plain = (copy_score(warped, phantoms[:4], deformation_cost=cost) for cost in (DEFORMATION_COST, None))

    assert (found.ssim - plain.ssim).mean() > 0.03
    torch.testing.assert_close(detector.score_pairs(warped, phantoms[:4]), found.score)
    nearest = detector(warped)
    assert nearest[:, 1].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(nearest[:, 0], found.score)
    stiff = AlignedDetector(NCCDetector(), top_k=2, deformation_cost=None, local_features=False).fit([phantoms])
    torch.testing.assert_close(stiff(warped)[:, 0], plain.score)
    torch.testing.assert_close(stiff.score_pairs(warped, phantoms[:4]), plain.score)


def test_local_features_find_what_the_first_stage_does_not_propose(phantoms):
    cropped = Perturbation("crop_20_percent").set_random_state(1)
    changed = torch.stack([1 - cropped(image).transpose(1, 2).as_tensor()[:, :112] for image in phantoms[9:]])
    changed = torch.nn.functional.pad(changed, (0, phantoms.shape[3] - changed.shape[3], 0, 24))[..., :136, :112]
    detector = AlignedDetector(ByPosition(), top_k=2, num_screened=2).fit([phantoms])
    stages = detector.search_stages(detector.represent_batch(changed), 1)
    assert stages.indices[:, 0].tolist() == [9, 10, 11]
    assert (stages.scores[:, 0] > detector.threshold).all()
    for row, source in enumerate((9, 10, 11)):
        assert source in stages.proposed[row]
        assert source in stages.kept[row]
    without = AlignedDetector(ByPosition(), top_k=2, num_screened=2, local_features=False).fit([phantoms])
    assert set(without(changed)[:, 1].tolist()) <= {0, 1}


def test_where_the_only_source_of_an_image_is_found_no_second_one_is_looked_for(phantoms):
    pasted = phantoms[3].clone()
    pasted[..., :56] = phantoms[0][..., :56]
    sides = [ComparedImages(images.__getitem__, lambda row, images=images: extract_local_features(images[row]))
             for images in (pasted[None], phantoms)]  # fmt: skip
    search = LocalFeatureSearch(num_candidates=1).fit([extract_local_features(image) for image in phantoms])
    found = [
        find_local_matches(sides[0], np.array([0]), sides[1], search, only_source=lambda _, known=known: known)[0]
        for known in (None, 0, 3)
    ]
    assert set(found[0]) >= {0, 3}
    assert sorted(len({0, 3} & set(matches)) for matches in found[1:]) == [1, 2]


def test_a_pair_scores_the_same_in_a_search_and_by_itself(phantoms):
    change = Perturbation("zoom_0.9").set_random_state(0)
    copies = torch.stack([change(image).as_tensor() for image in phantoms[:3]])
    detector = AlignedDetector(NCCDetector(), top_k=4).fit([phantoms])
    torch.testing.assert_close(detector(copies)[:, 0], detector.score_pairs(copies, phantoms[:3]))


def test_large_images_are_compared_at_the_size_that_was_asked_for(phantoms):
    large = torch.nn.functional.interpolate(phantoms[:4], scale_factor=2, mode="bicubic").clamp(0, 1)
    detector = AlignedDetector(NCCDetector(), top_k=4).fit([large])
    assert detector.detector.image_shape == (1, 136, 112)
    result = detector(large[1:3].flip(3))
    assert result[:, 1].tolist() == [1, 2]
    assert (result[:, 0] > 0.99).all()


def test_errors_name_what_is_wanted(phantoms):
    with pytest.raises(ValueError, match="top_k=0"):
        AlignedDetector(NCCDetector(), top_k=0)
    with pytest.raises(ValueError, match="num_screened=0"):
        AlignedDetector(NCCDetector(), num_screened=0)
    with pytest.raises(RuntimeError, match=r"call fit\(training_loader\) first"):
        AlignedDetector(NCCDetector())(phantoms[:1])


def test_what_both_measures_choose_is_kept_once():
    kept = screen(torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), torch.tensor([0.9, 0.8, 0.1, 0.2, 0.3, 0.4]), keep=5)
    assert kept.tolist() == [0, 1, 2, 3, 5]


def test_its_own_threshold_says_what_is_a_copy(phantoms):
    detector = AlignedDetector(NCCDetector(), top_k=2).fit([phantoms[:4]])
    detector(torch.cat([phantoms[2:4].flip(3), phantoms[8:10]]))
    assert detector.threshold == 0.86
    assert detector.aggregate() == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_scores_are_those_of_the_cpu(phantoms, copies):
    found = [AlignedDetector(NCCDetector(device=device), top_k=4).fit([phantoms])(copies) for device in ("cpu", "cuda")]
    torch.testing.assert_close(found[1][:, 0], found[0][:, 0], atol=2e-3, rtol=0)
    assert torch.equal(found[1][:, 1], found[0][:, 1])
