"""Audits that verify, calibrate, and use other detectors, on real slices."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from audit_files import LENIENT_GATE, write_png
from monai.transforms import AdjustContrast, Affine
from pandas.testing import assert_frame_equal
from PIL import Image

from monai_deepssim.audit import report, training_search, verification
from monai_deepssim.calibration import WHOLE_IMAGE_AREA, keep_strangers
from monai_deepssim.data import ImageDataset
from monai_deepssim.metrics import tabulate_candidates, verify_candidates
from monai_deepssim.networks import CopyDetector
from monai_deepssim.report import pair_pictures
from monai_deepssim.similarity import DEFORMATION_COST, aligned_ssim, pairwise_ssim, standardize
from monai_deepssim.transforms import RandWarp


def read_matches(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out" / "matches.csv").open(newline="") as file:
        return {row["synthetic_path"]: row for row in csv.DictReader(file)}


def changed(pixels: np.ndarray) -> np.ndarray:
    """Flipped top-bottom (the template is its own mirror image left-right), turned by 6 degrees, gamma 1.3."""
    image = torch.from_numpy(pixels[::-1].copy()).float()[None] / 255
    image = Affine(rotate_params=np.deg2rad(6.0), padding_mode="zeros", image_only=True)(image)
    return (AdjustContrast(1.3)(image)[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def test_a_changed_copy_is_verified_and_its_change_is_told(audit, folders, axial) -> None:
    write_png(folders / "synthetic" / "copy-of-60.png", changed(axial(60)))

    result = audit(thresholds=None)

    row = read_matches(folders)["copy-of-60.png"]
    assert (row["training_path"], row["label"]) == ("sub-2_z60.png", "duplicate")
    assert float(row["aligned_ssim"]) > 0.95
    assert 1 >= float(row["score"]) >= float(row["aligned_ssim"]) != float(row["deepssim"])
    assert int(row["inliers"]) > 20
    assert float(row["copied_area"]) > 0.6
    assert "top-bottom" in row["flip"]
    assert abs(float(row["rotation_degrees"])) == pytest.approx(6, abs=0.5)
    assert float(row["gamma"]) == pytest.approx(1.3, abs=0.1)
    report = (folders / "out" / "report.html").read_text()
    assert "flipped top-bottom" in report
    assert "training, aligned" in report
    assert result.count("duplicate") == 2


def test_a_copy_that_a_generator_blurred_is_a_whole_copy(audit, folders, axial) -> None:
    blurred = cv2.GaussianBlur(axial(60), (0, 0), 7)
    write_png(folders / "synthetic" / "blurred-60.png", blurred)

    audit(thresholds=None)

    row = read_matches(folders)["blurred-60.png"]
    assert float(row["aligned_ssim"]) < 0.86 < float(row["score"])
    assert float(row["coarse_correlation"]) > 0.8
    assert (row["training_path"], row["label"]) == ("sub-2_z60.png", "duplicate")


def test_the_table_tells_how_much_a_copy_was_enlarged(audit, folders, axial) -> None:
    image = torch.from_numpy(axial(60).copy()).float()[None] / 255
    larger = Affine(scale_params=[1 / 1.04] * 2, padding_mode="zeros", image_only=True)(image)[0]
    write_png(folders / "synthetic" / "larger-60.png", (larger.clamp(0, 1) * 255).round().to(torch.uint8).numpy())

    audit()

    assert float(read_matches(folders)["larger-60.png"]["zoom"]) == pytest.approx(1.04, abs=0.01)


def test_a_deformed_copy_is_shown_deformed_back_and_pays_for_it(audit, folders, axial, monkeypatch) -> None:
    image = torch.from_numpy(axial(75).copy()).float()[None] / 255
    # Large bumps: the audit works on 64 x 64 pixels, not on the file's.
    warped = RandWarp(5.0, 50).set_random_state(1)(image)[0]
    write_png(folders / "synthetic" / "warped-75.png", (warped.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
    drawn = []
    monkeypatch.setattr(pair_pictures, "draw_agreement", lambda *pair: drawn.append(pair))

    result = audit()

    row = read_matches(folders)["warped-75.png"]
    pixels = float(row["deformation_pixels"])
    assert pixels > 0.3
    assert row["training_path"].endswith("z75.png")
    assert f"deformed by {pixels:.1f} pixels" in (folders / "out" / "report.html").read_text()
    match = next(match for match in result.matches.itertuples() if match.synthetic_path == "warped-75.png")
    report.pair_pictures(match.Index, result)
    first, aligned = (standardize(one[None]) for one in drawn[-1])
    shown = pairwise_ssim(first, aligned).item()
    assert shown - DEFORMATION_COST * pixels == pytest.approx(match.aligned_ssim, abs=0.01)
    undeformed = next(match for match in result.matches.itertuples() if match.synthetic_path == "copy-of-60.png")
    assert undeformed.deformation_pixels == 0


def test_the_price_of_a_deformation_is_an_option_and_other_scores_are_not_mixed_in(audit, folders, axial) -> None:
    image = torch.from_numpy(axial(75).copy()).float()[None] / 255
    warped = RandWarp(5.0, 50).set_random_state(1)(image)[0]
    write_png(folders / "synthetic" / "warped-75.png", (warped.clamp(0, 1) * 255).round().to(torch.uint8).numpy())

    def aligned_ssim_of_it(**options: Any) -> tuple[float, float, str]:
        result = audit(thresholds=None, **options)
        match = next(match for match in result.matches.itertuples() if match.synthetic_path == "warped-75.png")
        return match.aligned_ssim, match.deformation_pixels, result.thresholds.source

    dear_ssim, _, _ = aligned_ssim_of_it()
    ssims = {}
    for cost in ("none", 0, 0.05):  # each goes on with the folder of the one before
        ssims[cost], pixels, source = aligned_ssim_of_it(deformation_cost=cost)
        assert (pixels > 0) == (cost != "none")
        assert "not this" in source
        report_text = (folders / "out" / "report.html").read_text()
        assert ("deformed a little" in report_text) == (cost != "none")
        options = json.loads((folders / "out" / "summary.json").read_text())["options"]
        assert options["deformation_cost"] == (None if cost == "none" else cost)
    assert ssims["none"] < dear_ssim - 0.01
    assert ssims[0] > ssims[0.05] > dear_ssim + 0.01


def test_all_scores_of_an_audit_have_one_price(audit, folders, axial, monkeypatch) -> None:
    write_png(folders / "holdout" / "sub-x_z100.png", axial(100))
    prices = []

    def verify_and_note(*sides, deformation_cost, description, **options):
        prices.append((description, deformation_cost))
        return verify_candidates(*sides, deformation_cost=deformation_cost, description=description, **options)

    monkeypatch.setattr(training_search, "verify_candidates", verify_and_note)
    audit(deformation_cost=0.03)
    audit(deformation_cost=0.03, holdout_dir="holdout", overwrite=True)

    assert {description for description, _ in prices} == {
        "synthetic images",
        "training images",
        "holdout images",
    }
    assert {price for _, price in prices} == {0.03}


def test_the_score_rests_on_the_aligned_ssim_of_the_two_files_and_is_the_best_of_the_shortlist(audit, folders) -> None:
    result = audit(top_k=3)

    match = next(match for match in result.matches.itertuples() if match.synthetic_path == "other-120.png")
    images = {
        path: torch.from_numpy(np.asarray(Image.open(folders / path)).copy()).float()[None, None] / 255
        for path in (f"synthetic/{match.synthetic_path}", f"training/{match.training_path}")
    }
    assert 0 < match.score < 1
    scores = result.pairs[result.pairs["query"] == match.Index]["score"].tolist()
    assert scores == sorted(scores, reverse=True)
    # The audit works on smaller images than the files', so the two are close and not equal.
    expected = aligned_ssim(*[standardize(image) for image in images.values()]).ssim.item()
    assert match.aligned_ssim == pytest.approx(expected, abs=0.15)


def test_pixels_in_one_pose_choose_what_is_aligned(audit, folders, axial) -> None:
    write_png(folders / "synthetic" / "copy-of-60.png", changed(axial(60)))

    # Squared differences do not survive the flip; one image is aligned, and it is the right one.
    result = audit(detector="mse", checkpoint=None, top_k=1, thresholds=None)

    assert read_matches(folders)["copy-of-60.png"]["training_path"] == "sub-2_z60.png"
    assert len(result.pairs) == len(result.matches)
    options = json.loads((folders / "out" / "summary.json").read_text())["options"]
    assert (options["top_k"], options["num_proposed"]) == (1, 64)
    # What the detector said of that image goes with it, and is what it says when all are aligned.
    everything = audit(detector="mse", checkpoint=None, top_k=64, thresholds=None)
    row = next(match.Index for match in result.matches.itertuples() if match.synthetic_path == "copy-of-60.png")
    (pair,) = result.pairs[result.pairs["query"] == row].itertuples()
    of_all = everything.pairs[everything.pairs["query"] == row].set_index("training")["detector_score"]
    assert pair.detector_score == of_all[pair.training] < of_all.max()


def test_deepssim_aligned_is_the_way_an_audit_judges_by_default(audit, folders) -> None:
    by_default, by_name = audit(), audit(detector="deepssim_aligned", output_dir="by_name")
    assert_frame_equal(by_name.matches, by_default.matches)
    assert by_name.detector == by_default.detector == "deepssim"
    with pytest.raises(SystemExit) as ended:
        audit(detector="deepssim_aligned", verify=False, output_dir="neither")
    assert ended.value.code == 2


@pytest.mark.parametrize("options", [{"hash_size": 16}, "hash_size=16"])
def test_a_detectors_own_arguments_are_options_and_embeddings_by_others_are_not_taken_up(
    audit, folders, options, capsys
) -> None:
    same = {"detector": "phash", "checkpoint": None, "verify": False, "thresholds": 0.9}
    result = audit(**same, detector_options=options)
    assert result.embedder.embedding_dim == 256
    capsys.readouterr()
    others = audit(**same)
    assert "are embedded again, since the embedder" in capsys.readouterr().out
    assert_frame_equal(others.matches, audit(**same, output_dir="fresh").matches)
    with pytest.raises(SystemExit) as ended:
        audit(**same, detector_options={"hashsize": 16})
    assert ended.value.code == 2
    assert "phash has no argument hashsize. Did you mean hash_size?" in capsys.readouterr().err


def test_what_is_not_verified_is_judged_by_deepssim(audit, folders) -> None:
    result = audit(verify=False)

    assert result.matches["gamma"].isna().all()
    assert (result.matches["score"] == result.matches["deepssim"]).all()
    assert "training, aligned" not in (folders / "out" / "report.html").read_text()


def test_the_copy_detector_that_ships_takes_its_threshold_from_held_out_images(audit, folders, axial) -> None:
    for level in (100, 105, 110):
        write_png(folders / "holdout" / f"new-{level}.png", axial(level))
    result = audit(detector="copy_detector", checkpoint=None, verify=False, thresholds=None, holdout_dir="holdout")

    rows = read_matches(folders)
    assert rows["copy-of-60.png"]["training_path"] == "sub-2_z60.png"
    assert rows["copy-of-60.png"]["label"] == rows["copy-of-75.png"]["label"] == "duplicate"
    assert result.thresholds.source.startswith("95th percentile")
    shipped = json.loads((folders / "out" / "summary.json").read_text())["embedder"]
    assert shipped["embedding_dim"] == 128


@pytest.mark.parametrize(("detector", "threshold"), [("ssim", 0.9), ("ncc", 0.999), ("mse", -0.0001), ("phash", 0.97)])
def test_a_detector_of_two_classes_never_says_similar(audit, folders, detector, threshold) -> None:
    result = audit(detector=detector, checkpoint=None, verify=False, thresholds=threshold)

    assert {match.label for match in result.matches.itertuples()} == {"duplicate", "different"}
    rows = read_matches(folders)
    assert rows["copy-of-60.png"]["training_path"] == "sub-2_z60.png"
    assert rows["copy-of-60.png"]["label"] == "duplicate"
    assert rows["copy-of-60.png"]["deepssim"] == ""
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["thresholds"]["similar"]["value"] is None
    assert summary["detector"] == summary["thresholds"]["duplicate"]["score"] == detector


@pytest.mark.parametrize("detector", ["ncc", "copy_detector"])
def test_another_detector_makes_the_shortlist_and_the_copy_score_verifies_it(audit, folders, detector) -> None:
    result = audit(detector=detector, checkpoint=None)

    copies = result.matches[result.matches["label"].isin(["duplicate", "part"])]
    assert set(copies["synthetic_path"]) == {"copy-of-60.png", "copy-of-75.png"}
    assert result.thresholds.score == "copy_score"


def test_weights_for_volumes_are_refused_for_slices_in_words(audit, folders, capsys) -> None:
    torch.save(CopyDetector(3, "resnet18_narrow").state_dict(), folders / "volumes.pt")
    with pytest.raises(SystemExit) as end:
        audit(detector="copy_detector", checkpoint="volumes.pt")

    assert end.value.code == 2
    assert "the weights are of volumes: give those of a 2-D copy detector" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "ncc", "checkpoint": None, "verify": False, "thresholds": None}, "no published threshold"),
        ({"detector": "ncc", "thresholds": None}, "has no weights"),
        ({"detector": "mri_core", "checkpoint": None}, "needs weights"),
        ({"detector": "copy_detector", "checkpoint": None, "verify": False, "thresholds": None}, "--holdout_dir"),
        ({"detector": "deepsim"}, "one of deepssim"),
        ({"fdr": 0}, "a share between 0 and 1"),
        ({"deformation_cost": -0.1}, "an SSIM of 0 or more"),
        ({"deformation_cost": "cheap"}, "an SSIM of 0 or more"),
        ({"verify": "perhaps"}, "true or false"),
        ({"detector": "ncc", "checkpoint": None, "memorization_index": True}, "--memorization_index"),
        ({"training_dir": None, "synthetic_dir": None, "holdout_dir": "training"}, "--holdout_dir"),
        ({"holdout_dir": "training"}, "share"),
    ],
)
def test_options_that_do_not_go_together_end_with_a_message(audit, capsys, options, message) -> None:
    with pytest.raises(SystemExit) as end:
        audit(**options)

    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_held_out_images_give_p_and_q_values(audit, folders, phantoms) -> None:
    for number, phantom in enumerate(phantoms[:9]):
        write_png(folders / "holdout" / f"new-{number}.png", (phantom[0] * 255).byte().numpy())

    result = audit(holdout_dir="holdout", fdr=0.3, patient_id_pattern=r"(sub-\d|new-\d)")

    rows = read_matches(folders)
    # Nine strangers, none as close as an exact copy.
    assert float(rows["copy-of-60.png"]["p_value"]) == pytest.approx(0.1)
    assert float(rows["copy-of-60.png"]["q_value"]) == pytest.approx(0.2)
    assert float(rows["other-130.png"]["p_value"]) > 0.5
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["holdout_dir"] == "holdout"
    assert summary["discoveries"]["null"] == "held-out images"
    assert summary["discoveries"]["num_discoveries"] == 2
    assert result.holdout is not None
    assert "held-out" in (folders / "out" / "report.html").read_text()
    with (folders / "out" / "holdout.csv").open() as file:
        strangers = list(csv.DictReader(file))
    assert [row["patient_id"] for row in strangers if row["label"] == "duplicate"] == []
    assert {row["holdout_path"] for row in strangers} == {f"new-{number}.png" for number in range(9)}
    assert (summary["false_alarms"]["count"], summary["false_alarms"]["total"]) == (0, 9)


def test_a_held_out_image_that_is_a_training_image_is_contamination_that_the_files_name(
    audit, folders, axial, phantoms, capsys
) -> None:
    first, last = (phantoms[:2, 0] * 255).byte().numpy()
    for number, image in enumerate((first, axial(60), last)):
        write_png(folders / "holdout" / f"new-{number}.png", image)
    audit(holdout_dir="holdout", patient_id_pattern=r"(sub-\d|new-\d)")
    assert "False alarms: 0 of 2 held-out images" in capsys.readouterr().out
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["contamination"] == {"by_content": 1, "by_score": 0, "paths": [["new-1.png", "sub-2_z60.png"]]}
    assert summary["discoveries"]["num_null_scores"] == 2
    first = (folders / "out" / "holdout.csv").read_text().splitlines()[1].split(",")
    assert (first[0], first[2], *first[5:]) == ("new-1.png", "sub-2_z60.png", "duplicate", "content")


def test_a_training_image_that_is_there_under_two_names_is_copied_under_both(audit, folders, axial) -> None:
    write_png(folders / "training" / "sub-9_again.png", axial(60))
    result = audit(patient_id_pattern=r"(sub-\d)")
    assert set(result.memorized["patient_id"]) == {"sub-2", "sub-9"}
    assert result.memorized_fraction.count == 3


def test_a_held_out_patient_of_the_training_set_is_refused(audit, folders, axial, capsys) -> None:
    write_png(folders / "holdout" / "sub-1_other.png", axial(97))

    with pytest.raises(SystemExit) as end:
        audit(holdout_dir="holdout", patient_id_pattern=r"(sub-\d)")

    assert end.value.code == 2
    assert "sub-1" in capsys.readouterr().err


def test_without_held_out_images_the_training_images_are_the_null_and_the_files_say_so(audit, folders) -> None:
    audit()

    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["discoveries"]["null"] == "training images, each against those of other patients"
    assert summary["discoveries"]["num_null_patients"] == 10
    assert "each scored against all training images of other patients" in (folders / "out" / "report.html").read_text()
    assert all(row["p_value"] for row in read_matches(folders).values())


def test_one_training_image_has_no_error_rates(audit, folders) -> None:
    for path in (folders / "training").iterdir():
        if "z60" not in path.name:
            path.unlink()

    audit()

    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert summary["discoveries"] is None
    assert all(row["p_value"] == "" for row in read_matches(folders).values())


@pytest.mark.parametrize("detector", ["deepssim", "memorization_index"])
def test_the_memorization_index_is_reported_when_asked_for(audit, folders, detector) -> None:
    audit(detector=detector, memorization_index=True)

    rows = read_matches(folders)
    assert float(rows["copy-of-60.png"]["mi"]) > float(rows["other-130.png"]["mi"])
    for row in rows.values():
        assert float(row["oni"]) == pytest.approx(-np.tanh(float(row["mi"])), abs=1e-4)


def test_the_null_of_halves_leaves_out_a_patients_own_images() -> None:
    neighbors = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
    pairs = tabulate_candidates(neighbors, np.array([[1.0, 0.9, 0.3, 0.2]] * 4))

    kept = keep_strangers(pairs, ["a", "a", "b", "b"], keep=2)

    assert kept["query"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert kept["training"].tolist() == [2, 3, 3, 2, 0, 1, 1, 0]
    assert kept["detector_score"].tolist() == [0.3, 0.2] * 4


@pytest.mark.usefixtures("null_that_calls")
def test_half_of_a_training_image_is_a_part_copy_outlined_in_the_report(audit, folders, axial, phantoms) -> None:
    source = axial(75)
    other = torch.nn.functional.interpolate(phantoms[:1], size=source.shape, mode="bilinear")[0, 0]
    half = (other * 255).byte().numpy()
    half[:, : source.shape[1] // 2] = source[:, : source.shape[1] // 2]
    write_png(folders / "synthetic" / "half-75.png", half)

    result = audit(thresholds=None, max_copy_fraction=1.0, **LENIENT_GATE)

    row = read_matches(folders)["half-75.png"]
    assert (row["label"], row["training_path"][-7:]) == ("part", "z75.png")
    assert 0.2 < float(row["copied_area"]) < WHOLE_IMAGE_AREA
    assert result.count("part") == 1
    assert json.loads((folders / "out" / "summary.json").read_text())["num_parts"] == 1
    with pytest.raises(SystemExit) as end:
        audit(thresholds=None, max_copy_fraction=0.5)
    assert end.value.code == 3
    lenient = audit(thresholds=None, max_copy_fraction=0.5, count_parts=False, **LENIENT_GATE)
    assert lenient.gate.result == "passed"


@pytest.mark.parametrize("change", ["turned", "transposed", "inverted"])
def test_a_side_that_is_turned_transposed_or_inverted_hides_no_copy(audit, folders, axial, change) -> None:
    image = axial(75)
    changed_image = {"turned": np.rot90(image), "transposed": image.T, "inverted": 255 - image}[change]
    write_png(folders / "synthetic" / "changed-75.png", np.ascontiguousarray(changed_image))

    audit(thresholds=None)

    row = read_matches(folders)["changed-75.png"]
    assert row["training_path"].endswith("z75.png")
    # Padding is black on both sides of an inverted image, so that less of it agrees.
    assert row["label"] in (("duplicate", "part") if change == "inverted" else ("duplicate",))
    assert row["inverted"] == ("true" if change == "inverted" else "false")


def test_an_image_is_read_once_for_its_local_features_and_its_comparison(audit, folders, monkeypatch) -> None:
    class UnreadDataset(ImageDataset):
        def __getitem__(self, index: int) -> dict[str, Any]:
            raise AssertionError(f"{self.items[index]['path']} is read again")

    monkeypatch.setattr(verification, "ImageDataset", UnreadDataset)
    result = audit()
    assert len(result.pairs) > len(result.matches)
