"""The images that a generator is trained on."""

import csv

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from PIL import Image

from monai_deepssim.data import PHANTOM_VARIABLES, list_images, load_slice
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import GeneratorImages

PHANTOM = {"num_subjects": 5, "seed": 31}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images of five patients, two each, and a CSV that names them with age and sex."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    rows = ["image,patient_id,age,sex"]
    for number in range(10):
        pixels = random.integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number // 2}_s{number % 2}.png")
        rows.append(f"p{number // 2}_s{number % 2}.png,p{number // 2},{20 + number},{number // 2 % 2}")
    (folder / "images.csv").write_text("\n".join(rows))
    return folder


def images_of(source, **arguments):
    return GeneratorImages(source, image_size=(16, 12), progress=False, **{"num_validation": 2, **arguments})


def test_training_and_validation_share_no_patient_and_have_all_images_between_them(folder):
    splits = [images_of(folder / "images.csv", split=split, seed=4) for split in ("training", "validation")]
    patients = [{item["patient_id"] for item in split} for split in splits]
    assert [len(split) for split in splits] == [6, 4]
    assert [len(found) for found in patients] == [3, 2]
    assert not patients[0] & patients[1]
    again = images_of(folder / "images.csv", split="validation", seed=4)
    assert [item["path"] for item in again] == [item["path"] for item in splits[1]]


def test_a_validation_folder_leaves_all_images_for_training(folder):
    arguments = {"validation_dir": str(folder / "p0_*.png")}
    assert len(images_of(folder, **arguments)) == 10
    assert {item["path"] for item in images_of(folder, split="validation", **arguments)} == {"p0_s0.png", "p0_s1.png"}


@pytest.mark.parametrize("num_validation", [0, 5, 6])
def test_too_many_or_no_patients_put_aside_are_refused(folder, num_validation):
    with pytest.raises(UnusableInputError, match=f"num_validation is {num_validation}, and .* images of 5 patients"):
        images_of(folder / "images.csv", num_validation=num_validation)


def test_a_repeated_image_is_there_as_often_as_it_was_drawn(folder, tmp_path):
    (tmp_path / "counts.csv").write_text("path,copies\np1_s0.png,3\np3_s1.png,2\n")
    arguments = {"duplication": tmp_path / "counts.csv", "validation_dir": folder}
    images = images_of(folder, **arguments)
    seen = [item["path"] for item in images]
    assert len(images) == len(seen) == 13
    assert seen.count("p1_s0.png") == 3
    assert seen.count("p3_s1.png") == 2
    positions = [position for position, path in enumerate(seen) if path == "p1_s0.png"]
    assert all(torch.equal(images[position]["image"], images[positions[0]]["image"]) for position in positions)
    assert images[-1]["path"] == seen[-1]
    assert [item["path"] for item in images.once()] == list(dict.fromkeys(seen))
    # Held-out images are never repeated.
    assert len(images_of(folder, split="validation", **arguments)) == 10


