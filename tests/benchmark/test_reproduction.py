"""The published protocol on a phantom copy of the published layout."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from monai.transforms import RandAdjustContrast, RandFlip, RandRotate
from PIL import Image
from skimage.metrics import structural_similarity
from sklearn.metrics import classification_report, silhouette_score
from torch import nn

from monai_deepssim.benchmark import Reproduction
from monai_deepssim.benchmark.protocol import PROTOCOL
from monai_deepssim.benchmark.protocol_images import published_augmentation
from monai_deepssim.command import main
from monai_deepssim.data import write_phantom_pairs
from monai_deepssim.networks import CopyDetector

SHAPE = (136, 112)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Images and lists in the published layout; one real image is in two pairs."""
    folder = tmp_path_factory.mktemp("published")
    write_phantom_pairs(folder, 9, num_training_pairs=5, progress=False)
    (folder / "images" / "phantom4000-0001" / "gen-1.png").write_bytes(
        (folder / "images" / "phantom4000-0005" / "training.png").read_bytes()
    )
    with (folder / "test.csv").open("a") as file:
        file.write("phantom4000-0001___training,phantom4000-0001___gen-1,0\n")
    return folder


def run(published, output, **options):
    given = {"images_dir": published / "images", "testset_csv": published / "test.csv", "output_dir": output, **options}
    Reproduction(**given).run()
    return pd.read_csv(output / "results.csv"), pd.read_csv(output / "scores.csv")


@pytest.fixture(scope="module")
def results(published, tmp_path_factory):
    output = tmp_path_factory.mktemp("results")
    results, scores = run(published, output, trainset_csv=published / "train.csv", write_matrices=True, device="cpu")
    return output, results, scores


def pixels(published, key):
    uid, name = key.split("___")
    return np.asarray(Image.open(published / "images" / uid / f"{name}.png")).astype(float)


def standardized(image):
    return (image - image.mean()) / image.std()


def test_every_detector_has_its_rows_and_one_without_weights_says_what_is_missing(results):
    _, table, _ = results
    assert table["detector"].tolist() == [name for name in PROTOCOL for _ in range(2)]
    assert table["augmented"].tolist() == [False, True] * 5
    missing = table.set_index("detector")["missing"].fillna("")
    assert (missing[["ssim", "deepssim"]] == "").all()
    for name, option in (("chen", "sscd_file"), ("dar", "copy_detector_checkpoint"), ("semdedup", "open_clip_weights")):
        assert missing[name].str.contains(f"no weights: give --{option}, or {name}").all()


def test_the_thresholds_are_the_published_ones():
    assert {name: entry.thresholds for name, entry in PROTOCOL.items()} == {
        "ssim": (0.60, 0.85),
        "chen": (0.4, 0.6),
        "dar": (0.8030425, 0.8030425),
        "semdedup": (0.97, 0.99905),
        "deepssim": (0.60, 0.85),
    }


def test_the_numbers_are_those_of_scikit_learns_report(results):
    _, table, scores = results
    for _, row in table[table["missing"].isna()].iterrows():
        own = scores[row["detector"] + ("_augmented" if row["augmented"] else "")]
        predicted = np.where(own <= 0.6, 0, np.where(own > 0.85, 1, 2))
        report = classification_report(scores["label"], predicted, zero_division=0, output_dict=True)
        for number, name in (("0", "different"), ("1", "duplicate"), ("2", "similar")):
            assert np.nan_to_num(row[f"precision_{name}"]) == pytest.approx(report[number]["precision"], abs=1e-6)
            assert row[f"recall_{name}"] == pytest.approx(report[number]["recall"], abs=1e-6)
        assert row["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"], abs=1e-6)
        assert row["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"], abs=1e-6)
        expected = silhouette_score(own.to_numpy()[:, None], scores["label"])
        assert row["silhouette"] == pytest.approx(expected, abs=1e-5)


def test_ssim_is_scikit_images_with_the_range_of_the_real_image(published, results):
    _, _, scores = results
    for _, pair in scores.iterrows():
        real, synthetic = (standardized(pixels(published, pair[column])) for column in ("real_key", "synth_key"))
        expected = structural_similarity(real, synthetic, data_range=real.max() - real.min())
        assert pair["ssim"] == pytest.approx(expected, abs=1e-3)  # half precision, as published


