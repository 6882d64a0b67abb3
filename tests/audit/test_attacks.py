"""Sets that passed a gate on a point estimate, or under a green header, and must not pass again."""

import base64
import json
import os
import shutil
from importlib.resources import files

import cv2
import jsonschema
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from audit_files import write_dicom
from PIL import Image
from torchvision.utils import make_grid

from monai_deepssim import find_copies, remove_copies, verify_release
from monai_deepssim.audit.error_rates import add_error_rates
from monai_deepssim.audit.summary import summarize
from monai_deepssim.calibration import leave_one_out_null
from monai_deepssim.data import PhantomBrainDataset
from monai_deepssim.errors import UnusableInputError
from monai_deepssim.report import file_sentences

SCHEMA = json.loads(files("monai_deepssim.audit").joinpath("summary.schema.json").read_text())


def make_phantoms(number: int, seed: int) -> torch.Tensor:
    return torch.stack([item["image"].as_tensor() for item in PhantomBrainDataset(number, seed, progress=False)])


def add_noise(images: torch.Tensor, std: float) -> torch.Tensor:
    return (images + std * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def codes(result) -> list[str]:
    return [reason.code for reason in result.gate.reasons]


@pytest.fixture(scope="module")
def training() -> torch.Tensor:
    return make_phantoms(25, seed=71)


@pytest.fixture(scope="module")
def strangers() -> torch.Tensor:
    return make_phantoms(24, seed=72)


def test_noisy_copies_among_clean_images_exceed_the_gate(training, strangers):
    result = find_copies(
        training, torch.cat([strangers[:12], add_noise(training[:5], 0.05)]), max_copy_fraction=0.1, controls=None
    )
    assert result.gate.result == "exceeded"
    assert result.gate.num_suspicious == 5
    assert summarize(result)["headline"]["tone"] == "bad"


@pytest.fixture(scope="module")
def cluster(training, strangers):
    """An audit of eight noisy copies, each of another patient, with a threshold that calls none of them a copy."""
    return find_copies(
        training,
        torch.cat([strangers, add_noise(training[:8], 0.05)]),
        patient_ids=[f"patient {number}" for number in range(len(training))],
        # Above the score of every copy: as if the change of these copies were one that the threshold does not forgive.
        thresholds=[0.9999995, 0.9999999],
        max_copy_fraction=0.01,
        max_patient_fraction=0.05,
        controls=None,
    )


def test_a_cluster_below_the_threshold_is_unexplained_and_exceeds_the_gate(cluster):
    assert cluster.count("duplicate") == 0
    suspicious = cluster.gate.suspicious
    assert suspicious["discoveries"] + suspicious["unexplained"] == 8
    assert cluster.gate.result == "exceeded"
    assert "copies_exceeded" in codes(cluster)
    assert cluster.matches["synthetic_path"][cluster.matches["unexplained"]].tolist()
    assert "No copy was found" not in summarize(cluster)["headline"]["title"]


def test_a_patient_whom_an_unexplained_image_is_nearest_to_counts(cluster):
    assert cluster.gate.patients["memorized"] == 8
    assert "patients_exceeded" in codes(cluster)


def test_a_set_of_nothing_but_copies_below_the_threshold_is_unexplained_too(training):
    result = find_copies(
        training,
        add_noise(training[:10], 0.05),
        thresholds=[0.9999995, 0.9999999],
        max_copy_fraction=0.01,
        controls=None,
    )
    assert result.count("duplicate") == 0
    assert result.gate.num_suspicious == 10
    assert result.gate.result == "exceeded"


def test_few_images_without_a_copy_are_undecided_and_told_how_many_would_do(training, strangers):
    result = find_copies(training, strangers, max_copy_fraction=0.01, controls=1)
    assert result.gate.result == "undecided"
    assert "too_few_images" in codes(result)
    assert result.gate.images_needed == 299
    assert summarize(result)["headline"]["tone"] == "unsure"
    # Every planted copy was found, but one per change tells no recall.
    assert result.controls["found"].all()
    assert "recall_unknown" in codes(result)


@pytest.mark.usefixtures("null_that_calls")
def test_without_controls_the_recall_is_unknown_and_no_gate_passes(training, strangers):
    result = find_copies(training, strangers, max_copy_fraction=1.0, gate_on="files", controls=None)
    assert codes(result) == ["recall_unknown"]
    assert result.gate.result == "undecided"


def test_training_images_among_the_held_out_are_named_and_silence_no_copy(training, strangers):
    held_out = torch.cat([strangers[:10], training[20:23], (training[23:25] * 0.98)])
    result = find_copies(
        training, torch.cat([strangers[10:], training[:4]]), holdout=held_out, max_copy_fraction=0.1, controls=None
    )
    named = result.held_out[result.held_out["contamination"] != ""]
    assert set(named["holdout_path"]) == {f"holdout[{number}]" for number in range(10, 15)}
    assert named["contamination"].value_counts().to_dict() == {"content": 3, "score": 2}
    assert result.false_alarms.total == 10
    assert result.discoveries.null.num_groups == 10
    copies = result.matches[result.matches["label"] == "duplicate"]
    assert (copies["p_value"] == 1 / 11).all()


def test_synthetic_images_among_the_held_out_are_refused(training, strangers):
    """As strangers they gave p-values and a share of false alarms that were those of the synthetic set itself."""
    synthetic = torch.cat([strangers[:16], add_noise(training[:8], 0.05)])
    options = {"thresholds": [0.9999995, 0.9999999], "max_copy_fraction": 0.01, "controls": None}
    with pytest.raises(UnusableInputError, match=r"24 of its 32 images are synthetic images .*holdout\[0\]"):
        find_copies(training, synthetic, holdout=torch.cat([synthetic, strangers[16:]]), **options)


def test_the_gate_of_a_filter_can_fail_by_what_it_did_not_leave_out(training, strangers):
    # A comparison on the pixels that calls nothing a copy but one: the threshold is out of reach of noisy ones.
    options = {"thresholds": [0.9999995, 0.9999999], "controls": None, "max_copy_fraction": 0.05}
    copies = [training[8:9], add_noise(training[:6], 0.05)]
    result = remove_copies(training, torch.cat([strangers, *copies]), **options)
    assert result.left_out == {"duplicate": 1}
    assert result.after.gate.result == "exceeded"
    assert result.after.second_opinion.is_suspicious.sum() >= 6 or result.after.gate.suspicious["unexplained"] == 6


def test_what_a_filter_kept_is_judged_by_the_detector_too(training, strangers):
    options = {"controls": None, "max_copy_fraction": 0.2}
    # Of the 25 training images 12 are each other's nearest: taken twice, their scores left a gap above them by chance.
    result = remove_copies(training, torch.cat([strangers[:14], training[:6]]), **options)
    assert result.num_kept == 14
    assert result.after.second_opinion.name == "deepssim"
    assert not result.after.second_opinion.is_suspicious.any()
    assert "judged_by_its_chooser" not in codes(result.after)
    assert "chosen_set" not in codes(result.after)


def test_scores_of_training_images_that_are_each_others_nearest_leave_no_gap_above_them():
    """DeepSSIM scores of 25 phantoms among themselves and of 14 strangers, of which 4 were said to stand apart."""
    null = [0.409, 0.403, 0.418, 0.422, 0.41, 0.418, 0.363, 0.329, 0.438, 0.37, 0.324, 0.403, 0.363, 0.403, 0.416]
    null += [0.365, 0.409, 0.374, 0.364, 0.369, 0.346, 0.422, 0.41, 0.374, 0.438]
    nearest = [16, 13, 5, 21, 22, 2, 12, 14, 24, 17, 12, 16, 2, 1, 5, 9, 0, 13, 8, 11, 22, 3, 4, 8, 8]
    scores = [0.485, 0.437, 0.383, 0.361, 0.385, 0.389, 0.432, 0.425, 0.471, 0.483, 0.38, 0.343, 0.536, 0.432]
    matches = pd.DataFrame({"score": scores, "label": "different"})
    null_scores = leave_one_out_null(null, np.array(nearest), np.arange(25))
    judged, _ = add_error_rates(matches, null_scores, fdr=0.05, plain_copy_score=1.0)
    assert not judged["unexplained"].any()
    copies = matches.assign(score=[0.8, 0.79, *scores[2:]])
    judged, _ = add_error_rates(copies, null_scores, fdr=0.05, plain_copy_score=1.0)
    assert judged["unexplained"].tolist() == [True, True] + [False] * 12


def test_what_the_detector_alone_has_chosen_is_undecided(training, strangers):
    options = {"controls": None, "verify": False, "max_copy_fraction": 1.0}
    result = remove_copies(training, torch.cat([strangers, training[:6]]), **options)
    assert result.after.gate.result == "undecided"
    assert "judged_by_its_chooser" in codes(result.after)


@pytest.fixture
def folders(tmp_path, training, strangers):
    """``training/`` of 16 images; ``synthetic/`` of 4 copies and 6 other images."""
    for number, image in enumerate(training[:16]):
        write_png(tmp_path / "training" / f"{number}.png", image)
    for number, image in enumerate(torch.cat([training[:4], strangers[:6]])):
        write_png(tmp_path / "synthetic" / f"{number}.png", image)
    return tmp_path


def write_png(path, image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image[0] * 255).round().byte().numpy()).save(path, "PNG")


