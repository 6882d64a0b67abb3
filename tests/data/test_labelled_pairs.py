"""The published lists of pairs."""

import pytest
from PIL import Image

from monai_deepssim.data import labelled_pairs, load_slice
from monai_deepssim.errors import UnusableInputError


@pytest.fixture
def images_dir(tmp_path, brain_slice):
    for uid in ("IXI002", "CoRR___7"):
        (tmp_path / "images" / uid).mkdir(parents=True)
        for name in ("training.png", "gen-0.png", "gen-1.jpg"):
            Image.fromarray(brain_slice).save(tmp_path / "images" / uid / name)
    return tmp_path / "images"


def write(folder, *rows):
    path = folder.parent / "pairs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_test_set_gives_labelled_pairs_in_order(images_dir):
    csv_file = write(
        images_dir,
        "real_key,synth_key,label",
        "IXI002___training,IXI002___gen-0,1",
        "IXI002___training,CoRR___7___gen-1,0",
        "CoRR___7___training,CoRR___7___gen-0,2",
    )
    pairs = labelled_pairs(csv_file, str(images_dir))
    assert [pair["label"] for pair in pairs] == [1, 0, 2]
    assert [pair["real"]["patient_id"] for pair in pairs] == ["IXI002", "IXI002", "CoRR___7"]
    assert [pair["synthetic"]["path"] for pair in pairs] == [
        "IXI002/gen-0.png",
        "CoRR___7/gen-1.jpg",
        "CoRR___7/gen-0.png",
    ]
    assert pairs[0]["real"] is not pairs[1]["real"]
    assert set(pairs[0]) == {"real", "synthetic", "label"}
    assert load_slice(pairs[1]["synthetic"]).shape == (1, 233, 197)


def test_the_training_set_gives_ssim_and_split(images_dir):
    rows = ["IXI002___training,IXI002___gen-0,0.75,train", "IXI002___training,IXI002___gen-1,0.5,valid"]
    pairs = labelled_pairs(write(images_dir, "real_key,synth_key,ssim,split", *rows), images_dir)
    assert [(pair["ssim"], pair["split"]) for pair in pairs] == [(0.75, "train"), (0.5, "valid")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "IXI002___training,IXI002___gen-9,1",
            r"line 3, synth_key: .*'IXI002___gen-9' is missing; .*IXI002.gen-9\.png",
        ),
        ("IXI002,IXI002___gen-0,1", "line 3, real_key: 'IXI002' is not a key"),
        ("..___training,IXI002___gen-0,1", "line 3, real_key: .*inside"),
        ("IXI002___../../../etc/passwd,IXI002___gen-0,1", "line 3, real_key: .*inside"),
        ("/etc___passwd,IXI002___gen-0,1", "line 3, real_key: .*inside"),
        ("IXI002___training,IXI002___gen-0,3", "line 3, label: '3' is not a label"),
        ("IXI002___training,IXI002___gen-0", "line 3: the row has 2 cells"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(images_dir, row, message):
    csv_file = write(images_dir, "real_key,synth_key,label", "IXI002___training,IXI002___gen-0,1", row)
    with pytest.raises(UnusableInputError, match=rf"pairs\.csv, {message}"):
        labelled_pairs(csv_file, images_dir)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.2,train", "not an SSIM"),
        ("nan,train", "not an SSIM"),
        ("high,train", "not an SSIM"),
        ("0.5,test", "not a split"),
    ],
)
def test_training_values_that_mean_nothing_are_refused(images_dir, row, message):
    csv_file = write(images_dir, "real_key,synth_key,ssim,split", f"IXI002___training,IXI002___gen-0,{row}")
    with pytest.raises(UnusableInputError, match=message):
        labelled_pairs(csv_file, images_dir)


def test_missing_folders_files_and_columns_are_named(images_dir):
    csv_file = write(images_dir, "real_key,synth_key", "IXI002___training,IXI002___gen-0")
    with pytest.raises(UnusableInputError, match="the columns are real_key, synth_key, wanted"):
        labelled_pairs(csv_file, images_dir)
    with pytest.raises(UnusableInputError, match="nowhere: there is no such folder"):
        labelled_pairs(csv_file, images_dir / "nowhere")
    with pytest.raises(UnusableInputError, match=r"nowhere\.csv: the file does not exist"):
        labelled_pairs(images_dir / "nowhere.csv", images_dir)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path, images_dir):
    (tmp_path / "secret.png").write_bytes((images_dir / "IXI002" / "gen-0.png").read_bytes())
    (images_dir / "IXI002" / "gen-5.png").symlink_to(tmp_path / "secret.png")
    (images_dir / "IXI002" / "gen-6.png").symlink_to(images_dir / "IXI002" / "gen-0.png")
    header = "real_key,synth_key,label"
    with pytest.raises(UnusableInputError, match=r"line 2, synth_key: .*symbolic link that leads out of"):
        labelled_pairs(write(images_dir, header, "IXI002___training,IXI002___gen-5,1"), images_dir)
    (pair,) = labelled_pairs(write(images_dir, header, "IXI002___training,IXI002___gen-6,1"), images_dir)
    assert pair["synthetic"]["path"] == "IXI002/gen-6.png"
