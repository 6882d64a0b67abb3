"""Pairs that were verified before an audit was stopped are not verified again, and no others are taken for them."""

import json
from pathlib import Path

import numpy as np
import pytest
from audit_files import write_png
from pandas import DataFrame
from pandas.testing import assert_frame_equal

import monai_deepssim.audit.evidence as evidence
import monai_deepssim.audit.training_search as training_search
import monai_deepssim.engines.verification_store as verification_store
import monai_deepssim.metrics.verification as verification
from monai_deepssim.audit.verification import SideImages
from monai_deepssim.engines import VerificationStore
from monai_deepssim.similarity import Alignment, LocalMatch


class Aligner:
    """A copy score that counts pairs, and can be told to end like a process that is killed."""

    def __init__(self) -> None:
        self.num_pairs = 0
        self.killed_after: int | None = None
        self.copy_score = verification.copy_score

    def __call__(self, x, y, *matches, **options):
        if self.killed_after is not None and self.num_pairs + len(x) > self.killed_after:
            raise KeyboardInterrupt
        self.num_pairs += len(x)
        return self.copy_score(x, y, *matches, **options)


@pytest.fixture
def aligner(monkeypatch) -> Aligner:
    aligner = Aligner()
    monkeypatch.setattr(verification, "copy_score", aligner)
    monkeypatch.setattr(evidence, "say_estimate", lambda *_: None)  # it compares pairs to measure how long that takes
    # Local features prove plain copies, of which fewer pairs are compared then.
    monkeypatch.setattr(SideImages, "index_features", lambda *_: object())
    monkeypatch.setattr(training_search, "find_local_matches", lambda *_, **__: {})
    monkeypatch.setattr(verification, "_PAIRS_PER_STEP", 4)
    monkeypatch.setattr(verification, "_PAIRS_PER_FILE", 8)
    return aligner


def run_counting(audit, aligner: Aligner, **options) -> int:
    before = aligner.num_pairs
    audit(**{"top_k": 3, **options})
    return aligner.num_pairs - before


@pytest.mark.parametrize("killed_after", [10, 30])
def test_a_killed_audit_aligns_only_what_was_not_written_yet(audit, folders, aligner, killed_after) -> None:
    in_all = run_counting(audit, aligner, output_dir="at_once")
    at_once = {name: (folders / "at_once" / name).read_text() for name in ("matches.csv", "memorized.csv")}
    assert in_all > 40  # or the second kill comes too late
    aligner.num_pairs, aligner.killed_after = 0, killed_after
    with pytest.raises(SystemExit) as ended:
        audit(top_k=3)
    assert ended.value.code == 130

    aligner.killed_after = None
    # Four synthetic images have twelve pairs, compared in rounds of one and two of each image, and the training images'
    # pairs follow in rounds of ten and twenty; a file has eight pairs at most, all of one round.
    written = {10: 4, 30: 12 + 10 + 8}[killed_after]
    assert run_counting(audit, aligner) == in_all - written
    assert {name: (folders / "out" / name).read_text() for name in at_once} == at_once


def test_other_thresholds_shortlists_and_detectors_align_only_pairs_that_are_new(audit, folders, aligner) -> None:
    assert run_counting(audit, aligner, top_k=4) > 16
    assert run_counting(audit, aligner, top_k=4, thresholds=[0.2, 0.3]) == 0
    assert run_counting(audit, aligner, top_k=2) == 0
    more = run_counting(audit, aligner, top_k=5)
    assert more >= 4  # a candidate more for each synthetic image, and perhaps some for the training images
    # All ten training images are shortlisted by whatever detector; pairs that were given up, because they did not reach
    # what was found before them, are looked at again where another detector puts them first.
    in_all = run_counting(audit, aligner, top_k=10, overwrite=True, output_dir="others")
    again = run_counting(audit, aligner, top_k=10, detector="ncc", checkpoint=None, overwrite=True, output_dir="others")
    assert again < in_all / 10


def test_held_out_images_may_be_added_to_an_audit_and_cost_their_own_pairs_only(audit, folders, aligner, axial) -> None:
    run_counting(audit, aligner)
    for level in (57, 68, 93):
        write_png(folders / "holdout" / f"new-{level}.png", axial(level))

    assert run_counting(audit, aligner, holdout_dir="holdout") == 3 * 3
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["discoveries"]["num_null_patients"] == 3


def test_scores_of_a_detector_that_shortlists_others_are_not_mixed_up(audit, folders, aligner) -> None:
    run_counting(audit, aligner)
    run_counting(audit, aligner, detector="ncc", checkpoint=None, overwrite=True)
    run_counting(audit, aligner, detector="ncc", checkpoint=None, output_dir="at_once")

    assert (folders / "out" / "matches.csv").read_text() == (folders / "at_once" / "matches.csv").read_text()


@pytest.mark.parametrize("side", ["training", "synthetic"])
def test_of_a_changed_image_only_its_own_pairs_are_verified_anew(audit, folders, aligner, axial, side) -> None:
    in_all = run_counting(audit, aligner)
    name = {"training": "sub-2_z60.png", "synthetic": "copy-of-60.png"}[side]
    write_png(folders / side / name, axial(140))
    again = run_counting(audit, aligner)
    # The changed image's own pairs, and those for which it makes room or takes it, of 40 and more.
    assert 3 <= again < in_all / 2
    run_counting(audit, aligner, output_dir="at_once")

    assert (folders / "out" / "matches.csv").read_text() == (folders / "at_once" / "matches.csv").read_text()