# What is compared here is files: the fastest detector does.
FAST = {"verify": False, "detector": "ncc", "thresholds": 0.99}


def judge_folders(folder, synthetic="synthetic", **options):
    """The audit of the folders, with a gate that accepts a fifth of copies, and no other reason to be undecided."""
    gate = {"max_copy_fraction": 0.2, "gate_on": "files", "controls": 1, "min_recall": 0.0}
    return find_copies(folder / "training", folder / synthetic, **{**FAST, **gate, **options})


def clean(folder):
    """Take the copies out of ``synthetic/``."""
    for number in range(4):
        (folder / "synthetic" / f"{number}.png").unlink()


@pytest.mark.usefixtures("null_that_calls")
def test_a_clean_folder_with_tables_notes_and_files_of_systems_passes(folders):
    clean(folders)
    (folders / "synthetic" / "samples.csv").write_text("image,seed\n4.png,7\n")
    (folders / "synthetic" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(100))
    (folders / "synthetic" / "._4.png").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    result = judge_folders(folders)
    assert result.gate.result == "passed", result.gate.reason
    kinds = [file["kind"] for file in summarize(result)["ignored_files"]["synthetic"]]
    assert sorted(kinds) == ["note", "system", "system"]


def hide_as_unknown_suffix(folder, image) -> None:
    torch.save(image, folder / "synthetic" / "copies.pt")