@pytest.mark.parametrize("canonical_size", [None, (192, 144)], ids=["published", "shipped"])
def test_an_image_is_augmented_after_it_is_standardised_and_again_standardised_for_the_shipped_network_alone(
    published, tmp_path, monkeypatch, canonical_size
):
    seen = {}

    class Embedder(nn.Module):
        def __init__(self):
            super().__init__()
            self.canonical_size = canonical_size

        def forward(self, images):
            seen["images"] = torch.cat([seen.get("images", torch.empty(0, 1, *SHAPE)), images])
            return images.flatten(1)

    monkeypatch.setattr("monai_deepssim.benchmark.protocol.load_deepssim", lambda path, **options: Embedder())
    run(published, tmp_path, only="deepssim", device="cpu", batch_size=64)
    clean, augmented = seen["images"].chunk(2)  # real, then synthetic ones, without and with augmentation
    torch.testing.assert_close(clean.mean((1, 2, 3)), torch.zeros(len(clean)), atol=1e-4, rtol=0)
    changed = (clean != augmented).flatten(1).any(1)
    assert changed.float().mean() > 0.9  # of 0.8 four times
    # Gamma moves the mean of an image.
    assert bool((augmented.mean((1, 2, 3)).abs() > 0.02).any()) == (canonical_size is None)


def test_the_augmentations_are_the_published_ones():
    flips, rotation, gamma = published_augmentation().transforms[:2], *published_augmentation().transforms[2:]
    assert [(type(flip), flip.flipper.spatial_axis, flip.prob) for flip in flips] == [
        (RandFlip, 0, 0.8),
        (RandFlip, 1, 0.8),
    ]
    assert isinstance(rotation, RandRotate)
    assert (rotation.range_x, rotation.prob, rotation.padding_mode) == ((-0.1745, 0.1745), 0.8, "border")
    assert isinstance(gamma, RandAdjustContrast)
    assert (gamma.gamma, gamma.prob) == ((0.5, 1.5), 0.8)


def test_what_is_drawn_for_an_image_depends_on_nothing_but_its_key_and_the_seed(published, results, tmp_path):
    _, _, scores = results
    lines = (published / "test.csv").read_text().splitlines()
    (tmp_path / "few.csv").write_text("\n".join([lines[0], lines[5], lines[2]]))
    few = run(published, tmp_path / "few", testset_csv=tmp_path / "few.csv", only="deepssim", device="cpu")[1]
    np.testing.assert_allclose(few["deepssim_augmented"], scores["deepssim_augmented"][[4, 1]], atol=1e-3)
    other = run(published, tmp_path / "other", testset_csv=tmp_path / "few.csv", only="deepssim", seed=43)[1]
    assert not np.allclose(other["deepssim_augmented"], few["deepssim_augmented"], atol=1e-3)


def test_matrices_hold_all_images_of_the_folder_and_give_the_same_table_without_images_and_weights(
    published, results, tmp_path
):
    output, table, scores = results
    arrays = {path.stem: np.load(path)["data"] for path in output.glob("*/*.npz")}
    assert set(arrays) == {"ssim", "ssim_augmented", "deepssim", "deepssim_augmented", "real", "synth"}
    assert arrays["deepssim"].shape == (len(arrays["real"]), len(arrays["synth"])) == (14, 15)
    assert arrays["deepssim"].dtype == np.float16
    matrices = {"matrices_dir": output / "matrices", "indices_dir": output / "indices"}
    again, read = run(published, tmp_path, **matrices, images_dir=None)
    columns = [name for name in table.columns if name.endswith(("_different", "_similar", "_duplicate", "_f1"))]
    pd.testing.assert_frame_equal(again[columns], table[columns])
    np.testing.assert_allclose(read["deepssim"], scores["deepssim"], atol=1e-6)
    assert again["missing"][2] == "no scores: give chen.npz in --matrices_dir, or the images by --images_dir"
    assert again["scores_from"][0].endswith("ssim.npz")


def test_a_score_that_equals_semdedups_threshold_is_in_the_class_above(published, tmp_path):
    keys = [line.split(",")[:2] for line in (published / "test.csv").read_text().splitlines()[1:]]
    real, synth = (np.array(list(dict.fromkeys(side))) for side in zip(*keys, strict=True))
    (tmp_path / "m").mkdir()
    scores = np.full((len(real), len(synth)), 0.97)
    scores[1] = 0.99905
    for name, array in (("semdedup", scores), ("chen", np.full_like(scores, 0.4)), ("real", real), ("synth", synth)):
        np.savez(tmp_path / "m" / f"{name}.npz", data=array)
    folders = {"matrices_dir": tmp_path / "m", "indices_dir": tmp_path / "m"}
    run(published, tmp_path / "out", **folders, images_dir=None, only="semdedup,chen")
    chen, _, semdedup, _ = json.loads((tmp_path / "out" / "summary.json").read_text())["results"]
    assert np.array(semdedup["confusion_matrix"]).sum(0).tolist() == [0, 2, 8]  # image 1 is in two pairs
    assert np.array(chen["confusion_matrix"]).sum(0).tolist() == [10, 0, 0]


