"""The parts of the benchmark of detectors: pairs, cells, measures, detectors of a config."""

import hashlib
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from monai_deepssim.benchmark import DetectorBenchmark
from monai_deepssim.benchmark.cells import NOT_FOUND, NOT_VERIFIED, CellScores, cell_key, load_cell, score_cell
from monai_deepssim.benchmark.detectors import DetectorSource
from monai_deepssim.benchmark.measures import (
    PAIR_MEASURES,
    SEARCH_MEASURES,
    choose_stranger_threshold,
    measure_pairs,
    measure_search,
)
from monai_deepssim.benchmark.own_images import find_repeats, group_images, read_own_images
from monai_deepssim.benchmark.pairs import (
    label_pairs,
    make_phantom_pairs,
    perturb_in_turn,
    read_pairs,
)
from monai_deepssim.benchmark.queries import QuerySet, perturb
from monai_deepssim.calibration import ClassThresholds
from monai_deepssim.data import list_images, load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.metrics import (
    AlignedDetector,
    DeepSSIMDetector,
    MSEDetector,
    NCCDetector,
    SearchStages,
    compute_retrieval_rank,
    evaluate_pairs,
)
from monai_deepssim.similarity import copy_score
from monai_deepssim.stores import ArrayStore
from monai_deepssim.transforms import Perturbation


def columns_of(measures):
    return [f"{name}{end}" for name in measures for end in ("", "_low", "_high")]


@pytest.fixture(scope="module")
def pairs():
    return make_phantom_pairs(num_pairs=12, gallery_size=15, seed=41, image_size=(136, 112))


def test_phantom_pairs_are_those_of_the_data_set_and_the_gallery_has_no_subject_twice(pairs):
    assert pairs.counts == {"different": 4, "duplicate": 4, "similar": 4}
    assert pairs.gallery.shape == (15, 1, 136, 112)
    assert [len(sources) for sources in pairs.sources] == [0, 1, 0] * 4
    copy = pairs.synthetic[pairs.synthetic_index[1]]
    assert torch.equal(copy, pairs.gallery[pairs.real_index[1]])
    everything = torch.cat([pairs.gallery, pairs.synthetic[0::3], pairs.partners]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == 15 + 4 + 12, "a partner is in the gallery, or a stranger"


def test_a_perturbation_of_an_image_does_not_depend_on_the_other_images(pairs):
    all_of_them = perturb(pairs, "mix", seed=3)
    fewer = QuerySet(pairs.gallery, pairs.synthetic[:5], pairs.partners[:5], pairs.sources[:5], pairs.groups[:5])
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


class TwoStages(NCCDetector):
    """Correlation whose searches propose and keep rows that the test knows."""

    proposed = torch.empty(0)

    def search_stages(self, representations, num_neighbors=1):
        scores, indices = self.search(representations, num_neighbors)
        return SearchStages(scores, indices, self.proposed, self.proposed[:, :1])


def test_a_source_is_lost_where_it_is_not_proposed_or_not_kept(phantoms):
    sources = [np.array([0]), np.array([1]), np.array([2]), np.array([], dtype=int)]
    queries = QuerySet(phantoms[:4], phantoms[[0, 1, 2, 5]], phantoms[6:10], sources, ["a", "b", "c", "d"])
    detector = TwoStages().fit([queries.gallery])
    detector.proposed = torch.tensor([[0, 1, -1], [2, 1, 0], [1, 3, -1], [0, 1, 2]])
    cell = score_cell(detector, queries, queries.synthetic, 4)
    assert len(cell.pair_scores) == 0
    assert cell.is_proposed.tolist() == [True, True, False, False]
    assert cell.is_kept.tolist() == [True, False, False, False]
    assert cell.ranks.tolist() == [1, 1, 1, NOT_FOUND]


def test_the_shares_of_a_search_are_of_copies_or_of_strangers(phantoms):
    sources = [np.array([0])] * 4 + [np.array([], dtype=int)] * 4
    queries = QuerySet(phantoms[:1], phantoms[:8], phantoms[:8], sources, list("abcdefgh"))
    cell = CellScores(
        pair_scores=np.empty(0),
        nearest_scores=np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.2, 0.1, 0.0]),
        ranks=np.array([1, 2, 1, NOT_FOUND] + [NOT_FOUND] * 4),
        is_proposed=np.array([True] * 4 + [False] * 4),
        is_kept=np.array([True, True, True, False] + [False] * 4),
        source_scores=np.array([0.9, 0.2, 0.6, NOT_VERIFIED] + [NOT_VERIFIED] * 4),
        milliseconds=1.0,
    )
    measures = measure_search(cell, queries, one_threshold=0.6, own_threshold=0.25, num_resamples=50)
    assert {name: measures[name] for name in SEARCH_MEASURES} == {
        "roc_auc": 14 / 16,
        "tpr_at_1_fpr": 0.5,
        "recall_at_one_threshold": 0.5,
        "fpr_at_one_threshold": 0.25,
        "proposed": 1.0,
        "kept": 0.75,
        "scored": 0.5,
        "called": 1.0,
        "named": 0.5,
        "called_strangers": 0.25,
    }
    assert list(measures) == columns_of(SEARCH_MEASURES)
    assert all(measures[f"{name}_low"] <= measures[name] <= measures[f"{name}_high"] for name in SEARCH_MEASURES)
    without_threshold = measure_search(cell, queries, 0.6, None, 50)
    assert all(np.isnan(without_threshold[name]) for name in ("called", "named", "called_strangers"))


