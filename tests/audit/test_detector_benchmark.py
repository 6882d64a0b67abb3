"""The parts of the benchmark of detectors: pairs, cells, measures, detectors of a config."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from monai_deepssim.audit import DetectorBenchmark
from monai_deepssim.audit.detector_benchmark.cells import NOT_FOUND, NOT_VERIFIED, CellScores, CellStore, score_cell
from monai_deepssim.audit.detector_benchmark.detectors import DetectorSource
from monai_deepssim.audit.detector_benchmark.measures import MEASURES, measure_cell
from monai_deepssim.audit.detector_benchmark.pairs import (
    PairSet,
    make_phantom_pairs,
    perturb,
    perturb_in_turn,
    read_pairs,
)
from monai_deepssim.calibration import ClassThresholds
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import (
    AlignedDetector,
    DeepSSIMDetector,
    MSEDetector,
    NCCDetector,
    compute_retrieval_rank,
    evaluate_pairs,
)
from monai_deepssim.similarity import DEFORMATION_COST, aligned_ssim
from monai_deepssim.transforms import Perturbation


@pytest.fixture(scope="module")
def pairs():
    return make_phantom_pairs(num_pairs=12, gallery_size=15, seed=41, image_size=(136, 112))


def test_phantom_pairs_are_those_of_the_data_set_and_the_gallery_has_no_subject_twice(pairs):
    assert pairs.counts == {"different": 4, "duplicate": 4, "similar": 4}
    assert pairs.gallery.shape == (15, 1, 136, 112)
    assert [len(sources) for sources in pairs.sources] == [0, 1, 0] * 4
    copy = pairs.synthetic[pairs.synthetic_index[1]]
    assert torch.equal(copy, pairs.gallery[pairs.real_index[1]])
    everything = torch.cat([pairs.gallery, pairs.synthetic[0::3]]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 15 + 4


def test_a_perturbation_of_an_image_does_not_depend_on_the_other_images(pairs):
    all_of_them = perturb(pairs, "mix", seed=3)
    fewer = PairSet(pairs.gallery, pairs.synthetic[:5], *(np.arange(5),) * 2, pairs.labels[:5], pairs.patients[:5])
    assert torch.equal(perturb(fewer, "mix", seed=3), all_of_them[:5])
    assert not torch.equal(perturb(pairs, "mix", seed=4), all_of_them)


def test_tuning_images_get_all_perturbations_evenly_in_each_class(pairs):
    changed = perturb_in_turn(pairs, ["none", "flip_horizontal"], seed=3)
    is_flipped = [torch.equal(one, image.flip(2)) for one, image in zip(changed, pairs.synthetic, strict=True)]
    # Two after another, for similar images are a warp and a slice in turn.
    assert [np.array(is_flipped)[pairs.labels == label].tolist() for label in range(3)] == [
        [False] * 2 + [True] * 2
    ] * 3


def test_a_cell_has_the_scores_ranks_and_nearest_scores_of_the_detector(pairs):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(64, 16))
    detector = DeepSSIMDetector(network).fit([pairs.gallery])
    images = perturb(pairs, "rotation_10", seed=1)
    cell = score_cell(detector, pairs, images, batch_size=5)
    queries, gallery = detector.represent_batch(images), detector.training_representations
    torch.testing.assert_close(
        torch.from_numpy(cell.pair_scores), detector.compare_pairs(queries, gallery[pairs.real_index]).double()
    )
    np.testing.assert_allclose(cell.nearest_scores, detector.search(queries, 1)[0][:, 0], rtol=1e-6)
    ranks = compute_retrieval_rank(queries, gallery, torch.as_tensor(pairs.real_index)).numpy()
    expected = np.where((pairs.labels == 1) & (ranks <= 10), ranks, NOT_FOUND)
    assert cell.ranks.tolist() == expected.tolist()
    assert cell.milliseconds > 0


def test_a_pair_outside_of_the_shortlist_has_the_lowest_score_and_its_source_is_not_found(pairs):
    images = perturb(pairs, "flip_vertical", seed=1)  # which correlation does not survive
    inner = NCCDetector().fit([pairs.gallery])
    _, shortlist = inner.search(inner.represent_batch(images), 3)
    detector = AlignedDetector(NCCDetector(), top_k=3, num_screened=3).fit([pairs.gallery])
    cell = score_cell(detector, pairs, images, batch_size=12)
    is_seen = (shortlist.numpy() == pairs.real_index[:, None]).any(1)
    assert 0 < is_seen.sum() < 12
    assert (cell.pair_scores[~is_seen] == NOT_VERIFIED).all()
    sources = pairs.gallery[pairs.real_index[is_seen]]
    expected = aligned_ssim(images[is_seen], sources, deformation_cost=DEFORMATION_COST).ssim
    np.testing.assert_allclose(cell.pair_scores[is_seen], expected, rtol=1e-6)
    is_copy = pairs.labels == 1
    assert (cell.ranks[is_copy & is_seen] == 1).all()
    assert (cell.ranks[~(is_copy & is_seen)] == NOT_FOUND).all()


def test_the_measures_are_those_of_the_pairs_and_lie_in_their_intervals(pairs):
    generator = np.random.default_rng(0)
    scores = np.array([0.3, 0.8, 0.6])[pairs.labels] + generator.normal(0, 0.15, 12)
    ranks = np.where(pairs.labels == 1, [1, 1, 2, 3, 0, 1, 1, 1, 1, 1, NOT_FOUND, 1], NOT_FOUND)
    cell = CellScores(scores, scores - 0.1, ranks, 1.0)
    measures = measure_cell(cell, pairs, ClassThresholds(0.45, 0.7, 1.0), num_resamples=200)
    expected = evaluate_pairs(scores, pairs.labels, (0.45, 0.7))
    assert list(measures) == list(MEASURES)
    assert measures["macro_f1"].value == pytest.approx(expected["macro_f1"])
    assert measures["roc_auc"].value == measures["search_roc_auc"].value == pytest.approx(expected["roc_auc"])
    # Sources of the four copies, images 1, 4, 7 and 10: first, not found, first, not found.
    assert measures["rank_1"].value == measures["rank_10"].value == 0.5
    assert all(measure.low <= measure.value <= measure.high for measure in measures.values())


def test_a_cell_is_kept_for_the_same_detector_and_images_alone(pairs, tmp_path):
    store, cell = CellStore(tmp_path), CellScores(np.ones(2), np.zeros(3), np.arange(3), 1.5)
    key = store.key("a detector", pairs, pairs.synthetic)
    store.save("mine", "none", key, cell)
    kept = store.load("mine", "none", key)
    assert kept.milliseconds == 1.5
    assert kept.ranks.tolist() == [0, 1, 2]
    others = [store.key("another", pairs, pairs.synthetic), store.key("a detector", pairs, pairs.synthetic * 0.9), None]
    assert [store.load("mine", "none", other) for other in others] == [None] * 3
    next(tmp_path.rglob("*.npz")).write_bytes(b"cut short")
    assert store.load("mine", "none", key) is None


def test_a_detector_is_known_by_its_arguments_and_the_content_of_its_files(tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    source = DetectorSource("two_stages", partial(AlignedDetector, detector=partial(NCCDetector), top_k=3))
    assert isinstance(source.make().detector, NCCDetector)
    prints = {
        source.fingerprint,
        DetectorSource("", partial(AlignedDetector, detector=partial(MSEDetector))).fingerprint,
    }
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        prints.add(DetectorSource("", partial(DeepSSIMDetector, embedder=str(weights))).fingerprint)
    assert len(prints) == 4
    assert DetectorSource("", NCCDetector()).fingerprint is None
    assert DetectorSource("", partial(DeepSSIMDetector, embedder=None)).missing_file() == "embedder"


def write_pairs(folder, num_patients=10):
    """The published layout: for each patient a real image, a copy of it, and what was made of the next patient's."""
    cohort = make_phantom_pairs(num_patients, num_patients, seed=43, image_size=(136, 112)).gallery
    rows = ["real_key,synth_key,label"]
    for number in range(num_patients):
        uid, own = f"P{number}", folder / f"P{number}"
        own.mkdir(parents=True)
        for name, image in (("training", cohort[number]), ("gen-0", cohort[number]), ("gen-1", cohort[number].flip(2))):
            Image.fromarray((image[0] * 255).round().byte().numpy()).save(own / f"{name}.png")
        rows += [f"{uid}___training,{uid}___gen-0,1"]
        rows += [f"{uid}___training,P{(number + k) % num_patients}___gen-1,0" for k in (1, 2)]
    csv_file = folder / "test.csv"
    csv_file.write_text("\n".join(rows) + "\n")
    return csv_file


