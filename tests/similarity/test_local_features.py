"""Local features: versions of descriptors, transforms that are found, and images that have none."""

import cv2
import numpy as np
import pytest
import torch

from monai_deepssim.similarity import (
    VERSIONS,
    Alignment,
    LocalFeatures,
    aligned_ssim,
    copied_area,
    copy_score,
    extract_local_features,
    fit_local_features,
    fuse_scores,
    match_local_features,
)
from monai_deepssim.similarity.hulls import in_hull
from monai_deepssim.similarity.local_features import _find_core
from monai_deepssim.transforms import FitImageSize, Perturbation


def best_match(query, training):
    features = extract_local_features(query), extract_local_features(training)
    found = [match_local_features(*features, version) for version in VERSIONS]
    return max((match for match in found if match), key=lambda match: match.num_inliers, default=None)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: f"{version.mirrored}-{version.inverted}")
def test_the_order_of_a_version_is_that_of_the_changed_image(phantoms, version):
    image = phantoms[0, 0].numpy()
    changed = image[:, ::-1] if version.mirrored else image
    changed = 1 - changed if version.inverted else changed
    original, other = (extract_local_features(np.ascontiguousarray(one)) for one in (image, changed))
    alike = {}
    for candidate in VERSIONS:
        rows = other.descriptors[:, candidate.order].astype(np.float32)
        cosines = rows @ original.descriptors.T.astype(np.float32)
        cosines /= np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(original.descriptors.astype(float), axis=1)
        alike[candidate[:2]] = (cosines.max(axis=1) > 0.95).mean()
    assert max(alike, key=alike.get) == version[:2]
    assert alike[version[:2]] > 0.6


@pytest.mark.parametrize(
    ("matrix", "inverted"),
    [
        ([[0.0, 1.0, 3.0], [1.0, 0.0, -2.0]], False),
        ([[-1.0, 0.0, 111.0], [0.0, 1.0, 0.0]], True),
        ([[0.8, 0.3, 2.0], [-0.3, 0.8, 20.0]], False),
        ([[1.1, 0.0, -6.0], [0.0, 1.0, 4.0]], False),
    ],
    ids=["transposed", "mirrored and inverted", "turned and smaller", "stretched"],
)
def test_the_transform_of_a_copy_is_found(phantoms, matrix, inverted):
    image = phantoms[1, 0].numpy()
    changed = cv2.warpAffine(image, np.array(matrix), (112, 136))
    changed = 1 - changed if inverted else changed
    match = best_match(changed, image)
    assert match.num_inliers > 40
    assert match.inverted == inverted
    corners = np.array([[20.0, 30.0, 1.0], [90.0, 30.0, 1.0], [50.0, 110.0, 1.0]]).T
    assert np.abs(match.matrix @ corners - np.array(matrix) @ corners).max() < 1.0


def test_other_subjects_share_few_keypoints_and_images_without_structure_none(phantoms):
    others = [best_match(phantoms[0], other) for other in phantoms[1:]]
    assert max(match.num_inliers for match in others if match) < 25
    assert best_match(torch.zeros(1, 64, 64), phantoms[0]) is None
    assert (
        match_local_features(
            extract_local_features(torch.rand(1, 8, 8)), extract_local_features(phantoms[0]), VERSIONS[0]
        )
        is None
    )


def test_coarse_keypoints_survive_a_blur(phantoms):
    blurred = torch.from_numpy(cv2.GaussianBlur(phantoms[2, 0].numpy(), (0, 0), 2.0))[None]
    assert best_match(blurred, phantoms[2]).num_inliers > 30


def test_features_move_with_the_pixels_that_they_lie_on(phantoms):
    large = torch.nn.functional.interpolate(phantoms[:1], size=(224, 224), mode="bilinear")[0]
    fit = FitImageSize((136, 112))
    moved = fit_local_features(extract_local_features(large), (224, 224), (136, 112))
    inside = extract_local_features(fit(large))
    nearest = np.linalg.norm(moved.points[:, None] - inside.points[None], axis=2).min(axis=1)
    assert np.median(nearest) < 0.6