@pytest.mark.parametrize("num_strangers", [20, 99, 100, 250, 1000])
def test_at_most_1_percent_of_the_strangers_are_above_the_threshold_and_a_lower_one_would_let_more_pass(num_strangers):
    scores = np.random.default_rng(0).permutation(num_strangers).astype(float)
    threshold = choose_stranger_threshold(scores)
    assert (scores > threshold).mean() <= 0.01
    assert (scores > threshold - 1).mean() > 0.01


def test_a_pair_outside_of_the_shortlist_has_the_lowest_score_and_its_source_is_not_found(pairs):
    images = perturb(pairs, "flip_vertical", seed=1)  # which correlation does not survive
    inner = NCCDetector().fit([pairs.gallery])
    _, shortlist = inner.search(inner.represent_batch(images), 3)
    detector = AlignedDetector(NCCDetector(), top_k=3, num_screened=3, local_features=False).fit([pairs.gallery])
    cell = score_cell(detector, pairs, images, batch_size=12)
    is_seen = (shortlist.numpy() == pairs.real_index[:, None]).any(1)
    assert 0 < is_seen.sum() < 12
    assert (cell.pair_scores[~is_seen] == NOT_VERIFIED).all()
    sources = pairs.gallery[pairs.real_index[is_seen]]
    expected = copy_score(images[is_seen], sources).score
    np.testing.assert_allclose(cell.pair_scores[is_seen], expected, rtol=1e-6)
    is_copy = pairs.labels == 1
    assert (cell.ranks[is_copy & is_seen] == 1).all()
    assert (cell.ranks[~(is_copy & is_seen)] == NOT_FOUND).all()


def test_the_measures_are_those_of_the_pairs_and_lie_in_their_intervals(pairs):
    generator = np.random.default_rng(0)
    scores = np.array([0.3, 0.8, 0.6])[pairs.labels] + generator.normal(0, 0.15, 12)
    ranks = np.where(pairs.labels == 1, [1, 1, 2, 3, 0, 1, 1, 1, 1, 1, NOT_FOUND, 1], NOT_FOUND)
    cell = CellScores(scores, scores - 0.1, ranks, ranks > 0, ranks > 0, scores, 1.0)
    measures = measure_pairs(cell, pairs, ClassThresholds(0.45, 0.7, 1.0), num_resamples=200)
    expected = evaluate_pairs(scores, pairs.labels, (0.45, 0.7))
    assert list(measures) == columns_of(PAIR_MEASURES)
    assert measures["macro_f1"] == pytest.approx(expected["macro_f1"])
    assert measures["roc_auc"] == pytest.approx(expected["roc_auc"])
    searched = measure_search(cell, pairs, 0.5, None, num_resamples=200)
    assert searched["roc_auc"] == pytest.approx(expected["roc_auc"])
    # Sources of the four copies, images 1, 4, 7 and 10: first, not found, first, not found.
    assert measures["rank_1"] == measures["rank_10"] == 0.5
    assert all(measures[f"{name}_low"] <= measures[name] <= measures[f"{name}_high"] for name in PAIR_MEASURES)


