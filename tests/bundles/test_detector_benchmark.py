"""The bundle that compares detectors, run as users run it."""

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import fire
import monai.bundle
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from monai_deepssim.benchmark import DetectorBenchmark
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.transforms import SUPPORTED_PERTURBATIONS

BUNDLE = Path(__file__).parents[2] / "bundles" / "detector_benchmark"
CONFIGS = [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", "quick")]
FEW_PAIRS = {"num_pairs": 12, "gallery_size": 14, "num_resamples": 50}
# Alignment takes most of the time.
FEW_ALIGNED = {"detectors#deepssim_aligned#top_k": 3}
OPTION_OF_WEIGHTS = {
    "mri_core": "mri_core_checkpoint",
    "torchscript": "torchscript_file",
    "open_clip": "open_clip_weights",
}
DEFAULT_DETECTORS = [
    name for name in json.loads(Path(CONFIGS[0]).read_text())["detectors"] if name not in OPTION_OF_WEIGHTS
]

pytestmark = pytest.mark.filterwarnings("ignore:14 training images are few")


def run(output_dir, **overrides):
    overrides = {"output_dir": str(output_dir), **FEW_PAIRS, **FEW_ALIGNED, **overrides}
    monai.bundle.run(config_file=CONFIGS, bundle_root=str(BUNDLE), **overrides)
    return pd.read_csv(output_dir / "results.csv"), json.loads((output_dir / "summary.json").read_text())


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def results(output):
    return pd.read_csv(output / "results.csv").set_index(["detector", "perturbation"])


@pytest.fixture(scope="module")
def summary(output):
    return json.loads((output / "summary.json").read_text())


def test_every_detector_that_needs_no_weights_has_a_row_a_perturbation(results):
    assert list(results.index) == [
        (name, change) for name in DEFAULT_DETECTORS for change in ("none", "flip_horizontal", "mix")
    ]
    measures = ["macro_f1", "roc_auc", "average_precision", "tpr_at_1_fpr", "fpr_at_95_recall", "rank_1", "rank_10"]
    searched = ["search_roc_auc", "search_tpr_at_1_fpr", "recall_at_one_threshold", "proposed", "kept", "scored"]
    for name in [*measures, *searched]:
        assert ((results[f"{name}_low"] <= results[name]) & (results[name] <= results[f"{name}_high"])).all(), name
    assert (results["milliseconds_per_image"] > 0).all()
    assert (results["scored"] == results["rank_1"]).all()
    assert (results["kept"] <= results["proposed"]).all()


def test_unchanged_copies_are_found_by_all_and_flipped_ones_by_those_that_can(results):
    unchanged = results.xs("none", level="perturbation")
    assert (unchanged[["roc_auc", "rank_1"]] == 1).all(axis=None)
    flipped = results.xs("flip_horizontal", level="perturbation")
    assert (flipped.loc["deepssim_aligned", ["roc_auc", "search_roc_auc", "rank_1", "macro_f1"]] > 0.9).all()
    assert (flipped.loc[["phash", "ncc"], "roc_auc"] < 0.95).all()


def test_the_summary_has_seeds_versions_hashes_and_what_was_left_out(summary):
    assert (summary["pairs"]["test_seed"], summary["pairs"]["tuning_seed"]) == (9402, 9401)
    assert summary["pairs"]["test"] == {"different": 4, "duplicate": 4, "similar": 4}
    assert re.fullmatch("[0-9a-f]{64}", summary["detectors"]["deepssim"]["made_of"]["embedder"]["sha256"])
    assert summary["versions"]["monai"] == monai.__version__
    options = {name: re.search(r"--(\w+)", reason)[1] for name, reason in summary["left_out"].items()}
    assert options == OPTION_OF_WEIGHTS
    assert "NaN" not in json.dumps(summary)


def test_a_two_class_detector_has_one_threshold(summary):
    found = {name: entry["thresholds"] for name, entry in summary["detectors"].items() if entry["two_class"]}
    assert list(found) == ["memorization_index", "copy_detector"]
    assert found["memorization_index"][0] == found["memorization_index"][1]


def test_the_table_is_that_of_the_results(output, results):
    table = (output / "table.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    by_name = {row[0]: row for row in rows if row[0] in DEFAULT_DETECTORS}
    by_change = [row for row in rows if row[0] == "none"]
    assert len(by_change) == 1 + len(DEFAULT_DETECTORS), "one row in the table of AUC, and one per detector"
    last = results.loc[(DEFAULT_DETECTORS[-1], "none")]
    assert float(by_change[-1][1]) == pytest.approx(last["search_roc_auc"], abs=1e-3)
    assert float(by_change[-1][5]) == pytest.approx(last["proposed"], abs=1e-3)
    assert list(by_name) == DEFAULT_DETECTORS
    for name, row in by_name.items():
        assert float(row[1]) == pytest.approx(results.loc[(name, "mix"), "macro_f1"], abs=1e-3)
        assert float(row[3].split()[0]) == pytest.approx(results.loc[name, "roc_auc"].min(), abs=1e-3)
    mix = next(row for row in rows if row[0] == "mix")
    assert [float(cell) for cell in mix[1:]] == pytest.approx(
        [results.loc[(name, "mix"), "roc_auc"] for name in DEFAULT_DETECTORS], abs=1e-3
    )


def test_the_report_stands_alone(output):
    tags = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append((tag, dict(attrs)))

    Parser().feed((output / "report.html").read_text(encoding="utf-8"))
    pictures = [attributes["src"] for tag, attributes in tags if tag == "img"]
    assert len(pictures) == 3
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags}


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(output, results):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")}
    assert len(before) == len(DEFAULT_DETECTORS) * 4
    lost = output / "cells" / "ncc" / "mix.npz"
    lost.unlink()
    again, summary = run(output)
    assert summary["cells_of_an_earlier_run"] == len(DEFAULT_DETECTORS) * 3 - 1
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")}
    assert {path for path in after if after[path] != before[path]} == {lost}
    columns = [name for name in results.columns if not name.startswith("milliseconds")]
    pd.testing.assert_frame_equal(again.set_index(["detector", "perturbation"])[columns], results[columns])


def test_thresholds_hang_on_the_tuning_seed_alone(tmp_path):
    few = {"only": ["ncc", "mse"], "perturbations": ["mix"], "num_pairs": 6, "gallery_size": 6}
    found = [run(tmp_path / str(seeds), **few, test_seed=seeds[0], tuning_seed=seeds[1])
             for seeds in ((1, 2), (3, 2), (1, 4))]  # fmt: skip
    thresholds = [[entry["thresholds"] for entry in summary["detectors"].values()] for _, summary in found]
    assert thresholds[0] == thresholds[1] != thresholds[2]
    auc = [results["roc_auc"].tolist() for results, _ in found]
    assert auc[0] == auc[2]
    assert not np.allclose(auc[0], auc[1])


def test_a_detector_of_ones_own_is_added_by_a_file(tmp_path):
    page = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    own = tmp_path / "own.json"
    own.write_text(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    overrides = {"output_dir": str(tmp_path), **FEW_PAIRS, "perturbations": ["none"], "only": ["phash", "hash_16"]}
    monai.bundle.run(config_file=[*CONFIGS, str(own)], bundle_root=str(BUNDLE), **overrides)
    assert pd.read_csv(tmp_path / "results.csv")["detector"].tolist() == ["phash", "hash_16"]


def test_phantoms_of_another_organ_stand_in_for_images_of_ones_own(tmp_path):
    few = {"num_copies": 3, "num_strangers": 4, "gallery_size": 6, "image_size": [64, 64]}
    table, summary = run(tmp_path, phantom="chest", only=["ncc"], perturbations=["none", "gamma_1.5"], **few)
    assert table[["num_copies", "num_strangers"]].to_numpy().tolist() == [[3, 4], [3, 4]]
    assert table["scored"].tolist() == [1, 1]
    assert summary["pairs"]["source"] == "phantoms: chest"
    assert "phantoms (chest), seed 9402" in (tmp_path / "table.md").read_text()


def test_images_of_ones_own_need_no_further_config(tmp_path):
    rows = ["image,patient"]
    for number, item in enumerate(PhantomBrainDataset(12, seed=45, progress=False)):
        Image.fromarray((item["image"][0] * 255).round().byte().numpy()).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number}")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    overrides = {
        "output_dir": str(tmp_path / "out"), "images": str(tmp_path / "images.csv"), "group_column": "patient",
        "only": ["deepssim", "ncc"], "perturbations": ["none", "average_of_two"], "num_resamples": 20,
    }  # fmt: skip
    monai.bundle.run(config_file=CONFIGS[0], bundle_root=str(BUNDLE), **overrides)
    results = pd.read_csv(tmp_path / "out" / "results.csv").set_index(["detector", "perturbation"])
    assert (results.loc[(slice(None), "none"), ["roc_auc", "proposed", "kept", "scored"]] == 1).all(axis=None)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["pairs"]["test"] == {"copies": 4, "strangers": 2}
    assert summary["pairs"]["gallery_size"] == 4
    assert summary["pairs"]["group_column"] == "patient"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image", "folder"], "Did you mean --images?"),
        (["--images", "no_such_folder"], "no_such_folder"),
        (["--num_pair", "9"], "Did you mean --num_pairs?"),
        (["--copy_detector_chekpoint", "x.pt"], "Did you mean --copy_detector_checkpoint?"),
        (["--copy_detector_checkpoint", "no_such.pt"], "--detectors#copy_detector: no_such.pt"),
        (["--checkpoint", "no_such.pt"], "--detectors#deepssim: no_such.pt"),
        (["--detectors#deepssim_aligned#topk", "5"], "--detectors#deepssim_aligned: cannot be made"),
        (["--only", "None"], "--only: None is not a value"),
        (["--device", "cuda:99"], "--detectors#deepssim: cannot be made"),
    ],
)
def test_an_override_that_cannot_be_used_ends_with_status_2(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words_typed = ["run", f"--config_file={CONFIGS}", f"--bundle_root={BUNDLE}", *arguments]
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *words_typed])
    with pytest.raises(SystemExit) as ended:
        fire.Fire({"run": monai.bundle.run}, command=words_typed)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_bundles_page_explains_every_option_detector_and_perturbation():
    page = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    detectors = (BUNDLE.parents[1] / "docs" / "detectors.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([\w.]+)`", page + detectors))
    internal = {"imports", "bundle_root", "benchmark", "initialize", "run"}
    assert {*DetectorBenchmark.option_names(), *config, *config["detectors"]} - explained <= internal
    assert set(SUPPORTED_PERTURBATIONS) <= explained