def test_images_of_ones_own_are_those_of_the_data_room_in_the_wanted_size(folder):
    item = images_of(folder, validation_dir=folder)[0]
    assert sorted(item) == ["image", "path", "patient_id"]
    assert item["image"].shape == (1, 16, 12)
    assert item["image"].dtype == torch.float32
    assert type(item["image"]) is torch.Tensor
    whole = load_slice(list_images(folder)[0])
    # 20 x 30 pixels fit 16 x 12 as 8 x 12, with 4 rows of background above and below.
    middle = torch.nn.functional.interpolate(whole[None], (8, 12), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(item["image"][:, 4:12], middle)
    assert item["image"][:, :4].unique().numel() == 1


def test_phantoms_are_drawn_and_the_held_out_ones_are_other_subjects():
    training = GeneratorImages(phantom=PHANTOM, image_size=(48, 40), progress=False)
    validation = GeneratorImages(
        phantom=PHANTOM, image_size=(48, 40), split="validation", num_validation=3, progress=False
    )
    assert [item["patient_id"] for item in training] == [f"phantom-31-{number}" for number in range(5)]
    assert len(validation) == 3
    assert not {item["patient_id"] for item in training} & {item["patient_id"] for item in validation}
    assert training[0]["image"].shape == (1, 48, 40)
    assert (training[0]["image"].min(), training[0]["image"].max()) == (0, 1)


def test_variables_of_the_csv_become_a_context_scaled_by_the_training_images(folder):
    arguments = {"conditioning": "variables", "conditioning_columns": ["age", "sex"]}
    images = images_of(folder / "images.csv", **arguments)
    ages = [20 + 2 * int(item["path"][1]) + int(item["path"][4]) for item in images]
    expected = [(age - min(ages)) / (max(ages) - min(ages)) for age in ages]
    np.testing.assert_allclose([item["context"][0, 0] for item in images], expected, atol=1e-6)
    assert images.context_size == 2
    assert images.contexts.shape == (6, 1, 2)
    held_out = images_of(folder / "images.csv", split="validation", **arguments)
    assert held_out.scaling == images.scaling
    batch = next(iter(DataLoader(images, batch_size=4)))
    assert batch["context"].shape == (4, 1, 2)
    with pytest.raises(UnusableInputError, match=r"images\.csv: .* has no variable 'bmi'; it has age, sex"):
        images_of(folder / "images.csv", conditioning="variables", conditioning_columns=["bmi"])


def test_every_known_variable_of_the_phantoms_can_condition():
    images = GeneratorImages(
        phantom=PHANTOM,
        image_size=(48, 40),
        conditioning="variables",
        conditioning_columns=PHANTOM_VARIABLES,
        progress=False,
    )
    assert images.context_size == len(PHANTOM_VARIABLES)
    assert images.contexts.amin((0, 1)).tolist() == [0] * len(PHANTOM_VARIABLES)
    shares = [name for name in PHANTOM_VARIABLES if name.endswith("_fraction")]
    for position in range(3):
        own = {
            name: low + images.contexts[position, 0, column].item() * (high - low)
            for column, (name, low, high) in enumerate(
                zip(images.scaling.columns, images.scaling.minimum, images.scaling.maximum, strict=True)
            )
        }
        assert sum(own[name] for name in shares) == pytest.approx(1, abs=1e-5)
        assert own["skull"] in (0, 1)
        assert 1 <= own["height_mm"] <= 7  # the level is 4 mm, give or take 3


def test_text_takes_the_vector_of_each_image_and_names_one_that_has_none(folder, tmp_path):
    names = [f"p{number // 2}_s{number % 2}.png" for number in range(10)]
    np.savez(tmp_path / "captions.npz", **{name: np.full(4, place) for place, name in enumerate(names)})
    arguments = {"conditioning": "text", "validation_dir": folder}
    images = images_of(folder, conditioning_file=tmp_path / "captions.npz", **arguments)
    assert [item["context"].tolist() for item in images] == [[[float(place)] * 4] for place in range(10)]
    np.savez(tmp_path / "captions.npz", **{name: np.ones(4) for name in names[:8]})
    with pytest.raises(UnusableInputError, match=r"no vector for 'p4_s0\.png', nor for 1 others"):
        images_of(folder, conditioning_file=tmp_path / "captions.npz", **arguments)
    with pytest.raises(UnusableInputError, match="needs conditioning_file"):
        images_of(folder, **arguments)


def test_what_is_written_can_be_audited_and_counts_the_repetitions(folder, tmp_path):
    (tmp_path / "counts.csv").write_text("path,copies\np1_s0.png,3\n")
    images = images_of(folder / "images.csv", duplication=tmp_path / "counts.csv", validation_dir=folder)
    table = images.write(tmp_path / "out")
    rows = list(csv.DictReader(table.open()))
    assert [row["copies"] for row in rows] == ["1", "1", "3"] + ["1"] * 7
    assert rows[2]["source"] == "p1_s0.png"
    listed = list_images(table)
    assert [item["patient_id"] for item in listed] == [f"p{number // 2}" for number in range(10)]
    assert len(list_images(tmp_path / "out" / "training_images")) == 10
    pixels = np.asarray(Image.open(listed[2]["image"])) / 255
    original = next(item["image"] for item in images if item["path"] == "p1_s0.png")
    np.testing.assert_allclose(pixels, original[0].numpy(), atol=0.5 / 255 + 1e-6)
    images.write(tmp_path / "out")  # a training that is taken up again writes the same
    with pytest.raises(UnusableInputError, match="a training on other images, or on other repetitions"):
        images_of(folder / "images.csv", validation_dir=folder).write(tmp_path / "out")


def test_random_transforms_are_applied_anew_at_each_access(folder):
    from monai.transforms import RandScaleIntensityd

    images = images_of(folder, validation_dir=folder, transform=RandScaleIntensityd("image", factors=0.5, prob=1.0))
    assert not torch.equal(images[0]["image"], images[0]["image"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "dataset_dir is not given"),
        ({"phantom": {"num_subjects": 0, "seed": 1}}, "makes no cohort: got num_subjects=0"),
        ({"phantom": {"num_subject": 3, "seed": 1}}, "makes no cohort: .*num_subject"),
        ({"phantom": PHANTOM, "conditioning": "age"}, "wanted none, variables or text"),
    ],
)
def test_settings_that_make_no_images_are_refused_in_words(arguments, message):
    with pytest.raises(UnusableInputError, match=message):
        GeneratorImages(**arguments, progress=False)