def test_a_cell_is_kept_for_the_same_detector_and_images_alone(pairs, tmp_path):
    store = ArrayStore(tmp_path)
    cell = CellScores(np.ones(2), np.zeros(3), np.arange(3), np.arange(3) > 0, np.arange(3) > 1, np.ones(3), 1.5)
    key = cell_key("a detector", pairs, pairs.synthetic)
    store.save("mine/none", key, vars(cell))
    kept = load_cell(store, "mine/none", key)
    assert kept.milliseconds == 1.5
    assert kept.ranks.tolist() == [0, 1, 2]
    assert (kept.is_proposed.tolist(), kept.is_kept.tolist()) == ([False, True, True], [False, False, True])
    others = [cell_key("another", pairs, pairs.synthetic), cell_key("a detector", pairs, pairs.synthetic * 0.9)]
    assert [load_cell(store, "mine/none", other) for other in others] == [None] * 2
    store.save("mine/none", key, {"ranks": cell.ranks})  # of another version
    assert load_cell(store, "mine/none", key) is None
    next(tmp_path.rglob("*.npz")).write_bytes(b"cut short")
    assert load_cell(store, "mine/none", key) is None


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


def write_own_images(folder, num_groups=12, images_per_group=2):
    """A CSV of images that are all different, with the group of each in a column."""
    folder.mkdir(parents=True)
    cohort = make_phantom_pairs(6, num_groups * images_per_group, seed=44, image_size=(136, 112)).gallery
    rows = ["image,scan"]
    for number, image in enumerate(cohort):
        group = f"S{number % num_groups}"
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{group}_{number}.png")
        rows.append(f"{group}_{number}.png,{group}")
    csv_file = folder / "images.csv"
    csv_file.write_text("\n".join(rows) + "\n")
    return csv_file


@pytest.fixture(scope="module")
def own_csv(tmp_path_factory):
    return write_own_images(tmp_path_factory.mktemp("own") / "images")


OWN = {
    "group_column": "scan", "patient_id_pattern": None, "num_copies": 3, "num_strangers": 4, "gallery_size": 6,
    "tuning_seed": 1, "test_seed": 2, "image_size": (136, 112),
}  # fmt: skip


def places(images, loaded):
    """For each image its position among those that were written."""
    return [next(i for i, other in enumerate(loaded) if torch.equal(image, other)) for image in images]


def test_no_group_is_on_both_sides_of_anything(own_csv):
    tuning, test = read_own_images(own_csv, **OWN)
    loaded = [load_slice(item) for item in list_images(own_csv)]
    assert tuning.counts == {"copies": 0, "strangers": 4}
    assert test.counts == {"copies": 3, "strangers": 4}
    assert len(tuning.gallery) == len(test.gallery) == 6
    seen = []
    for queries in (tuning, test):
        gallery = {place % 12 for place in places(queries.gallery, loaded)}
        partners = [place % 12 for place in places(queries.partners, loaded)]
        groups = [int(group[1:]) for group in queries.groups]
        strangers = {group for group, is_copy in zip(groups, queries.is_copy, strict=True) if not is_copy}
        assert [place % 12 for place in places(queries.synthetic, loaded)] == groups
        assert gallery.isdisjoint(strangers | set(partners))
        assert all(partner != group for partner, group in zip(partners, groups, strict=True))
        seen.append(gallery | strangers | set(partners))
    assert seen[0].isdisjoint(seen[1])


def test_copies_are_of_different_groups_and_their_source_is_the_image_itself(own_csv):
    _, test = read_own_images(own_csv, **OWN)
    assert len(set(np.array(test.groups)[test.is_copy])) == 3
    for image, rows in zip(test.synthetic[:3], test.sources[:3], strict=True):
        assert len(rows) == 1
        assert torch.equal(test.gallery[rows[0]], image)


def test_the_draw_of_images_follows_from_the_seeds(own_csv):
    first, again = (read_own_images(own_csv, **OWN)[1] for _ in range(2))
    assert torch.equal(first.gallery, again.gallery)
    assert torch.equal(first.synthetic, again.synthetic)
    other = read_own_images(own_csv, **{**OWN, "test_seed": 3})[1]
    assert not torch.equal(first.synthetic, other.synthetic)