@pytest.mark.parametrize("image", [torch.rand(2, 8, 8), torch.full((1, 8, 8), torch.nan), torch.rand(8)])
def test_what_has_no_local_features_is_refused_in_words(image):
    with pytest.raises(ValueError, match=r"want \(1, H, W\)|not finite"):
        extract_local_features(image)


def test_a_score_rises_with_ssim_and_with_inliers_and_never_passes_one():
    ssim, inliers = torch.meshgrid(torch.linspace(-1, 1, 9), torch.arange(0.0, 300, 10), indexing="ij")
    scores = fuse_scores(ssim, inliers)
    assert (scores.diff(dim=0) > -1e-6).all()
    assert (scores.diff(dim=1) > -1e-6).all()
    assert scores.max() <= 1
    torch.testing.assert_close(scores[:, 0], ssim[:, 0])


def test_the_alignment_of_a_matched_pair_makes_what_was_scored(phantoms):
    change = Perturbation("zoom_0.7").set_random_state(0)
    turned = change(phantoms[3]).as_tensor().flip(1)
    found = copy_score(turned[None], phantoms[3:4], [best_match(turned, phantoms[3])], deformation_cost=None)
    applied = found.alignments[0].apply(phantoms[3])
    assert found.ssim > 0.95
    shown = aligned_ssim(turned[None], applied[None], rotation_degrees=0.1, shift_pixels=0.1, zoom=0.001).ssim
    assert shown == pytest.approx(float(found.ssim), abs=0.03)
    assert found.alignments[0].flips == (0,)
    assert found.alignments[0].zoom == pytest.approx(0.7, abs=0.02)
    with pytest.raises(ValueError, match="got 2 matches"):
        aligned_ssim(turned[None], phantoms[3:4], matches=[None, None])


def test_a_copy_on_a_bright_canvas_is_shown_where_its_keypoints_are(phantoms):
    shown, moves = [], []
    for image in phantoms[:4]:
        matrix = np.array([[0.6, 0.0, 22.0], [0.0, 0.6, 40.0]])
        canvas = torch.from_numpy(cv2.warpAffine(image[0].numpy(), matrix, (112, 136), borderValue=1.0))[None]
        match = best_match(canvas[0].numpy(), image[0].numpy())
        found = copy_score(canvas[None], image[None], [match])
        assert found.score > 0.95
        (alignment,) = found.alignments
        shown.append(copied_area(canvas, image, alignment, match.points)[0])
        moves.append((alignment.zoom, *alignment.shift_pixels))
        assert found.ssim < 0.5  # a canvas that the training image has not
    assert min(shown) > 0.2
    # The image's centre goes to row 40 + 0.6 * 67.5 = 80.5 of the canvas, 13 below its centre.
    np.testing.assert_allclose(moves, [(0.6, 13.0, -0.2)] * 4, atol=1.2)


def test_a_stretch_is_applied_as_its_matrix_says(phantoms):
    linear = np.array([[1.08, 0.1], [-0.05, 0.95]])
    alignment = Alignment.from_matrix(linear, (3.0, -2.0))
    size, centre = (112, 136), np.array([67.5, 55.5])
    exchange = np.array([[0.0, 1.0], [1.0, 0.0]])
    matrix = exchange @ linear @ exchange
    shift = exchange @ (centre + np.array([3.0, -2.0]) - linear @ centre)
    expected = cv2.warpAffine(phantoms[4, 0].numpy(), np.column_stack([matrix, shift]), size)
    assert np.abs(alignment.apply(phantoms[4])[0].numpy() - expected).mean() < 0.002
    with pytest.raises(ValueError, match="keeps an area"):
        Alignment.from_matrix(np.zeros((2, 2)), (0.0, 0.0))