def test_scores_are_compared_with_the_ssim_of_the_training_list_by_split(published, results):
    output, _, _ = results
    errors = pd.read_csv(output / "ssim_errors.csv").set_index(["detector", "split"])
    assert errors["num_pairs"].to_dict() == {
        (name, split): count for name in ("ssim", "deepssim") for split, count in (("train", 4), ("valid", 1))
    }
    assert (errors.loc["ssim", "mean_absolute_error"] < 1e-3).all()
    assert (errors["root_mean_squared_error"] >= errors["mean_absolute_error"] - 1e-9).all()
    assert "MAE against its SSIM" in (output / "table.md").read_text()


def test_the_histograms_count_every_pair_and_the_report_needs_no_other_file(results):
    output, _, scores = results
    histograms = pd.read_csv(output / "histograms.csv")
    counts = histograms.groupby(["detector", "augmented"])[["different", "duplicate", "similar"]].sum()
    assert (counts == scores["label"].value_counts().sort_index().to_numpy()).all(axis=None)
    assert (histograms.groupby(["detector", "augmented"]).size() == 55).all()
    html = (output / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 4
    assert "http" not in html.split("</style>")[1]


def test_sscd_sees_squares_of_288_pixels_and_dars_detector_images_from_0_to_1(published, tmp_path):
    class Descriptor(nn.Module):
        def __init__(self):
            super().__init__()
            self.as_they_are = nn.Conv2d(3, 3, 1, bias=False)
            nn.init.eye_(self.as_they_are.weight.data[:, :, 0, 0])

        def forward(self, images):
            images = self.as_they_are(images)
            return torch.cat([images.mean((2, 3)), torch.full_like(images[:, :1, 0, 0], images.shape[2])], 1)

    torch.jit.script(Descriptor().eval()).save(str(tmp_path / "sscd.pt"))
    torch.save(CopyDetector(backbone="resnet18").state_dict(), tmp_path / "dar.pt")
    weights = {"sscd_file": str(tmp_path / "sscd.pt"), "copy_detector_checkpoint": str(tmp_path / "dar.pt")}
    table, scores = run(published, tmp_path / "out", only="chen,dar", **weights, device="cpu")
    assert table["missing"].isna().all()
    assert scores["dar"][scores["label"] == 1].tolist() == pytest.approx([1.0] * 3)
    assert table["recall_similar"].fillna(0).loc[2:].tolist() == [0, 0]  # one threshold knows no similar images
    images = [pixels(published, scores[column][0]) / 255 for column in ("real_key", "synth_key")]
    mean = np.array([0.485, 0.456, 0.406])
    first, second = (np.append((image.mean() - mean) / mean, 288) for image in images)
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert scores["chen"][0] == pytest.approx(expected, abs=1e-4)


def test_the_command_makes_phantom_pairs_where_there_are_none(tmp_path, capsys):
    assert main(["reproduce", "--only", "ssim", "--num_pairs", "3", "-o", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["phantoms"], summary["num_pairs"]) == (True, 3)
    assert summary["results"][0]["recall_duplicate"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"testset_csv": None}, "--testset_csv: was not given"),
        ({"images_dir": None}, "--images_dir: was not given"),
        ({"matrices_dir": "m"}, "--indices_dir: was not given"),
        ({"indices_dir": "m"}, "--indices_dir: is about score matrices"),
        ({"images_dir": None, "matrices_dir": "m", "indices_dir": "m", "write_matrices": True}, "--write_matrices"),
        ({"only": "sscd"}, "'sscd' is unknown. The names are: ssim, chen, dar"),
        ({"checkpoint": "nowhere.pt"}, "--checkpoint: nowhere.pt is not a file"),
        ({"open_clip_weights": "nowhere"}, "--open_clip_weights: nowhere is not there"),
    ],
)
def test_what_cannot_be_used_is_named(published, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        run(published, tmp_path, **options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_lists_and_images_that_do_not_fit_are_named(published, tmp_path, capsys):
    images = tmp_path / "images"
    write_phantom_pairs(tmp_path, 3, progress=False)
    with pytest.raises(SystemExit):
        run(published, tmp_path / "out", testset_csv=published / "train.csv")
    assert "the column label is missing" in capsys.readouterr().err
    Image.fromarray(np.eye(136, 100, dtype=np.uint8) * 255).save(images / "phantom4000-0001" / "gen-0.png")
    with pytest.raises(SystemExit):
        run(published, tmp_path / "out", images_dir=images, testset_csv=tmp_path / "test.csv", only="ssim")
    assert "has 136 x 100 pixels, others have 136 x 112" in capsys.readouterr().err