def test_a_repeat_of_a_source_is_a_source_too_mirrored_or_brighter(phantoms):
    images = torch.stack([phantoms[0], phantoms[1], phantoms[0].flip(2) * 0.9, phantoms[2]])
    assert [rows.tolist() for rows in find_repeats(images, [0, 1])] == [[0, 2], [1]]


def test_the_group_of_an_image_must_be_known(own_csv, tmp_path):
    items = list_images(own_csv)
    with pytest.raises(UnusableInputError, match="has no column 'patient'"):
        group_images(items, own_csv, "patient")
    with pytest.raises(UnusableInputError, match=r"the group of 24 of 24 images .* is not known.*--group_column"):
        group_images(items, own_csv)
    with pytest.raises(UnusableInputError, match="has 4 groups, want at least 6"):
        read_own_images(write_own_images(tmp_path / "few", num_groups=4), **OWN)
    by_pattern = list_images(own_csv, patient_id_pattern=r"(S\d+)_")
    assert group_images(by_pattern, own_csv) == group_images(items, own_csv, "SCAN")


def test_a_benchmark_on_images_of_ones_own_reports_where_copies_were_lost(own_csv, tmp_path):
    arguments = {
        "detectors": {"ncc": partial(NCCDetector, threshold=0.99), "mse": partial(MSEDetector)},
        "perturbations": ["none", "flip_vertical", "half_replaced"],
        "images": str(own_csv),
        "group_column": "scan",
        "num_copies": 3,
        "num_strangers": 4,
        "num_resamples": 20,
        "output_dir": str(tmp_path),
    }
    result = DetectorBenchmark(**arguments).run()
    unchanged = result.table.loc[("ncc", "none")]
    assert list(unchanged.index)[2:32] == columns_of(SEARCH_MEASURES)
    assert [unchanged[name] for name in ("roc_auc", "tpr_at_1_fpr", "proposed", "kept", "scored", "called")] == [1] * 6
    assert unchanged["called_strangers"] == 0
    assert result.table.loc[("ncc", "flip_vertical"), "called"] == 0
    assert np.isnan(result.table.loc[("mse", "none"), "called"])
    results = pd.read_csv(tmp_path / "results.csv")
    assert (results["num_copies"] == 3).all()
    assert (results["num_strangers"] == 4).all()
    assert set(SEARCH_MEASURES) <= set(results)
    table = (tmp_path / "table.md").read_text()
    assert table.count("| `half_replaced` |") == 2, "one row per perturbation for each detector"
    assert "12 scores" in table
    report = (tmp_path / "report.html").read_text()
    assert "Recall at one threshold" in report
    assert "macro F1" not in report
    assert "<td>-</td>" in report, "a detector without a threshold calls nothing"
    assert "-&ndash;-" not in report, "an interval of nothing"
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["detectors"]["ncc"]["own_threshold"] == 0.99
    assert summary["detectors"]["mse"]["own_threshold"] is None
    assert DetectorBenchmark(**arguments).run().num_kept == len(results)


def test_the_threshold_of_a_benchmark_is_that_of_the_tuning_strangers_over_all_perturbations(own_csv, tmp_path):
    perturbations = ["none", "noise_0.02", "flip_vertical"]
    result = DetectorBenchmark(
        detectors={"ncc": partial(NCCDetector)},
        perturbations=perturbations,
        images=str(own_csv),
        group_column="scan",
        num_strangers=4,
        gallery_size=6,
        tuning_seed=1,
        test_seed=2,
        num_resamples=5,
        output_dir=str(tmp_path),
    ).run()
    tuning, _ = read_own_images(own_csv, **OWN)
    detector = NCCDetector().fit([tuning.gallery])
    images = torch.cat([perturb(tuning, name, seed=1) for name in perturbations])
    scores = detector.search(detector.represent_batch(images), 1)[0]
    assert result.table["one_threshold"].iloc[0] == pytest.approx(scores.max().item())