def hide_in_a_hidden_folder(folder, image) -> None:
    write_png(folder / "synthetic" / ".thumbs" / "a.png", image)


def hide_as_a_hidden_file(folder, image) -> None:
    write_png(folder / "synthetic" / ".a.png", image)


def hide_behind_a_link(folder, image) -> None:
    write_png(folder / "elsewhere" / "a.png", image)
    (folder / "synthetic" / "more").symlink_to(folder / "elsewhere")


def hide_as_a_table(folder, image) -> None:
    np.savetxt(folder / "synthetic" / "a.csv", image[0].numpy(), fmt="%.3f", delimiter=",")


def hide_as_text(folder, image) -> None:
    write_png(folder / "a.png", image)
    text = base64.encodebytes((folder / "a.png").read_bytes())
    (folder / "synthetic" / "notes.txt").write_bytes(text)


def hide_among_the_training_images(folder, image) -> None:
    torch.save(image, folder / "training" / "more.pt")


@pytest.mark.usefixtures("null_that_calls")
@pytest.mark.parametrize(
    "hide",
    [
        hide_as_unknown_suffix,
        hide_in_a_hidden_folder,
        hide_as_a_hidden_file,
        hide_behind_a_link,
        hide_as_a_table,
        hide_as_text,
        hide_among_the_training_images,
    ],
)
def test_what_was_not_read_leaves_the_gate_undecided_until_it_is_left_out_in_words(folders, training, hide):
    clean(folders)
    hide(folders, training[0])
    result = judge_folders(folders)
    assert (result.gate.result, codes(result)) == ("undecided", ["ignored_files"])
    (name,) = [file["path"] for side in (result.training, result.synthetic) for file in side.side.ignored]
    told = judge_folders(folders, ignore=name)
    assert told.gate.result == "passed", told.gate.reason
    assert "left out on purpose" in " ".join(file_sentences(summarize(told)))


def show_copies_in_a_contact_sheet(folder, images) -> None:
    Image.fromarray((make_grid(images[:9], nrow=3)[0] * 255).byte().numpy()).save(folder / "synthetic" / "samples.png")


