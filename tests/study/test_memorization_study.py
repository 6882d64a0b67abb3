"""The parts of a memorization study: its grid, its measures, what looks real, its time."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from monai.networks.nets import AutoencoderKL
from scipy.stats import binomtest, fisher_exact
from torch import nn

from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.metrics import AlignedDetector, DeepSSIMDetector, compute_fid
from monai_deepssim.networks import CopyDetector
from monai_deepssim.study.figures import draw_contact_sheet, draw_curve
from monai_deepssim.study.grid import FACTORS, Setting, Training, curve, full_product, one_at_a_time
from monai_deepssim.study.images import StudyImages
from monai_deepssim.study.judges import Controls, Judges
from monai_deepssim.study.measures import (
    compute_fid_of_statistics,
    find_direction,
    measure_cell,
    memorized_by_repetition,
)
from monai_deepssim.study.steps import cell_key

BASE = Setting(training_images=32, repetitions="none", augmentation=False, width=32, epochs=100)
CONTROLS = Controls(
    aligned_ssim_threshold=0.8,
    correlation_threshold=0.9,
    lowest_real_ssim=0.4,
    highest_distance=5.0,
    found_deepssim=np.ones(4, bool),
    found_copy_detection=np.ones(4, bool),
    holdout_statistics=np.random.default_rng(0).normal(size=(32, 15)),
    reconstruction_statistics=np.random.default_rng(1).normal(size=(32, 15)),
    real_statistics=np.random.default_rng(2).normal(size=(32, 15)),
)


def scores_of(num_copies, num_samples=40, *, real=1.0, copies=(1, 1, 1, 1), seed=0):
    """Scores of which the first ones are copies, of training image 0 and 1 in turn."""
    aligned = np.where(np.arange(num_samples) < num_copies, 0.95, 0.5)
    return {
        "aligned_ssim": aligned,
        "nearest": np.arange(num_samples) % 2,
        "correlation": np.where(np.arange(num_samples) < num_copies // 2, 0.99, 0.1),
        "real_ssim": np.where(np.arange(num_samples) < real * num_samples, 0.6, 0.3),
        "distance": np.full(num_samples, 2.0),
        "statistics": np.random.default_rng(seed).normal(size=(num_samples, 15)),
        "holdout_aligned_ssim": np.full(20, 0.5),
        "holdout_correlation": np.append(np.full(19, 0.5), 0.95),
        "copies": np.array(copies),
    }


def test_generators_are_ordered_by_what_is_expected_of_them_and_a_cell_of_diffusion_has_the_name_it_had():
    cells = one_at_a_time(BASE, {"generator": ["diffusion", "gan", "vae"]})
    assert [cell.generator for cell in curve(cells, BASE, "generator")] == ["vae", "gan", "diffusion"]
    assert BASE.name == "images0032-repeated_none-plain-width032-epochs00100"
    assert replace(BASE, generator="vae").name == f"vae-{BASE.name}"
    assert len(Training.of_cells(cells, num_seeds=1)) == 3


def test_one_factor_at_a_time_changes_one_factor_and_the_product_all():
    levels = {"training_images": [16, 32, 64], "augmentation": [False, True], "epochs": [50, 100]}
    cells = one_at_a_time(BASE, levels)
    assert len(cells) == 1 + 2 + 1 + 1
    product = full_product(BASE, levels)
    assert len(product) == 3 * 2 * 2
    assert set(cells) < set(product)
    for grid in (cells, product):
        assert [cell.training_images for cell in curve(grid, BASE, "training_images")] == [16, 32, 64]
        assert curve(grid, BASE, "width") == [BASE]


def test_the_headings_of_factors_keep_the_capitals_of_names():
    assert FACTORS["width"].heading == "Channels of the U-Net's first level"


def test_cells_that_differ_in_epochs_alone_share_a_training():
    cells = one_at_a_time(BASE, {"epochs": [25, 50], "width": [16]})
    trainings = Training.of_cells(cells, num_seeds=2)
    assert [(training.replicate, [cell.epochs for cell in training.cells]) for training in trainings] == [
        (0, [25, 50, 100]),
        (0, [100]),
        (1, [25, 50, 100]),
        (1, [100]),
    ]
    assert len({training.name for training in trainings}) == 4


def test_a_larger_training_set_has_as_many_steps_or_as_many_passes():
    large = replace(BASE, training_images=120)
    assert BASE.num_steps(BASE, 16, "steps") == large.num_steps(BASE, 16, "steps") == 200
    assert large.num_steps(BASE, 16, "epochs") == 100 * 8  # seven batches of 16, and one of 8
    cell = measure_cell(large, 200, 16, [scores_of(0, copies=[1] * 120)], CONTROLS)
    assert (cell["passes"] == 25).all()


def test_the_shares_of_a_cell_have_exact_intervals_of_samples_and_wider_ones_of_trainings():
    cell = measure_cell(BASE, 200, 16, [scores_of(30), scores_of(10, real=0.5)], CONTROLS)
    assert cell["seed"].tolist() == ["all", "0", "1"]
    pooled = cell.iloc[0]
    exact = binomtest(40, 80).proportion_ci(0.95, "exact")
    share = pooled[["copies_deepssim", "copies_deepssim_low", "copies_deepssim_high"]].tolist()
    assert share == pytest.approx([0.5, exact.low, exact.high])
    assert cell["copies_deepssim"].tolist() == [0.5, 0.75, 0.25]
    assert pooled["copies_deepssim_clustered_low"] < pooled["copies_deepssim_low"]
    assert pooled["copies_deepssim_high"] < pooled["copies_deepssim_clustered_high"]
    assert cell["copies_deepssim_clustered_low"].isna().tolist() == [False, True, True]
    assert cell["copies_deepssim_total"].tolist() == [80, 40, 40]
    assert pooled["copies_copy_detection"] == (15 + 5) / 80
    assert pooled["looks_real"] == 0.75
    assert pooled["memorized_deepssim"] == 0.5  # images 0 and 1 of four
    assert pooled["false_alarms_deepssim"] == 0
    assert pooled["false_alarms_copy_detection"] == 0.05
    sets = (torch.from_numpy(rows) for rows in (scores_of(0)["statistics"], CONTROLS.holdout_statistics))
    assert cell["fid"].tolist() == pytest.approx([compute_fid(*sets).item()] * 3)


def test_too_few_samples_have_no_fid():
    cell = measure_cell(BASE, 200, 16, [scores_of(0, num_samples=15)], CONTROLS)
    assert cell["fid"].isna().all()


def test_a_direction_is_clear_only_if_all_seeds_agree_and_chance_is_unlikely():
    def direction(*copies_of_seeds):
        cells = [
            measure_cell(replace(BASE, width=width), 200, 16, [scores_of(count) for count in counts], CONTROLS)
            for width, counts in zip((16, 48), copies_of_seeds, strict=True)
        ]
        return find_direction(FACTORS["width"], pd.concat(cells), "copies_deepssim")

    up = direction((4, 6), (30, 34))
    assert (up["from"], up["to"]) == (16, 48)
    assert (up["measured"], up["num_agreeing"]) == ("as expected", 2)
    assert up["difference"] == pytest.approx(54 / 80)
    assert up["p_value"] == pytest.approx(fisher_exact([[10, 70], [64, 16]]).pvalue)
    assert direction((30, 34), (4, 6))["measured"] == "against expectation"
    assert direction((0, 20), (38, 18))["measured"] == "not clear"  # seeds disagree
    assert direction((4, 6), (5, 7))["measured"] == "not clear"  # too near
    assert direction((4, 6), (4, 6))["measured"] == "not clear"


def test_images_are_grouped_by_how_often_they_were_there():
    own = scores_of(40, copies=[14, 9, 1, 2, 3])  # the two that are copied are the most frequent
    groups = memorized_by_repetition([own, own], CONTROLS)
    assert [(group["from"], group["to"], group["count"], group["total"]) for group in groups] == [
        (1, 2, 0, 4),
        (3, 3, 0, 2),
        (9, 9, 2, 2),
        (14, 14, 2, 2),
    ]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Judges of small phantoms, with an autoencoder that changes nothing."""
    folder = tmp_path_factory.mktemp("weights")
    cohort = PhantomBrainDataset(60, seed=12, image_size=(64, 56), pixel_size_mm=(2.9, 3.1), progress=False)
    images = torch.stack([item["image"].as_tensor() for item in cohort]).mul(255).round() / 255
    torch.manual_seed(0)
    coarse = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten())
    torch.jit.trace(coarse, torch.rand(2, 1, 64, 56)).save(str(folder / "coarse.pt"))
    torch.save(CopyDetector(backbone="resnet18", embedding_dim=16).state_dict(), folder / "copy_detector.pt")
    study = StudyImages(folder, pool=images[:24], for_thresholds=images[24:40], for_control=images[40:])
    unchanged = SimpleNamespace(reconstruct=lambda batch: batch)
    judges = Judges(
        study,
        folder / "coarse.pt",
        folder / "copy_detector.pt",
        unchanged,
        deepssim_image_size=(64, 56),
        top_k=4,
        device=torch.device("cpu"),
        allow_torchscript=True,
    )
    return judges, study, folder


