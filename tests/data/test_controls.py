"""Copies of training images under graded changes, listed as files are and made when they are read."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from PIL import Image

from monai_deepssim.data import (
    DerivedImage,
    ImageDataset,
    PhantomBrainDataset,
    draw_controls,
    files_of,
    list_images,
    list_in_memory,
    load_slice,
    plant_controls,
    plant_reconstructions,
)
from monai_deepssim.engines import EmbeddingStore
from monai_deepssim.networks import AutoencoderWeights
from monai_deepssim.progress import quiet
from monai_deepssim.transforms import CONTROL_CHANGES, VOLUME_CONTROL_CHANGES

COMPARED = (136, 112)


def items_of(*names):
    """Items of images that are never read; a name is a patient and a letter."""
    return [{"image": f"{name}.png", "path": f"{name}.png", "patient_id": name.rstrip("abc")} for name in names]


def drawn_paths(items, number):
    return [items[position]["path"] for position in draw_controls(items, number)]


def planted(items, name, number=2):
    return [item for item in plant_controls(items, number, COMPARED) if item["path"].endswith(f"({name})")]


@pytest.fixture
def written(phantoms, tmp_path):
    """Three PNG files of different sizes, of three patients."""
    for number, side in enumerate((96, 136, 272)):
        pixels = torch.nn.functional.interpolate(phantoms[number][None], (side, side))[0, 0]
        Image.fromarray((pixels.clamp(0, 1) * 255).byte().numpy()).save(tmp_path / f"p{number}.png")
    return list_images(tmp_path, patient_id_pattern=r"(p\d)")


def test_controls_are_of_different_patients_as_far_as_there_are_enough():
    items = items_of("1a", "1b", "1c", "2a", "3a", "3b")
    patients = [items[position]["patient_id"] for position in draw_controls(items, 6)]
    assert sorted(patients[:3]) == ["1", "2", "3"]
    assert sorted(patients[3:]) == ["1", "1", "3"]
    assert sorted(draw_controls(items, 100)) == [0, 1, 2, 3, 4, 5]


def test_an_unknown_patient_is_the_one_whose_file_it_is():
    items = [
        {"image": f"{name}.nii", "path": f"{name}.nii#z={z}", "patient_id": ""} for name in "abcdef" for z in range(9)
    ]
    assert {path[0] for path in drawn_paths(items, 6)} == set("abcdef")


def test_the_draw_goes_by_names_and_a_larger_one_holds_the_smaller():
    names = [f"{patient}{letter}" for patient in range(30) for letter in "ab"]
    items = items_of(*names)
    assert drawn_paths(items, 12) == drawn_paths(items[::-1], 12) == drawn_paths(items, 40)[:12]
    assert drawn_paths(items, 12) != [item["path"] for item in items[:12]]


def test_the_same_controls_are_planted_however_the_folder_is_named(written, tmp_path, monkeypatch):
    named = list_images(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    typed = list_images(Path(tmp_path.name))
    assert [item["patient_id"] for item in typed] == [""] * 3
    for control, other in zip(plant_controls(named, 2, COMPARED), plant_controls(typed, 2, COMPARED), strict=True):
        assert control["image"].sources[0]["image"] != other["image"].sources[0]["image"]
        assert control["sources"] == other["sources"]
        assert control["image"].identity == other["image"].identity


def test_every_change_is_planted_with_the_same_images_and_says_what_it_is(written):
    controls = plant_controls(written, 2, COMPARED)
    assert len(controls) == 2 * len(CONTROL_CHANGES)
    assert len({control["path"] for control in controls}) == len(controls)
    drawn = draw_controls(written, 2)
    for number, change in enumerate(CONTROL_CHANGES):
        of_change = controls[2 * number : 2 * number + 2]
        assert [control["sources"][0] for control in of_change] == drawn
        assert {(c["change"], c["level"], c["unit"]) for c in of_change} == {(change.change, change.level, change.unit)}
        assert [c["patient_id"] for c in of_change] == [written[position]["patient_id"] for position in drawn]


def test_a_control_has_the_size_of_its_file_and_is_the_same_each_time(written):
    for control in plant_controls(written, 3, COMPARED):
        image, source = load_slice(control), load_slice(written[control["sources"][0]])
        assert image.shape == source.shape
        assert (image.min(), image.max()) == (0, 1)
        assert torch.equal(image, load_slice(control))
        assert torch.equal(image, source) == (control["change"] == "none")


def test_no_file_is_opened_before_a_control_is_read(written):
    for item in written:
        Path(item["image"]).unlink()
    controls = plant_controls(written, 3, COMPARED)
    assert files_of(controls[0]) == ()
    assert "does not exist" in ImageDataset(controls, image_size=COMPARED)[0]["problem"]


def test_what_a_change_draws_does_not_depend_on_the_other_images(written):
    (alone,) = planted(written[2:], "warp_1", 1)
    (among,) = [item for item in planted(written, "warp_1", 3) if item["sources"] == (2,)]
    assert torch.equal(load_slice(alone), load_slice(among))
    others = [load_slice(item) for item in planted(list_in_memory(torch.ones(2, 1, 64, 64).tril(), "t"), "rotation_15")]
    assert len(others) == 2


def test_an_image_is_mixed_with_one_of_another_patient_or_not_at_all():
    items = items_of("1a", "1b", "2a")
    for control in planted(items, "mix_0.3", 3):
        first, second = control["sources"]
        assert items[first]["patient_id"] != items[second]["patient_id"]
    assert len(planted(items, "mix_0.5", 3)) == 3
    assert not planted(items[:2], "mix_0.5")
    assert len(planted(items[:2], "blur_2")) == 2


def test_slices_of_a_volume_are_changed_as_slices(tmp_path, phantoms):
    volume = np.stack([image[0].numpy() for image in phantoms[:4]], axis=2)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "volume.nii.gz")
    items = list_images(tmp_path, slices="all")
    (control, _) = planted(items, "none")
    assert torch.equal(load_slice(control), load_slice(items[control["sources"][0]]))
    assert "#z=" in control["path"]


def test_controls_are_read_by_the_workers_of_a_loader(written):
    dataset = ImageDataset(plant_controls(written, 2, COMPARED), image_size=COMPARED)
    (batch,) = DataLoader(dataset, batch_size=len(dataset), num_workers=1)
    assert not any(batch["problem"])
    assert torch.equal(batch["image"][5], dataset[5]["image"])


def fingerprint(items):
    return EmbeddingStore("unused", items, image_size=COMPARED, embedder_id="one").fingerprint["images"]


def test_a_fingerprint_tells_controls_of_other_images_changes_and_sizes_apart(written):
    def digests():
        blurred, mixed = planted(written, "blur_2"), planted(written, "mix_0.5")
        other_size = [c for c in plant_controls(written, 2, (64, 64)) if c["path"].endswith("(blur_2)")]
        return [fingerprint(items) for items in (blurred, mixed, other_size, blurred[:1])]

    before = digests()
    assert len(set(before)) == 4
    assert before == digests()
    (_, mixed) = planted(written, "mix_0.5")
    before = fingerprint([mixed])
    # The image that is mixed in counts as the first does.
    Image.fromarray(np.arange(64 * 64).reshape(64, 64).astype(np.uint8)).save(written[mixed["sources"][1]]["image"])
    assert fingerprint([mixed]) != before


def test_images_in_memory_are_planted_as_well(phantoms):
    items = list_in_memory(phantoms[:4], "training")
    controls = plant_controls(items, 2, COMPARED)
    assert fingerprint(controls[:2]) != fingerprint(
        plant_controls(list_in_memory(phantoms[4:8], "training"), 2, COMPARED)[:2]
    )
    assert all(load_slice(control).shape == (1, 136, 112) for control in controls)


def test_a_derived_image_that_has_one_value_only_cannot_be_used():
    item = {"image": torch.rand(1, 8, 8), "path": "noise"}
    black = {"image": DerivedImage((item,), torch.zeros_like, "black"), "path": "noise (black)"}
    assert "noise (black): every pixel is 0" in ImageDataset([black], image_size=(8, 8))[0]["problem"]


def test_a_pass_through_an_autoencoder_is_made_at_the_size_of_the_generators_images(written, small_autoencoder):
    controls = plant_reconstructions(written, 2, (64, 56), AutoencoderWeights(small_autoencoder))
    assert [(c["change"], c["level"], c["unit"]) for c in controls] == [("autoencoder", None, "")] * 2
    for control in controls:
        source = load_slice(written[control["sources"][0]])
        assert load_slice(control).shape == (1, 64, 56) != source.shape
    again = plant_reconstructions(written, 2, (64, 56), AutoencoderWeights(small_autoencoder))
    assert fingerprint(controls) == fingerprint(again)
    assert fingerprint(controls) != fingerprint(
        plant_reconstructions(written, 2, (64, 64), AutoencoderWeights(small_autoencoder))
    )


def test_an_autoencoder_that_does_not_give_the_images_back_is_warned_of(written, small_autoencoder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plant_reconstructions(written, 2, (64, 56), AutoencoderWeights(small_autoencoder))
    state = torch.load(small_autoencoder, weights_only=True)
    torch.manual_seed(0)
    torch.save({name: torch.randn_like(value) for name, value in state.items()}, tmp_path / "other.pt")
    with pytest.warns(UserWarning, match="gives a training image back with a correlation of"), quiet():
        plant_reconstructions(written, 2, (64, 56), AutoencoderWeights(tmp_path / "other.pt"))


def test_controls_of_volumes_are_volumes_under_the_changes_of_volumes():
    cohort = PhantomBrainDataset(2, 8, (24, 24, 24), volume=True, skull_fraction=0.0, progress=False)
    items = list_in_memory(cohort, "training", volumes=True)
    controls = plant_controls(items, 2, (16, 16, 16))
    assert [control["change"] for control in controls[::2]] == [change.change for change in VOLUME_CONTROL_CHANGES]
    assert all(control["volume"] for control in controls)
    samples = list(ImageDataset(controls, (16, 16, 16)))
    assert {(sample["problem"], tuple(sample["image"].shape)) for sample in samples} == {("", (1, 16, 16, 16))}
    drawn = ImageDataset(items, (16, 16, 16))[controls[0]["sources"][0]]["image"]
    plain = drawn / drawn.max()  # a control is made at this size, and scaled to [0, 1] when it is read
    flipped = next(number for number, control in enumerate(controls) if control["change"] == "flip_y")
    assert torch.allclose(samples[0]["image"], plain, atol=1e-6)
    assert torch.allclose(samples[flipped]["image"], plain.flip(2), atol=1e-5)
