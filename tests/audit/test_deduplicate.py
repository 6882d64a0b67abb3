"""A training set is compared with itself: groups, patients, what is kept, and that nothing of it is changed."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from audit_files import IMAGE_SIZE, write_png
from clean_up_files import files_of, snapshot, table

from monai_deepssim.audit import Deduplication
from monai_deepssim.audit.clean_up.deduplication_steps import DeduplicationResult
from monai_deepssim.audit.clean_up.duplicate_groups import group_duplicates
from monai_deepssim.audit.clean_up.file_units import FileUnit
from monai_deepssim.audit.clean_up.self_search import SelfSearch
from monai_deepssim.audit.embedded_side import EmbeddedSide
from monai_deepssim.audit.sources import Side
from monai_deepssim.calibration import Thresholds
from monai_deepssim.engines.embedding_store import EmbeddedImages
from monai_deepssim.search import NearestNeighbors


def deduplicate(folder: Path, checkpoint: Path, **options: Any) -> DeduplicationResult:
    defaults = {
        "training_dir": str(folder / "training"),
        "output_dir": str(folder / "out"),
        "checkpoint": str(checkpoint),
        "image_size": IMAGE_SIZE,
        "device": "cpu",
        "top_k": 8,
        "thresholds": [0.9, 0.995],
        "patient_id_pattern": r"(sub-\d+)",
    }
    return Deduplication(**{**defaults, **options}).run()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, axial) -> Path:
    folder = tmp_path_factory.mktemp("deduplicate")
    training = folder / "training"
    for level in (50, 65, 80, 95, 110):
        write_png(training / "scans" / f"sub-{level}_z{level}.png", axial(level))
    write_png(training / "scans" / "sub-50_again.png", axial(50))  # of the same patient
    write_png(training / "later" / "sub-7_z80.png", axial(80)[::-1])  # under another name, upside down
    for name in ("x.png", "y.png"):
        write_png(training / "unnamed" / name, axial(125))
    (training / "broken.png").write_bytes(b"")
    (training / "notes.txt").write_text("a note")
    return folder


@pytest.fixture(scope="module")
def deduplicated(folder, checkpoint) -> tuple[DeduplicationResult, dict[str, Any], dict[str, Any]]:
    before = snapshot(folder)
    result = deduplicate(folder, checkpoint)
    after = {name: value for name, value in snapshot(folder).items() if not name.startswith("out/")}
    return result, before, after


def test_one_of_each_group_is_kept_the_first_by_name_where_all_are_alike(deduplicated, folder) -> None:
    left_out = {"scans/sub-50_z50.png", "scans/sub-80_z80.png", "unnamed/y.png", "broken.png", "notes.txt"}
    assert files_of(folder / "out" / "deduplicated") == files_of(folder / "training") - left_out


def test_duplicates_of_one_patient_of_several_and_of_unknown_ones_are_told_apart(deduplicated, folder) -> None:
    rows = table(folder / "out" / "groups.csv", "kept")
    assert {name: row["patients"] for name, row in rows.items()} == {
        "later/sub-7_z80.png": "different",
        "unnamed/x.png": "unknown",
        "scans/sub-50_again.png": "same",
    }
    assert rows["later/sub-7_z80.png"]["left_out"] == "scans/sub-80_z80.png"
    assert rows["later/sub-7_z80.png"]["patient_ids"] == "sub-7|sub-80"
    # Those across patients come first: they are mistakes.
    assert [row["group"] for row in rows.values()] == ["1", "2", "3"]
    assert next(iter(rows)) == "later/sub-7_z80.png"
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["groups_by_patients"] == {"different": 1, "same": 1, "unknown": 1}
    assert summary["num_left_out"] == {"duplicate": 3, "skipped": 1, "ignored": 1}
    assert (summary["num_training"], summary["num_with_duplicate"], summary["largest_group"]) == (9, 6, 2)
    assert summary["thresholds"]["duplicate"]["value"] == 0.995
    assert len(summary["fingerprints"]["training"]["images"]) == 64


def test_the_manifest_says_of_every_file_why_it_was_kept_or_left_out(deduplicated, folder) -> None:
    rows = table(folder / "out" / "manifest.csv", "file")
    assert set(rows) == files_of(folder / "training")
    turned = rows["scans/sub-80_z80.png"]
    assert (turned["kept"], turned["class"]) == ("no", "duplicate")
    assert (turned["duplicate_of"], turned["patients"]) == ("later/sub-7_z80.png", "different")
    assert (turned["patient_id"], turned["nearest_patient_id"]) == ("sub-80", "sub-7")
    assert "stands for its group of 2" in rows["later/sub-7_z80.png"]["reason"]
    assert rows["scans/sub-110_z110.png"]["group"] == ""
    assert "could not be used" in rows["broken.png"]["reason"]
    assert "no image" in rows["notes.txt"]["reason"]


def test_the_price_of_a_deformation_is_an_option_here_too(folder, checkpoint, tmp_path) -> None:
    dear, free = (
        deduplicate(folder, checkpoint, output_dir=str(tmp_path / str(cost)), deformation_cost=cost)
        for cost in ("none", 0)
    )

    assert all(pair.alignment.deformation_pixels == 0 for pair in dear.duplicates.nearest.values())
    assert any(pair.alignment.deformation_pixels > 0 for pair in free.duplicates.nearest.values())


def test_no_image_is_its_own_nearest_one(deduplicated, folder) -> None:
    rows = table(folder / "out" / "matches.csv", "training_path")
    assert len(rows) == 9
    assert [name for name, row in rows.items() if row["nearest_path"] == name] == []
    # ICBM152's template is the same on the left and on the right: that flip may be there or not.
    assert rows["scans/sub-80_z80.png"]["flip"].startswith("top-bottom")
    assert all(0.9 < float(row["zoom"]) < 1.1 for row in rows.values())
    assert all(0 <= float(row["deformation_pixels"]) < 3 for row in rows.values())


def test_nothing_of_the_training_set_is_changed_or_deleted(deduplicated) -> None:
    _, before, after = deduplicated
    assert after == before


def test_the_report_speaks_of_training_images_alone(deduplicated, folder) -> None:
    report = (folder / "out" / "report.html").read_text(encoding="utf-8")
    words = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL))
    assert "synthetic" not in words.lower()
    assert "3 groups of duplicates in a training set of 10 files" in words
    assert "different patients" in words
    assert (report.count("data:image/"), report.count("<svg")) == (3 * 4, 1)


def test_the_same_command_again_changes_nothing_that_was_kept(deduplicated, folder, checkpoint) -> None:
    kept = snapshot(folder / "out" / "deduplicated")
    result = deduplicate(folder, checkpoint, report_images="none")
    assert result.training.continued
    assert snapshot(folder / "out" / "deduplicated") == kept
    again = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert (again.count("data:image/"), again.count("<svg")) == (0, 1)


def test_slices_of_one_volume_are_not_duplicates_of_each_other(tmp_path, volume, checkpoint) -> None:
    (tmp_path / "training").mkdir()
    for name, levels in (("sub-1", [60, 60, 60]), ("sub-2", [90, 100, 110]), ("sub-3", [100, 120, 130])):
        image = nib.Nifti1Image(volume[:, :, levels], np.eye(4))
        nib.save(image, tmp_path / "training" / f"{name}.nii.gz")
    result = deduplicate(tmp_path, checkpoint, slices="all")
    # Three equal slices in one file are no group; one slice that two files share connects them.
    assert [[result.paths[unit] for unit in group.members] for group in result.duplicates.groups] == [
        ["sub-2.nii.gz", "sub-3.nii.gz"]
    ]
    assert files_of(tmp_path / "out" / "deduplicated") == {"sub-1.nii.gz", "sub-2.nii.gz"}


def test_a_set_without_duplicates_is_kept_whole(tmp_path, axial, checkpoint) -> None:
    write_png(tmp_path / "training" / "only.png", axial(60))
    result = deduplicate(tmp_path, checkpoint)
    assert result.groups.empty
    assert files_of(tmp_path / "out" / "deduplicated") == {"only.png"}
    assert "No duplicate was found among 1 training files" in (tmp_path / "out" / "report.html").read_text()


def test_the_folder_of_an_audit_is_refused(tmp_path, axial, checkpoint, capsys) -> None:
    write_png(tmp_path / "training" / "only.png", axial(60))
    (tmp_path / "out" / "embeddings" / "synthetic").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        deduplicate(tmp_path, checkpoint)
    assert ended.value.code == 2
    assert "holds an audit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"synthetic_dir": "elsewhere"}, ["--synthetic_dir", "no such option"]),
        ({"max_copy_fraction": 0.1}, ["--max_copy_fraction", "no such option"]),
        ({"files": "move"}, ["--files", "'move'"]),
        ({"detector": "copy_detector", "verify": False, "thresholds": None}, ["--thresholds", "held-out"]),
        ({"training_dir": "nowhere"}, ["nowhere", "no such file or folder"]),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_named(tmp_path, checkpoint, capsys, options, words) -> None:
    with pytest.raises(SystemExit) as ended:
        deduplicate(tmp_path, checkpoint, **options)
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert [word for word in words if word not in message] == []


class CosineDetector:
    """Searches as the audit's detector does, and notes for how many neighbours it was asked."""

    def __init__(self, embeddings: np.ndarray) -> None:
        self.neighbors = NearestNeighbors().fit(embeddings)
        self.asked: list[tuple[int, int]] = []

    searches_among = True

    def search(
        self, images: EmbeddedImages, num_neighbors: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        queries = torch.from_numpy(np.concatenate(images.embeddings))
        self.asked.append((len(queries), num_neighbors))
        scores, rows = self.neighbors.kneighbors(queries, num_neighbors, torch.from_numpy(among))
        return scores.double().numpy(), rows.numpy()


def search_of(angles_degrees: list[float], duplicate_within_degrees: float, top_k: int = 10) -> tuple[Any, Any]:
    """Groups of images that are directions in a plane: the nearer their angles, the more alike."""
    radians = np.deg2rad(np.array(angles_degrees))
    embeddings = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    items = [{"image": f"/{n:03d}.png", "path": f"{n:03d}.png", "patient_id": ""} for n in range(len(radians))]
    sizes = np.zeros((len(items), 2), np.int64)
    images = EmbeddedImages([embeddings], np.arange(len(items)), {}, [], sizes)
    training = EmbeddedSide(Side("training", Path("set"), items, []), images, {"images": "a set"}, [], continued=False)
    thresholds = Thresholds(None, float(np.cos(np.deg2rad(duplicate_within_degrees))), "deepssim", "this test")
    detector = CosineDetector(embeddings)
    options = SimpleNamespace(
        top_k=top_k,
        num_proposed=top_k,
        verify=False,
        image_size=IMAGE_SIZE,
        output_dir=Path("out"),
        device="cpu",
    )
    search = SelfSearch(training, range(len(items)), detector, thresholds, options)
    units = [FileUnit((item["image"],), (index,)) for index, item in enumerate(items)]
    return group_duplicates(search, units, [""] * len(items)), detector


def test_a_chain_is_one_group_and_its_middle_is_kept() -> None:
    found, _ = search_of([0, 10, 20, 90], duplicate_within_degrees=12)
    assert [(group.kept, group.left_out) for group in found.groups] == [(1, (0, 2))]
    assert found.nearest[3].label == "different"


def test_more_repetitions_than_neighbours_that_are_looked_at_hide_no_duplicate() -> None:
    # 25 equal images, and 25 others that are duplicates of those: the ten nearest of each are all of its own kind.
    found, detector = search_of([0.0] * 25 + [5.0] * 25 + [90.0], duplicate_within_degrees=6)
    assert [(group.kept, len(group.left_out)) for group in found.groups] == [(0, 49)]
    assert found.rounds > 1
    # The first search is of all images for ten others each; later ones are of the few that were kept.
    assert detector.asked[0] == (51, 11)
    assert all(rows <= 3 and asked <= 11 for rows, asked in detector.asked[1:])


def test_groups_are_those_of_a_comparison_of_all_with_all() -> None:
    angles = np.random.default_rng(0).uniform(0, 360, 60).round(1).tolist()
    found, _ = search_of(angles, duplicate_within_degrees=2.05, top_k=3)
    unit = np.exp(1j * np.deg2rad(np.array(angles)))
    near = np.abs(np.angle(unit[:, None] / unit[None])) < np.deg2rad(2.05)
    expected = {frozenset(np.flatnonzero(row).tolist()) for row in np.linalg.matrix_power(near.astype(float), 40) > 0}
    assert {frozenset(group.members) for group in found.groups} == {group for group in expected if len(group) > 1}