@pytest.mark.parametrize("version", ["ALIGNED_SSIM_VERSION", "COPY_SCORE_VERSION"])
def test_a_cell_of_another_score_is_not_taken_up(monkeypatch, version):
    options = SimpleNamespace(num_samples=64, top_k=10)
    before = cell_key("images", options, 100)
    monkeypatch.setattr(f"monai_deepssim.study.steps.{version}", -1)
    assert cell_key("images", options, 100) != before


def test_copies_are_found_by_both_detectors_and_scored_by_aligned_ssim(judged):
    judges, study, folder = judged
    rows = np.arange(0, 24, 2)
    samples = torch.cat([study.pool[[4, 8]] ** 1.2, study.pool[[1]], study.for_thresholds[:3]])
    scores = judges.score(samples, rows)
    assert scores["nearest"][:2].tolist() == [2, 4]
    is_copy = scores["aligned_ssim"] > judges.controls.aligned_ssim_threshold
    assert is_copy.tolist() == [True, True, False, False, False, False]  # image 1 of the pool is not in training
    detector = AlignedDetector(
        DeepSSIMDetector(folder / "coarse.pt", allow_torchscript=True), top_k=4, local_features=False
    ).fit([study.pool[rows]])
    np.testing.assert_allclose(scores["aligned_ssim"], detector(samples)[:, 0], atol=1e-6)
    assert judges.controls.found_deepssim.all()
    assert judges.controls.found_copy_detection.all()
    assert (scores["holdout_aligned_ssim"] < judges.controls.aligned_ssim_threshold).all()
    assert scores["holdout_aligned_ssim"].shape == scores["holdout_correlation"].shape == (20,)