def test_the_copied_area_is_what_was_pasted(phantoms):
    unchanged = Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0)
    pasted = phantoms[5].clone()
    pasted[:, 30:80, 20:60] = phantoms[6, :, 30:80, 20:60]
    share, mask = copied_area(pasted, phantoms[6], unchanged)
    whole, _ = copied_area(phantoms[6], phantoms[6], unchanged)
    assert whole > 0.99
    assert mask[36:74, 26:54].mean() > 0.9
    assert share < 0.6
    points = np.array([[25, 35], [55, 35], [40, 75]], np.float32)
    near, near_mask = copied_area(pasted, phantoms[6], unchanged, points)
    assert near <= share
    assert not near_mask[100:].any()


def test_a_small_piece_of_an_image_counts_more_than_as_many_inliers_all_over_it(phantoms):
    image, pasted = phantoms[6], phantoms[5].clone()
    pasted[:, 30:80, 20:60] = image[:, 30:80, 20:60]
    match = best_match(pasted, image)
    assert match.density > 0.5
    is_pasted = ((match.points > [22, 32]) & (match.points < [57, 77])).all(axis=1)
    match = match._replace(num_inliers=14, density=0.9, core=match.points[is_pasted][:14])
    found = copy_score(pasted[None], image[None], [match])
    spread = copy_score(pasted[None], image[None], [match._replace(density=0.3)])
    assert found.score > spread.score + 0.1
    noise = torch.rand(1, *image.shape, generator=torch.Generator().manual_seed(0))
    elsewhere = [copy_score(pasted[None], noise, [match._replace(density=density)]).score for density in (0.3, 0.9)]
    torch.testing.assert_close(*elsewhere)


def test_a_blurred_copy_has_a_high_score_though_its_ssim_is_that_of_a_stranger(phantoms):
    image = torch.from_numpy(cv2.GaussianBlur(phantoms[6, 0].numpy(), (0, 0), 2.5))[None]
    found = copy_score(image.expand(2, 1, -1, -1), phantoms[[6, 7]])
    assert found.ssim[0] < 0.8
    assert found.score[0] > 0.86 > 0.8 > found.score[1]
    expected = 1 - 0.47 * (1 - found.coarse_correlation[0])
    assert found.score[0] == pytest.approx(float(expected), abs=0.05)
    assert (found.coarse_correlation <= 1).all()


def test_a_contrast_that_no_map_brings_back_does_not_speak_against_many_inliers(phantoms):
    head = phantoms[0]
    inverted_inside = torch.where(head > 0.1, 1 - head, head)
    found = best_match(inverted_inside, head)

    def score_with(num_inliers: int) -> tuple[float, float]:
        match = found._replace(num_inliers=num_inliers, core=found.core[:num_inliers], density=0.0)
        scored = copy_score(inverted_inside[None], head[None], [match])
        return float(scored.score), float(scored.ssim)

    many, ssim = score_with(24)
    assert ssim < 0
    assert many == pytest.approx(float(fuse_scores(torch.tensor(0.45), torch.tensor(24))), abs=1e-4)
    assert many > 0.86
    assert score_with(12)[0] < 0.3


def test_most_keypoints_between_the_inliers_of_a_piece_are_inliers_and_few_between_those_of_another_subject(phantoms):
    pasted = phantoms[5].clone()
    pasted[:, 30:80, 20:60] = phantoms[6, :, 30:80, 20:60]
    assert best_match(phantoms[6], phantoms[6]).density > 0.95
    assert best_match(pasted, phantoms[6]).density > 0.5
    assert best_match(phantoms[5], phantoms[6]).density < 0.5


def test_the_background_around_a_small_head_makes_no_copy_of_it(phantoms):
    small = torch.nn.functional.pad(phantoms[:6], (56, 56, 68, 68))
    other = torch.nn.functional.pad(phantoms[6:12], (56, 56, 68, 68))
    found = copy_score(small, other, deformation_cost=None)
    assert found.ssim.max() > 0.86
    assert found.score.max() < 0.8
    assert copy_score(small[:2], small[:2]).score.min() > 0.999