def test_the_pairs_of_a_csv_are_split_such_that_no_patient_is_on_both_sides(tmp_path):
    csv_file = write_pairs(tmp_path)
    tuning, test, num_across = read_pairs(csv_file, tmp_path, 0.4, 0, (136, 112))
    assert len(tuning.labels) + len(test.labels) + num_across == 30
    assert set(tuning.patients).isdisjoint(test.patients)
    assert tuning.counts["duplicate"] == 4
    assert test.counts["duplicate"] == 6
    assert len(test.gallery) == 6
    copies = np.flatnonzero(test.labels == 1)
    assert all(
        torch.equal(test.synthetic[test.synthetic_index[row]], test.gallery[test.real_index[row]]) for row in copies
    )


def test_a_two_class_detector_gets_one_threshold_though_two_would_do_better(tmp_path):
    thresholds = DetectorBenchmark(
        detectors={"two": partial(NCCDetector), "three": partial(NCCDetector)},
        two_class=["two"],
        perturbations=["none"],
        num_pairs=12,
        gallery_size=12,
        num_resamples=5,
        output_dir=str(tmp_path),
    ).run().thresholds  # fmt: skip
    assert thresholds["two"].lower == thresholds["two"].upper
    assert thresholds["three"].lower < thresholds["three"].upper
    assert thresholds["two"].macro_f1 < thresholds["three"].macro_f1