def test_brains_look_real_and_noise_blur_and_darkness_do_not(judged):
    judges, study, _ = judged
    controls, rows = judges.controls, np.arange(24)
    assert controls.looks_real(judges.score(study.for_control, rows)).mean() >= 0.85
    assert controls.looks_real(judges.score(study.pool, rows)).mean() >= 0.85  # copies are brains
    torch.manual_seed(0)
    blurred = nn.functional.avg_pool2d(study.for_control, 7, stride=1, padding=3)
    for broken in (torch.rand(8, 1, 64, 56), blurred, study.for_control * 0.2, torch.zeros(3, 1, 64, 56) + 0.3):
        assert controls.looks_real(judges.score(broken, rows)).mean() <= 0.05


def test_noise_is_further_from_brains_by_fid_than_other_brains_are(judged):
    judges, study, _ = judged
    pool = judges.score(study.pool, np.arange(24))["statistics"]
    np.testing.assert_allclose(pool.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(pool.std(0), 1, atol=1e-3)
    held_out = judges.controls.holdout_statistics
    torch.manual_seed(0)
    coarse_noise = nn.functional.interpolate(torch.randn(20, 1, 16, 14), scale_factor=4, mode="bilinear").clamp(0, 1)
    noise = judges.score(coarse_noise, np.arange(24))["statistics"]
    brains = compute_fid_of_statistics(judges.controls.real_statistics, held_out)
    assert compute_fid_of_statistics(noise, held_out) > 5 * brains


def test_what_looks_real_is_judged_behind_the_autoencoder(judged):
    _, study, folder = judged
    torch.manual_seed(0)
    network = AutoencoderKL(
        2,
        channels=(4, 4),
        num_res_blocks=1,
        norm_num_groups=2,
        attention_levels=(False, False),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    ).eval()
    weights = folder / "coarse.pt", folder / "copy_detector.pt"
    judges = Judges(study, *weights, network, (64, 56), 4, torch.device("cpu"), allow_torchscript=True)
    with torch.no_grad():
        passed = network.reconstruct(study.for_control).clamp(0, 1)
    assert judges.controls.looks_real(judges.score(passed, np.arange(24))).mean() >= 0.85
    # Nothing of this autoencoder looks like what went in.
    assert judges.controls.looks_real(judges.score(study.for_control, np.arange(24))).mean() == 0


def test_the_pictures_are_drawn_with_one_seed_and_with_several(judged):
    judges, study, _ = judged
    for seeds in ([3], [3, 8]):
        cells = [
            measure_cell(replace(BASE, augmentation=on), 200, 16, [scores_of(count) for count in seeds], CONTROLS)
            for on in (False, True)
        ]
        assert draw_curve(FACTORS["augmentation"], pd.concat(cells), CONTROLS)[1:4] == b"PNG"
    samples = torch.cat([study.pool[:1], study.for_control[:2]])
    scores = judges.score(samples, np.arange(24))
    sheet = np.asarray(draw_contact_sheet(samples, study.pool, scores, judges.controls))
    assert sheet.shape == (2 * 64 + 25, 3 * (56 + 8), 3)
    frame = np.array([0xC2, 0x41, 0x0C])
    framed = [(sheet[:, part * 64 : (part + 1) * 64] == frame).all(-1).sum() > 200 for part in range(3)]
    assert framed == [True, False, False]
    np.testing.assert_array_equal(sheet[4:68, 4:60, 0], (study.pool[0, 0] * 255).round().numpy())