def show_a_copy_in_the_colours_of_a_rainbow(folder, images) -> None:
    levels = (images[0, 0] * 255).byte().numpy()
    cv2.imwrite(str(folder / "synthetic" / "jet.png"), cv2.applyColorMap(levels, cv2.COLORMAP_JET))


def show_a_copy_in_one_channel_of_three(folder, images) -> None:
    Image.fromarray((images[:3, 0].permute(1, 2, 0) * 255).byte().numpy()).save(folder / "synthetic" / "rgb.png")


def stack_copies_in_a_file(folder, images) -> None:
    nib.save(nib.Nifti1Image(images[:9, 0].numpy(), np.eye(4)), folder / "synthetic" / "samples.nii.gz")


def stack_training_slices_in_a_volume(folder, images) -> None:
    for number in range(16):
        (folder / "training" / f"{number}.png").unlink()
    nib.save(nib.Nifti1Image(images[:16, 0].permute(1, 2, 0).numpy(), np.eye(4)), folder / "training" / "scan.nii.gz")


@pytest.mark.usefixtures("null_that_calls")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (show_copies_in_a_contact_sheet, "sheets"),
        (show_a_copy_in_the_colours_of_a_rainbow, "colours"),
        (show_a_copy_in_one_channel_of_three, "colours"),
        (stack_copies_in_a_file, "middle_slices"),
        (stack_training_slices_in_a_volume, "middle_slices"),
    ],
)
def test_what_was_compared_in_part_alone_leaves_the_gate_undecided(folders, training, change, kind):
    clean(folders)
    change(folders, training)
    result = judge_folders(folders)
    assert result.count("duplicate") == 0
    assert "sides_differ" in codes(result)
    assert result.gate.result == "undecided"
    assert [difference.kind for difference in result.sides_differ.uncovered] == [kind]


@pytest.mark.usefixtures("null_that_calls")
def test_every_slice_of_a_stack_is_compared_on_request(folders, training):
    stack_copies_in_a_file(folders, training.transpose(2, 3))
    result = judge_folders(folders, slices="all", slice_axis=0)
    assert "sides_differ" not in codes(result)
    assert len(result.matches) == 10 + 9


@pytest.mark.usefixtures("null_that_calls")
def test_what_was_not_read_of_the_held_out_images_leaves_the_gate_undecided_too(folders, strangers):
    clean(folders)
    for number, image in enumerate(strangers[6:]):
        write_png(folders / "holdout" / f"{number}.png", image)
    (folders / "holdout" / "more.pt").write_bytes(b"\0")
    assert codes(judge_folders(folders, holdout=folders / "holdout")) == ["ignored_files"]


@pytest.mark.usefixtures("null_that_calls")
@pytest.mark.parametrize("name", ["notes.txt", "copy", "copy.jfif", "copy.dat", "copy#z=1.v2"])
def test_a_copy_under_another_name_is_known_by_its_content(folders, training, name):
    write_png(folders / "synthetic" / name, training[9])
    result = judge_folders(folders, max_copy_fraction=0.4)
    assert result.count("duplicate") == 5
    assert result.gate.result == "exceeded"


def repeat_in_rows(folder) -> str:
    names = [f"{number}.png" for number in range(10)]
    rows = [*names, *(f"./{name}" for name in names[4:] for _ in range(9))]
    (folder / "synthetic" / "list.csv").write_text("\n".join(["image", *rows]))
    return "synthetic/list.csv"


def repeat_by_hard_links(folder) -> str:
    for number in range(4, 10):
        for time in range(9):
            os.link(folder / "synthetic" / f"{number}.png", folder / "synthetic" / f"{number} again {time}.png")
    return "synthetic"


def repeat_by_symbolic_links(folder) -> str:
    for number in range(4, 10):
        for time in range(9):
            (folder / "synthetic" / f"{number} again {time}.png").symlink_to(f"{number}.png")
    return "synthetic"


def repeat_by_copies(folder) -> str:
    for number in range(4, 10):
        for time in range(9):
            shutil.copy(folder / "synthetic" / f"{number}.png", folder / "synthetic" / f"{number} again {time}.png")
    return "synthetic"


