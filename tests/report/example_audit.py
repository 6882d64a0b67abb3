"""An audit as it is written down: a summary, tables and pictures, made up, with every entry filled or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

CURVE = [("blur", 1.0, 20), ("blur", 2.0, 19), ("blur", 3.0, 11), ("noise", 0.05, 18), ("rotation", 10.0, 20)]
CURVE += [("crop", 0.8, 17), ("mix", 0.5, 2), ("half_resolution", None, 20)]
STRONG = [("blur", 2.0), ("blur", 3.0), ("noise", 0.05), ("crop", 0.8), ("mix", 0.5)]
UNITS = {"blur": "px", "rotation": "degrees"}


@dataclass
class ExampleAudit:
    """What a report is made of.

    Attributes:
        summary: content of ``summary.json``.
        tables: ``matches`` and ``patients``.
        candidates: two training images of each synthetic image.
    """

    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    candidates: pd.DataFrame

    def pictures(self, row: int) -> list[tuple[str, Image.Image]]:
        """Four pictures of noise over a disc, of the size of the audit."""
        rows, columns = np.mgrid[-1:1:136j, -1:1:112j]
        noise = np.random.default_rng(row).normal(128, 25, (136, 112)) * (rows**2 + columns**2 < 0.9)
        grey = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        names = ("synthetic", "training", "training, aligned")
        return [*((name, grey) for name in names), ("where they agree", grey.convert("RGB"))]


def share(count: int, total: int, low: float, high: float) -> dict[str, Any]:
    """A share as ``summary.json`` has it."""
    return {
        "count": count,
        "total": total,
        "value": count / total,
        "interval": [low, high],
        "confidence": 0.95,
        "method": "exact binomial (Clopper-Pearson)",
        "num_groups": None,
        "effective_total": None,
    }


def make_audit(
    num_copies: int = 12, num_similar: int = 6, num_different: int = 30, *, filled: bool = True, **names: str
) -> ExampleAudit:
    """Make up an audit.

    Args:
        num_copies: copies, two of a patient.
        num_similar: similar images, of which the first two are unexplained.
        num_different: images that are different.
        filled: whether controls, members and all else that an audit may leave out are there.
        names: ``folder``, ``patient``, ``training`` and ``synthetic``: beginnings of paths and identifiers.
    """
    folder, patient = names.get("folder", "/data/hospital"), names.get("patient", "sub")
    training, synthetic = names.get("training", "scan"), names.get("synthetic", "fake")
    total = num_copies + num_similar + num_different
    labels = ["duplicate"] * num_copies + ["similar"] * num_similar + ["different"] * num_different
    scores = np.concatenate(
        [np.linspace(1.0, 0.88, num_copies), np.linspace(0.84, 0.65, num_similar), np.linspace(0.6, 0.2, num_different)]
    )
    matches = pd.DataFrame(
        {
            "synthetic_path": [f"{synthetic}-{row:04}.png" for row in range(total)],
            "training_path": [f"{training}-{row:04}.png" for row in range(total)],
            "patient_id": [f"{patient}-{row // 2:03}" for row in range(total)],
            "score": scores,
            "aligned_ssim": scores,
            "coarse_correlation": 0.9,
            "inliers": 30,
            "copied_area": [1.0 if label == "duplicate" else None for label in labels],
            "p_value": 0.01,
            "q_value": [0.02 if label == "duplicate" else 0.6 for label in labels],
            "mi": None,
            "oni": None,
            "label": labels,
            "unexplained": [num_copies <= row < num_copies + 2 and filled for row in range(total)],
            "twin_of": [f"{synthetic}-0000.png" if row == num_copies + 2 and filled else "" for row in range(total)],
            "twin_score": [0.93 if row == num_copies + 2 and filled else None for row in range(total)],
        }
    )
    copies = matches.iloc[:num_copies]
    patients = pd.DataFrame(
        [
            (
                name,
                5,
                len(group),
                len(group),
                group["score"].max(),
                list(group["training_path"]),
                list(group["synthetic_path"]),
            )
            for name, group in copies.groupby("patient_id")
        ],
        columns=[
            "patient_id",
            "num_training",
            "num_memorized",
            "num_copies",
            "max_score",
            "training_paths",
            "synthetic_paths",
        ],
    )
    candidates = pd.DataFrame(
        {
            "query": np.repeat(np.arange(total), 2),
            "score": np.repeat(scores, 2) - np.tile([0, 0.2], total),
            "detector_score": 0.9,
            "training_path": [f"{training}-{row:04}.png" for row in range(2 * total)],
            "patient_id": np.repeat(matches["patient_id"].to_numpy(), 2),
            "alignment": "flipped left-right, rotated 6.5° clockwise",
        }
    )
    summary = _summary(folder, training, len(patients), num_copies, num_similar, num_different, filled)
    if filled:
        paths = [f"{synthetic}-0001.png"]
        summary["second_opinion"] = {"detector": "phash", "num_suspicious": 1, "paths": paths}
    return ExampleAudit(summary, {"matches": matches, "patients": patients}, candidates)


def _summary(
    folder: str, training: str, num_patients: int, num_copies: int, num_similar: int, num_different: int, filled: bool
) -> dict[str, Any]:
    total = num_copies + num_similar + num_different
    image_size = {"image_size": [136, 112], "converted_to_grey": [], "resampled_to_square_pixels": []}
    image_size |= {"padding_replaced": [], "stray_pixels_replaced": [], "windows": [], "window_reason": None}
    image_size |= {"num_series": 0, "num_files_of_series": 0, "num_middle_slices": 0}
    num_images = {"training": 400, "synthetic": total} | ({"holdout": 120} if filled else {})
    score = {"score": "copy_score", "source": "chosen on phantoms (docs/measured.md); not calibrated on this data"}
    return {
        "schema_version": 3,
        "created": "2026-11-26T12:00:00+00:00",
        "run": {
            "user": "jdoe-dpo",
            "command": f"monai-deepssim audit {folder}/training {folder}/synthetic",
            "started": "2026-11-26T11:40:00+00:00",
            "package_version": "0.2.0",
        },
        "demo": None,
        "training_dir": f"{folder}/training",
        "synthetic_dir": f"{folder}/synthetic",
        "holdout_dir": f"{folder}/holdout" if filled else None,
        "output_dir": f"{folder}/audit",
        "num_training": 400,
        "num_synthetic": total,
        "num_copies": num_copies,
        "num_parts": 0,
        "num_similar": num_similar,
        "num_different": num_different,
        "num_memorized": num_copies,
        "num_patients": num_patients,
        "num_memorized_without_patient": 0,
        "num_close": 0,
        "num_unexplained": 2 if filled else 0,
        "num_twins": int(filled),
        "num_similar_above_null": 3 if filled else None,
        "selection": None,
        "copy_fraction": share(num_copies, total, 0.12, 0.4),
        "memorized_fraction": share(num_copies, 400, 0.015, 0.05),
        "false_alarms": share(1, 120, 0.0002, 0.046) if filled else None,
        "discoveries": {
            "fdr": 0.05,
            "num_discoveries": num_copies,
            "fewest_discoverable": 8,
            "null": "held-out images",
            "num_null_scores": 120,
            "num_null_patients": 60,
            "smallest_p_value": 0.016,
            "method": "conformal p-values, Benjamini-Hochberg",
            "caveat": "The held-out images have to be of the population of the training images.",
        },
        "gate": _gate(num_copies, total, num_patients) if filled else _no_gate(num_copies),
        "sides_differ": {"num_training": 200, "num_synthetic": total, "is_testable": True, "differences": []},
        "skipped": [{"side": "training", "path": f"{training}-broken.png", "reason": "is empty"}] if filled else [],
        "ignored_files": {side: [] for side in num_images},
        "repeats": {side: [] for side in num_images},
        "thresholds": {"similar": {"value": 0.63, **score}, "duplicate": {"value": 0.86, **score}},
        "detector": "deepssim",
        "verified": True,
        "embedder": {
            "name": "DeepSSIMEmbedder, 6.4 M parameters",
            "checkpoint": f"{folder}/model.pt",
            "sha256": "aa1af532" * 8,
            "embedding_dim": 1024,
        },
        "images": {side: {"original_sizes": {"256 x 256": count}, **image_size} for side, count in num_images.items()},
        "fingerprints": {side: {"images": "2f379774" * 8} for side in num_images},
        "options": {
            "fdr": 0.05,
            "report_images": "all",
            "image_size": [136, 112],
            "num_proposed": 64,
            "top_k": 10,
            "deformation_cost": 0.1,
            "slices": None,
            "slice_axis": 2,
            "device": "cpu",
        },
        "versions": {"python": "3.11.7", "monai": "1.6.1", "timm": None},
        "timings_seconds": {"search": 36.7},
        "headline": {
            "title": f"Release gate exceeded: {num_copies} of {total} synthetic images are copies of a training image",
            "tone": "bad",
            "advice": f"It reproduces {num_copies} training images of {num_patients} patients. Do not share this set.",
        },
        "controls": _controls() if filled else None,
        "null": {
            "source": "held-out images",
            "group_rule": "mean",
            "num_scores": 120,
            "num_patients": 60,
            "smallest_p_value": 0.016,
            "fewest_discoverable": 8,
            "num_duplicates_left_out": 3,
            "tail": None,
            "can_call": True,
            "sentence": "With 60 patients to compare with, a copy among others like it would be called.",
        }
        if filled
        else None,
        "identical_training": {
            "num_images": int(filled),
            "num_of_two_patients": int(filled),
            "images": [
                {
                    "path": f"{training}-9999.png",
                    "identical_to": f"{training}-0001.png",
                    "patient_id": "Krause^Otto",
                    "other_patient_id": "Mueller^Anna^1961",
                }
            ][: int(filled)],
        },
        "contamination": {"by_content": 1, "by_score": 1, "paths": [[f"{training}-held.png", f"{training}-0001.png"]]}
        if filled
        else None,
        "members": _members() if filled else None,
        "second_opinion": None,
    }


def _gate(num_copies: int, total: int, num_patients: int) -> dict[str, Any]:
    return {
        "result": "exceeded",
        "reason": f"{num_copies} of {total} synthetic images are suspicious.",
        "reasons": [
            {
                "code": "copies_exceeded",
                "result": "exceeded",
                "text": f"{num_copies} of {total} images are suspicious.",
            },
            {"code": "skipped_training", "result": "undecided", "text": "1 training image could not be read."},
        ],
        "caveats": [],
        "max_copy_fraction": 0.01,
        "max_patient_fraction": None,
        "gate_on": "generator",
        "min_recall": 0.9,
        "num_suspicious": num_copies + 3,
        "suspicious": {"copies": num_copies, "parts": 0, "twins": 1, "discoveries": 0, "unexplained": 2},
        "parts_left_out": 0,
        "upper_limit": 0.41,
        "upper_limit_over_recall": 0.43,
        "images_needed": None,
        "patients": {"memorized": num_patients, "total": 80, "upper_limit": 0.14},
    }


def _no_gate(num_copies: int) -> dict[str, Any]:
    names = ["max_copy_fraction", "max_patient_fraction", "upper_limit", "patients"]
    absent = dict.fromkeys([*names, "upper_limit_over_recall", "images_needed", "result"])
    return {
        **absent,
        "reason": "no gate was asked for",
        "reasons": [],
        "caveats": [],
        "gate_on": "generator",
        "min_recall": 0.9,
        "num_suspicious": num_copies,
        "suspicious": {"copies": num_copies, "parts": 0, "twins": 0, "discoveries": 0, "unexplained": 0},
        "parts_left_out": 0,
    }


def _controls() -> dict[str, Any]:
    curve = [
        {
            "change": change,
            "level": level,
            "unit": UNITS.get(change, ""),
            "count": count,
            "total": 20,
            "value": count / 20,
            "interval": [max(0.0, count / 20 - 0.2), min(1.0, count / 20 + 0.1)],
            "upper_limit": None if (change, level) in STRONG else min(1.0, count / 20 + 0.2),
        }
        for change, level, count in CURVE
    ]
    return {
        "reference": "blur_2",
        "recall": share(19, 20, 0.75, 0.999),
        "num_planted": 160,
        "curve": curve,
        "sentences": ["A copy blurred by 2 px would have been found with probability 0.95 (0.75 to 1.00)."],
    }


def _members() -> dict[str, Any]:
    rates = np.linspace(0, 1, 50)
    return {
        "num_members": 400,
        "num_non_members": 120,
        "auc": 0.71,
        "auc_interval": [0.64, 0.78],
        "tpr_at_1_fpr": 0.12,
        "tpr_at_1_fpr_interval": [0.06, 0.2],
        "tpr_at_0.1_fpr": None,
        "tpr_at_0.1_fpr_interval": None,
        "advantage": 0.3,
        "advantage_interval": [0.2, 0.4],
        "epsilon_lower_bound": 1.2,
        "epsilon_conditions": "Kairouz et al., theorem 2.1, for this attack and these images.",
        "singling_out_risk": 0.05,
        "singling_out_risk_interval": [0.01, 0.09],
        "roc": {"fpr": rates.tolist(), "tpr": (rates**0.5).tolist()},
        "sentence": "The set knows who was in training: training images are closer to it than held-out images.",
    }