def test_an_inlier_by_chance_far_from_a_piece_does_not_dilute_it(phantoms):
    pasted = phantoms[5].clone()
    pasted[:, 30:70, 24:58] = phantoms[6][:, 30:70, 24:58]
    training, query = extract_local_features(phantoms[6]), extract_local_features(pasted)
    far = int(np.linalg.norm(training.points - [56, 125], axis=1).argmin())
    inside = ((query.points > [26, 32]) & (query.points < [56, 68])).all(axis=1)
    rest = np.flatnonzero(~inside)
    query = LocalFeatures(
        np.concatenate([query.points[inside], query.points[rest], training.points[[far]]]),
        np.concatenate([query.descriptors[inside], 255 - query.descriptors[rest], training.descriptors[[far]]]),
        query.side,
    )
    match = match_local_features(query, training, VERSIONS[0])
    assert match.points[:, 1].max() > 100
    assert match.core[:, 1].max() < 75
    assert match.density > 0.6


def test_a_hull_holds_what_opencv_says_and_its_own_corners():
    random = np.random.RandomState(0)
    points, corners = ((random.rand(count, 2) * 100).astype(np.float32) for count in (500, 20))
    hull = cv2.convexHull(corners)
    np.testing.assert_array_equal(
        in_hull(points, corners), [cv2.pointPolygonTest(hull, point.tolist(), False) >= 0 for point in points]
    )
    assert in_hull(corners, corners).all()


def test_the_core_is_that_of_a_search_that_looks_at_all_keypoints_each_time():
    random = np.random.RandomState(0)
    keypoints = (random.rand(200, 2) * 100).astype(np.float32)
    distance = np.hypot(*(keypoints - 50).T)
    inliers = keypoints[(distance < 20) | (distance > 58)]

    def density_of(points):
        return len(points) / in_hull(keypoints, points).sum()

    best, points = (inliers, density_of(inliers)), inliers
    for _ in range(len(inliers) // 4):
        rim = cv2.convexHull(points, returnPoints=False)[:, 0]
        points = max((np.delete(points, corner, axis=0) for corner in rim), key=density_of)
        best = max(best, (points, density_of(points)), key=lambda found: len(found[0]) * found[1])
    core, density = _find_core(inliers, keypoints)
    np.testing.assert_array_equal(core, best[0])
    assert density == pytest.approx(best[1])
    assert len(core) < len(inliers)


def test_two_heads_of_one_outline_and_another_inside_are_less_alike_than_their_outline():
    rows, columns = np.mgrid[:136, :112]
    distance = np.hypot((rows - 68) / 60, (columns - 56) / 48)
    generator = np.random.default_rng(0)
    insides = [cv2.GaussianBlur(generator.normal(0, 1, (136, 112)), (0, 0), 4) for _ in range(2)]
    heads = [(distance < 1) * 0.4 + (abs(distance - 0.95) < 0.05) * 0.6 + (distance < 0.9) * x for x in insides]
    x, y = (torch.from_numpy(head.astype(np.float32))[None, None] for head in heads)
    found = copy_score(x, y, deformation_cost=None)
    sigmas = ((0.7, 2), (np.hypot(0.7, 2), np.hypot(2, 2)))
    bands = [
        cv2.GaussianBlur(head, (0, 0), fine) - cv2.GaussianBlur(head, (0, 0), coarse)
        for head, (fine, coarse) in zip(heads, sigmas, strict=True)
    ]
    assert found.coarse_correlation < np.corrcoef(bands[0].ravel(), bands[1].ravel())[0, 1] - 0.1


def test_a_coarse_correlation_that_strangers_reach_lifts_nothing(phantoms):
    found = copy_score(phantoms[:6], phantoms[6:12], deformation_cost=None)
    assert (found.coarse_correlation < 0.6).all()
    torch.testing.assert_close(found.score, found.ssim)