def test_an_image_that_is_added_to_the_training_set_costs_its_own_pairs(audit, folders, aligner, axial) -> None:
    in_all = run_counting(audit, aligner)
    write_png(folders / "training" / "a-new.png", axial(140))
    assert 0 < run_counting(audit, aligner) < in_all / 2
    run_counting(audit, aligner, output_dir="at_once")

    assert (folders / "out" / "matches.csv").read_text() == (folders / "at_once" / "matches.csv").read_text()


def test_another_size_of_the_images_is_verified_anew(audit, folders, aligner) -> None:
    run_counting(audit, aligner)
    run_counting(audit, aligner, image_size=(64, 80), overwrite=True)
    run_counting(audit, aligner, image_size=(64, 80), output_dir="at_once")

    assert (folders / "out" / "matches.csv").read_text() == (folders / "at_once" / "matches.csv").read_text()


PAIRS = np.array([[1, 2], [0, 3], [1, 0]])
CHANGES = [
    Alignment((), (0.0,), (0.0, 0.0), 1.0, 1.0),
    Alignment((0, 1), (-6.123456789,), (0.1, -3.987654321), 0.951, 1.37),
    Alignment((1,), (2.0,), (1.0, 2.0), 1.02, 0.5, 0.987654321, stretch=1.1, stretch_degrees=33.3, inverted=True),
]


def pack(pairs: np.ndarray, scores, changes) -> DataFrame:
    return DataFrame(
        {
            "query": pairs[:, 0],
            "training": pairs[:, 1],
            "score": scores,
            "aligned_ssim": np.asarray(scores) / 3,
            "inliers": np.arange(len(pairs)),
            "copied_area": np.nan,
            "alignment": changes,
        }
    )


def store(folder: Path, **changed) -> VerificationStore:
    keys = {"query_keys": ["q0", "q1"], "training_keys": ["t0", "t1", "t2", "t3"]}
    opened = VerificationStore(**{"directory": folder, "image_size": (64, 64), **keys, **changed})
    opened.open()
    return opened


def known(opened: VerificationStore) -> DataFrame:
    """All pairs that it has."""
    everything = [(query, row) for query in range(len(opened.query_keys)) for row in range(len(opened.training_keys))]
    return opened.known(DataFrame(everything, columns=["query", "training"]))


def test_a_pair_comes_back_exactly_as_it_was(tmp_path) -> None:
    scores = np.array([1.0, 0.123456, 0.5])
    written = pack(PAIRS, scores, CHANGES)
    store(tmp_path).write(written[:2])
    store(tmp_path).write(written[2:])

    in_order = written.sort_values(["query", "training"], ignore_index=True)
    assert_frame_equal(known(store(tmp_path)), in_order)


def test_pairs_follow_what_their_images_hold_and_not_their_places(tmp_path) -> None:
    store(tmp_path).write(pack(PAIRS, np.array([1.0, 0.25, 0.5]), CHANGES))
    moved = store(tmp_path, query_keys=["q1", "new", "q0"], training_keys=["new", "t3", "t2"])
    assert known(moved)[["query", "training", "score"]].values.tolist() == [[0, 2, 1.0], [2, 1, 0.25]]
    # The pair of an image that is gone has gone with it.
    assert len(known(store(tmp_path))) == 2


def test_a_pair_with_another_local_match_is_verified_again(tmp_path) -> None:
    def match(inliers: int) -> LocalMatch:
        points = np.zeros((inliers, 2), np.float32)
        return LocalMatch(inliers, np.eye(2, 3), False, points, points, 0.5)

    opened = store(tmp_path)
    opened.write(pack(PAIRS[:1], np.ones(1), CHANGES[:1]), {1: {2: match(20)}})
    candidates = DataFrame({"query": [1], "training": [2]})
    assert len(store(tmp_path).known(candidates, {1: {2: match(20)}})) == 1
    assert len(store(tmp_path).known(candidates, {1: {2: match(21)}})) == 0
    assert len(store(tmp_path).known(candidates)) == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"query_keys": ["x", "y"]},
        {"training_keys": ["w", "x", "y", "z"]},
        {"image_size": (64, 65)},
        {"deformation_cost": 0.05},
        {"others": {"monai-deepssim": "0.0.0"}},
        "version of aligned SSIM",
        "version of the score",
    ],
)
def test_pairs_of_anything_else_are_neither_read_nor_kept(tmp_path, monkeypatch, changed) -> None:
    store(tmp_path).write(pack(PAIRS, np.ones(3), CHANGES))
    if changed == "version of aligned SSIM":
        monkeypatch.setattr(verification_store, "ALIGNED_SSIM_VERSION", 0)
        changed = {}
    if changed == "version of the score":
        monkeypatch.setattr(verification_store, "COPY_SCORE_VERSION", 0)
        changed = {}

    assert len(known(store(tmp_path, **changed))) == 0
    store(tmp_path, **changed).write(pack(PAIRS[:1], np.ones(1), CHANGES[:1]))
    assert len(known(store(tmp_path, **changed))) == 1


def test_a_file_that_was_cut_short_is_named_and_its_pairs_alone_are_gone(tmp_path, capsys) -> None:
    for row in range(3):
        store(tmp_path).write(pack(PAIRS[row : row + 1], np.ones(1), CHANGES[row : row + 1]))
    (tmp_path / "pairs-00003.json.partial").write_bytes(b"half")
    path = tmp_path / "pairs-00001.json"
    path.write_bytes(path.read_bytes()[:-10])

    assert known(store(tmp_path))["query"].tolist() == [1, 1]
    assert "pairs-00001.json: is damaged" in capsys.readouterr().err
    store(tmp_path).write(pack(PAIRS[1:2], np.ones(1), CHANGES[1:2]))
    assert sorted(known(store(tmp_path))["query"]) == [0, 1, 1]
    assert not list(tmp_path.glob("*.partial"))
