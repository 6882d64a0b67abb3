"""A filter and a deduplication as functions: positions and reasons, and files where a folder is named."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import monai_deepssim
from monai_deepssim import UnusableInputError, find_duplicates, remove_copies
from monai_deepssim.audit import embedded_sides
from monai_deepssim.audit.clean_up.decisions import FILTER_COLUMNS
from monai_deepssim.audit.clean_up.deduplication_tables import GROUP_COLUMNS, MANIFEST_COLUMNS, NEAREST_COLUMNS
from monai_deepssim.data import PhantomBrainDataset


@pytest.fixture(scope="module")
def phantoms():
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(14, seed=41, progress=False)])


@pytest.fixture(scope="module")
def sides(phantoms):
    """Eight training images; four synthetic ones, of which the first two are mirrored copies."""
    return phantoms[:8], torch.cat([phantoms[2:4].flip(3), phantoms[8:10]])


def save(folder, images):
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8)).save(path)
    return paths


def test_copies_among_tensors_are_left_out_by_position(sides, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    embedded, embed_images = [], embedded_sides.embed_images

    def record(network, store, **options):
        embedded.append(options["description"])
        return embed_images(network, store, **options)

    monkeypatch.setattr(embedded_sides, "embed_images", record)
    result = remove_copies(*sides, controls=None)
    assert embedded == ["training images", "synthetic images"]  # what is kept is judged with what is there
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert result.kept == [2, 3]
    assert list(result.files) == [*FILTER_COLUMNS, "location"]
    assert result.files["class"].tolist()[:2] == ["duplicate", "duplicate"]
    assert (result.before.copy_fraction.count, result.after.copy_fraction.count) == (2, 0)
    assert "2 of 4 synthetic files are kept (left out: 2 duplicate)" in repr(result)
    again = pickle.loads(pickle.dumps(result))
    again.before.show_pair(again.before.matches.index[0])


def test_a_set_of_nothing_but_copies_leaves_nothing(sides):
    training, _ = sides
    result = remove_copies(training, training[2:4].flip(3), controls=None)
    assert (result.kept, result.after) == ([], None)


def test_lists_of_paths_are_filtered_into_a_folder_with_their_common_structure(sides, tmp_path):
    training, synthetic = sides
    paths = [*save(tmp_path / "made" / "a", synthetic[:3]), *save(tmp_path / "made" / "b", synthetic[3:])]
    result = remove_copies(training, paths, output_dir=tmp_path / "out", controls=None)
    assert result.kept == [2, 3]
    written = sorted((tmp_path / "out" / "filtered").rglob("*.png"))
    assert [path.relative_to(tmp_path / "out" / "filtered").as_posix() for path in written] == ["a/2.png", "b/0.png"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"filter.json", "manifest.csv", "filtered_audit"}


def test_images_in_memory_are_not_written(sides, tmp_path):
    with pytest.raises(UnusableInputError, match="synthetic images are in memory"):
        remove_copies(*sides, output_dir=tmp_path / "out")
    with pytest.raises(UnusableInputError, match="training images are in memory"):
        find_duplicates(sides[0], output_dir=tmp_path / "out")


def test_duplicates_among_tensors_are_found_by_position(phantoms, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    images = torch.cat([phantoms[:6], phantoms[1:2].flip(3), phantoms[1:2]])
    result = find_duplicates(images, patient_ids=["a", "b", "c", "d", "e", "f", "b", "g"])
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert result.groups["patients"].tolist() == ["different"]
    assert result.groups["num_files"].tolist() == [3]
    assert result.kept == [0, 1, 2, 3, 4, 5]
    assert (list(result.groups), list(result.nearest)) == (GROUP_COLUMNS, NEAREST_COLUMNS)
    assert list(result.files) == [*MANIFEST_COLUMNS, "location"]
    assert "1 group of duplicates among 8 training files" in repr(result)


def test_duplicates_in_a_folder_are_left_out_of_another(phantoms, tmp_path):
    save(tmp_path / "set", torch.cat([phantoms[:4], phantoms[2:3].flip(3)]))
    result = find_duplicates(tmp_path / "set", output_dir=tmp_path / "out")
    assert result.groups[["kept", "left_out"]].values.tolist() == [["2.png", ["4.png"]]]
    assert len(list((tmp_path / "out" / "deduplicated").iterdir())) == 4
    assert {"summary.json", "report.html", "groups.csv", "matches.csv", "manifest.csv"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_options_of_another_workflow_are_refused(sides):
    with pytest.raises(UnusableInputError, match="--leave_out: there is no such option"):
        find_duplicates(sides[0], leave_out="duplicate")
    with pytest.raises(UnusableInputError, match="Did you mean --leave_out"):
        remove_copies(*sides, leaveout="part")


def test_deepssim_takes_pairs_of_any_size(phantoms):
    scores = monai_deepssim.deepssim(phantoms[:3].flip(3), phantoms[:3].numpy())
    assert scores.shape == (3,)
    assert bool((scores > 0.85).all())
    smaller = torch.nn.functional.interpolate(phantoms[:3], scale_factor=0.5, mode="area")
    assert bool((monai_deepssim.deepssim(phantoms[:3], smaller) > 0.85).all())
    embedder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(136 * 112, 4))
    assert monai_deepssim.deepssim(phantoms[:3], phantoms[:3], embedder=embedder).tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.rand(2, 1, 64, 64), torch.rand(3, 1, 64, 64), "y: got 3 images, want 2"),
        (torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), r"x: got images of shape \(2, 3, 64, 64\)"),
        (torch.rand(2, 1, 64, 64), 255 * torch.rand(2, 1, 64, 64), r"want \[0, 1\]"),
    ],
)
def test_deepssim_says_what_it_wants(x, y, words):
    with pytest.raises(UnusableInputError, match=words):
        monai_deepssim.deepssim(x, y)


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UnusableInputError, match=r"none\.pt is not a file"):
        monai_deepssim.load_embedder(tmp_path / "none.pt")