@pytest.mark.usefixtures("null_that_calls")
@pytest.mark.parametrize("gate_on", ["files", "generator"])
@pytest.mark.parametrize("repeat", [repeat_in_rows, repeat_by_hard_links, repeat_by_symbolic_links, repeat_by_copies])
def test_repeating_what_is_clean_lowers_no_share(folders, repeat, gate_on):
    options = {"max_copy_fraction": 0.3, "gate_on": gate_on}
    plain = judge_folders(folders, **options)
    diluted = judge_folders(folders, repeat(folders), **options)
    assert (diluted.copy_fraction.count, diluted.copy_fraction.total) == (4, 10)
    assert diluted.gate.as_json()["upper_limit"] == plain.gate.as_json()["upper_limit"]
    assert diluted.gate.result == "exceeded"
    assert len(diluted.synthetic.side.repeats) == 54
    assert "54 synthetic images repeat others" in " ".join(file_sentences(summarize(diluted)))


def test_repeats_count_each_on_request(folders):
    repeat_by_copies(folders)
    share = judge_folders(folders, count_repeats=True).copy_fraction
    assert (share.count, share.total) == (4, 64)


@pytest.mark.usefixtures("null_that_calls")
def test_repeating_a_copy_hides_none_of_its_files(folders):
    for number in range(1, 4):
        (folders / "synthetic" / f"{number}.png").unlink()
        shutil.copy(folders / "synthetic" / "0.png", folders / "synthetic" / f"again {number}.png")
    result = judge_folders(folders, max_copy_fraction=0.3)
    assert (result.copy_fraction.count, result.copy_fraction.total) == (1, 7)
    assert (result.gate.num_suspicious, result.gate.result) == (4, "exceeded")


def test_identical_tensors_count_once_and_keep_their_places(training, strangers):
    synthetic = torch.cat([training[:1], *[strangers[:3]] * 4, training[1:2], training[:1]])
    result = remove_copies(training[:16], synthetic, controls=None, **FAST)
    assert (result.before.copy_fraction.count, result.before.copy_fraction.total) == (2, 5)
    assert result.kept == list(range(1, 13))


def test_a_slice_that_is_named_three_times_is_one_image(folders, training):
    volume = np.stack([(training[number, 0] * 255).byte().numpy().T[::-1, ::-1] for number in range(3)], axis=2)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), folders / "synthetic" / "volume.nii")
    clean(folders)
    result = judge_folders(folders, slices="1,1,-2")
    assert [path for path in result.matches["synthetic_path"] if "nii" in path] == ["volume.nii#z=1"]


def test_a_filter_decides_about_repeats_as_about_what_they_repeat(folders, tmp_path):
    shutil.copy(folders / "synthetic" / "0.png", folders / "synthetic" / "copy again.png")
    shutil.copy(folders / "synthetic" / "4.png", folders / "synthetic" / "4 again.png")
    os.link(folders / "synthetic" / "5.png", folders / "synthetic" / "5 again.png")
    (folders / "synthetic" / "6 again.png").symlink_to("6.png")
    result = remove_copies(
        folders / "training", folders / "synthetic", output_dir=tmp_path / "out", controls=None, **FAST
    )
    kept = {path.name for path in (tmp_path / "out" / "filtered").iterdir()}
    assert kept == {*(f"{number}.png" for number in range(4, 10)), "4 again.png", "5 again.png"}
    reasons = result.files.set_index("file")["reason"]
    assert reasons["4 again.png"].startswith("a repeat of 4 again.png") or "repeat of 4" in reasons["4.png"]
    assert "a repeat of" in reasons["copy again.png"] or "a repeat of" in reasons["0.png"]
    assert reasons["6 again.png"] == "a link to 6.png, which is kept"
    assert result.after.copy_fraction.total == 6
    assert verify_release(tmp_path / "out", tmp_path / "out" / "filtered").differences == ()
    jsonschema.validate(json.loads((tmp_path / "out" / "summary.json").read_text()), SCHEMA)


@pytest.mark.usefixtures("null_that_calls")
@pytest.mark.parametrize("slices", [None, "all"])
def test_files_that_are_taken_as_one_volume_are_counted_and_warned_of(folders, training, slices):
    clean(folders)
    for number in range(6):
        pixels = (training[number, 0] * 255).byte().numpy()
        write_dicom(folders / "synthetic" / f"{number}.dcm", pixels, series="1.2.3", height=number)
    told = " ".join(file_sentences(summarize(judge_folders(folders, slices=slices))))
    assert "6 files of DICOM series were taken as 1 volume." in told
    assert ("Warning: of each of these synthetic volumes only the slices asked for were audited" in told) == (
        slices is None
    )