def test_a_two_class_detector_gets_one_threshold_though_two_would_do_better(tmp_path):
    thresholds = DetectorBenchmark(
        detectors={"two": partial(NCCDetector), "three": partial(NCCDetector)},
        two_class=["two"],
        perturbations=["none"],
        num_pairs=12,
        gallery_size=12,
        num_resamples=5,
        output_dir=str(tmp_path),
    ).run().class_thresholds  # fmt: skip
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
    assert result.table.loc[("ncc", "none"), "roc_auc"] == 1
    assert result.class_thresholds["built"].lower == result.class_thresholds["built"].upper
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
        ({"images": "a", "pairs_csv": "a.csv", "images_dir": "b"}, "--images: was given together with --pairs_csv"),
        ({"group_column": "patient"}, "--group_column: is about images of your own"),
        ({"images": "a", "group_column": "b", "patient_id_pattern": "(c)"}, "give one of them"),
        ({"images": "no_such_folder"}, "no_such_folder"),
        ({"images": ""}, "--images: is empty"),
        ({"num_copies": 0}, "--num_copies: is 0"),
        ({"num_strangers": "few"}, "--num_strangers: is 'few'"),
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
    averaged = perturb(pairs, "average_of_two", seed=0)
    assert torch.equal(averaged[3], Perturbation("average_of_two")(pairs.synthetic[3], pairs.partners[3]))


def test_an_average_of_two_training_images_has_two_sources_and_is_named_when_both_are(own_csv):
    _, test = read_own_images(own_csv, **OWN)
    mixed, plain = test.under("average_of_two"), test.under("half_replaced")
    assert plain.second_sources == ()
    assert torch.equal(plain.partners, test.partners)
    row = int(np.flatnonzero(test.is_copy)[0])
    first, second = mixed.sources[row][0], mixed.second_sources[row][0]
    images = perturb(mixed, "average_of_two", seed=0)
    torch.testing.assert_close(images[row], (test.gallery[first] + test.gallery[second]) / 2)
    assert not test.is_copy[-1]
    assert torch.equal(mixed.partners[-1], test.partners[-1])
    detector = NCCDetector().fit([test.gallery])
    cell = score_cell(detector, mixed, images, 4)
    scores, indices = detector.search(detector.represent_batch(images), 10)
    lower = []
    for copy in np.flatnonzero(test.is_copy):
        found = dict(zip(indices[copy].tolist(), scores[copy].tolist(), strict=True))
        both = [found[int(sources[copy][0])] for sources in (mixed.sources, mixed.second_sources)]
        assert cell.source_scores[copy] == pytest.approx(min(both))
        lower.append(both[0] < both[1])
    assert set(lower) == {True, False}, "each of the two is the lower one somewhere"
    assert (cell.source_scores[~test.is_copy] == NOT_VERIFIED).all()


def test_the_draws_of_a_perturbation_hang_on_its_name_and_not_on_other_perturbations(pairs):
    number = int.from_bytes(hashlib.sha256(b"mix").digest()[:4], "big")
    seed = np.random.SeedSequence([5, number, 2]).generate_state(1)[0]
    expected = Perturbation("mix").set_random_state(int(seed))(pairs.synthetic[2])
    assert torch.equal(perturb(pairs, "mix", seed=5)[2], expected)


def test_with_many_perturbations_tuning_images_get_one_each(pairs):
    names = ["none", "flip_horizontal", "flip_vertical", "half_turn"]
    changed = perturb_in_turn(pairs, names, seed=3)
    duplicates = np.flatnonzero(pairs.labels == 1)
    for row, name in zip(duplicates, names, strict=True):
        assert torch.equal(changed[row], Perturbation(name)(pairs.synthetic[row])), name


def test_the_group_of_a_synthetic_image_is_the_patient_of_its_first_pair(phantoms):
    pairs = label_pairs(
        phantoms[:3], phantoms[3:5], phantoms[5:7], real_index=np.array([2, 1, 0]),
        synthetic_index=np.array([1, 0, 1]), labels=np.array([0, 1, 1]), patients=["c", "b", "a"],
    )  # fmt: skip
    assert list(pairs.groups) == ["b", "c"]
    assert [rows.tolist() for rows in pairs.sources] == [[1], [0]]


def test_a_cell_of_another_copy_score_is_not_taken_up(phantoms, monkeypatch):
    queries = QuerySet(phantoms[:1], phantoms[:1], phantoms[:1], [np.array([0])], ["a"])
    before = cell_key("detector", queries, queries.synthetic)
    monkeypatch.setattr("monai_deepssim.benchmark.cells.COPY_SCORE_VERSION", -1)
    assert cell_key("detector", queries, queries.synthetic) != before