def test_a_benchmark_on_pairs_of_ones_own_needs_no_bundle(tmp_path, capsys):
    csv_file = write_pairs(tmp_path / "images")
    result = DetectorBenchmark(
        detectors={"ncc": partial(NCCDetector), "built": MSEDetector()},
        two_class=["built"],
        perturbations=["none"],
        pairs_csv=str(csv_file),
        images_dir=str(tmp_path / "images"),
        tuning_fraction=0.4,
        tuning_seed=0,
        num_resamples=20,
        output_dir=str(tmp_path / "out"),
    ).run()
    assert result.row("ncc", "none").measures["roc_auc"].value == 1
    assert result.thresholds["built"].lower == result.thresholds["built"].upper
    assert "pairs of test.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"detectors": {}}, "--detectors: is {}"),
        ({"detectors": {"a/b": NCCDetector()}}, "names of letters"),
        ({"detectors": {"mine": {"top_k": 3}}}, "--detectors#mine: is {'top_k': 3}, wanted a detector"),
        ({"detectors": {"mine": partial(NCCDetector, treshold=1)}}, "--detectors#mine: cannot be made"),
        ({"detectors": {"mine": partial(dict, a=1)}}, "makes a dict"),
        ({"detectors": {"mine": partial(DeepSSIMDetector, embedder="none.pt")}}, "--detectors#mine: none.pt"),
        ({"detectors": {"mine": partial(DeepSSIMDetector, embedder=None)}}, "give --detectors#mine#embedder"),
        ({"only": ["sim"]}, "--only: 'sim' is unknown. The names are: ncc."),
        ({"perturbations": ["flip"]}, "--perturbations: 'flip' is unknown"),
        ({"num_pairs": 2}, "--num_pairs: is 2"),
        ({"gallery_size": 20}, "--gallery_size: is 20, wanted at least num_pairs, 300"),
        ({"test_seed": 5, "tuning_seed": 5}, "give another seed"),
        ({"pairs_csv": "pairs.csv"}, "--images_dir: was not given"),
        ({"tuning_fraction": 1.0}, "--tuning_fraction: is 1.0"),
        ({"image_size": [136]}, "--image_size: is [136]"),
        ({"overwrite": "perhaps"}, "--overwrite: is 'perhaps'"),
        ({"outputdir": "x"}, "Did you mean --output_dir?"),
    ],
)
def test_an_option_that_cannot_be_used_ends_with_status_2_and_says_why(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        DetectorBenchmark(**{"detectors": {"ncc": partial(NCCDetector)}, "output_dir": str(tmp_path), **options}).run()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_scores_that_are_not_finite_are_an_error_that_names_the_detector(pairs):
    detector = DeepSSIMDetector(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(136 * 112, 2)))
    detector.fit([pairs.gallery])
    detector.compare_pairs = lambda first, second: torch.full((len(first),), torch.nan)
    with pytest.raises(UnusableInputError, match="DeepSSIMDetector: 12 of 12 scores are not finite"):
        score_cell(detector, pairs, pairs.synthetic, 4)


def test_every_perturbation_of_a_test_is_that_of_the_transform(pairs):
    flipped = perturb(pairs, "flip_vertical", seed=0)
    assert torch.equal(flipped[3], Perturbation("flip_vertical")(pairs.synthetic[3]))
