"""A set cannot pass under the fingerprint of another: files that change, come back or are damaged meanwhile."""

import errno
from pathlib import Path

import numpy as np
import pytest
from audit_files import write_png

import monai_deepssim.audit.embedded_sides as embedded_sides
import monai_deepssim.audit.evidence as evidence
import monai_deepssim.audit.judgement as judgement
import monai_deepssim.audit.training_search as training_search
from monai_deepssim import UnusableInputError, find_copies, remove_copies
from monai_deepssim.data import hash_items

STRANGER, FEATURES = 140, "local_features/training"


@pytest.fixture
def refused(audit, capsys):
    """Run an audit that is refused with status 2, and return what it said."""

    def run(**options) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            audit(**options)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return run


def before_the_call(monkeypatch, place, name, action) -> None:
    """Do something once, before a function is called for the first time."""
    function, pending = getattr(place, name), [action]

    def wrapped(*arguments, **options):
        if pending:
            pending.pop()()
        return function(*arguments, **options)

    monkeypatch.setattr(place, name, wrapped)


@pytest.mark.parametrize(
    ("place", "name"),
    [(embedded_sides, "embed_images"), (evidence, "check_sides"), (judgement, "match_images")],
    ids=["hashed and not embedded", "embedded and not compared", "compared"],
)
def test_a_copy_that_is_put_in_the_place_of_an_innocent_image_does_not_pass(
    audit, refused, folders, axial, monkeypatch, place, name
) -> None:
    innocent = folders / "synthetic" / "copy-of-60.png"
    write_png(innocent, axial(STRANGER))
    before_the_call(monkeypatch, place, name, lambda: write_png(innocent, axial(60)))
    message = refused()
    assert "copy-of-60.png: changed while the audit was running: it had SHA-256 " in message
    assert not (folders / "out" / "summary.json").exists()
    assert not (folders / "out" / "files.csv").exists()

    # What is there now is another set, which is judged as such.
    assert audit().copy_fraction.count == 2


def test_a_file_that_cannot_be_read_for_a_moment_is_tried_again_by_the_next_run(audit, folders, monkeypatch) -> None:
    read = "monai_deepssim.data.readers.pictures.PictureReader.read"
    from monai_deepssim.data.readers.pictures import PictureReader

    original = PictureReader.read

    def fail_for_one(self, files, *others):
        if files[0].endswith("copy-of-60.png"):
            raise OSError(errno.EIO, "Input/output error")
        return original(self, files, *others)

    monkeypatch.setattr(read, fail_for_one)
    first = audit()
    assert [(skipped.path, "Input/output error" in skipped.reason) for skipped in first.skipped] == [
        ("copy-of-60.png", True)
    ]
    assert first.copy_fraction.count == 1

    monkeypatch.setattr(read, original)
    again = audit()
    assert not again.skipped
    assert again.copy_fraction.count == 2
    assert again.training.continued


def test_a_file_that_could_not_be_hashed_is_tried_again_without_overwrite(audit, folders, monkeypatch) -> None:
    import monai_deepssim.data.contents as contents

    read_content = contents._read_content

    def fail_for_one(file):
        if file.endswith("copy-of-60.png"):
            return contents.FileContent("unreadable: Permission denied", None)
        return read_content(file)

    monkeypatch.setattr(contents, "_read_content", fail_for_one)
    first = audit()
    assert [skipped.path for skipped in first.skipped] == ["copy-of-60.png"]
    assert first.synthetic.fingerprint["num_unreadable"] == 1
    monkeypatch.undo()
    monkeypatch.chdir(folders)
    again = audit()
    assert not again.skipped
    assert again.copy_fraction.count == 2


def test_a_damaged_file_is_not_read_again_by_each_run(audit, folders) -> None:
    (folders / "synthetic" / "other-120.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    audit()
    (shard,) = (folders / "out" / "embeddings" / "synthetic").glob("*.npy")
    before = shard.stat().st_mtime_ns
    assert [skipped.path for skipped in audit().skipped] == ["other-120.png"]
    assert shard.stat().st_mtime_ns == before


def numbers(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in ("matches.csv", "memorized.csv", "patients.csv")]


def test_of_a_training_image_that_changes_while_its_features_are_found_no_others_are_kept(
    audit, refused, folders, axial, monkeypatch
) -> None:
    audit(output_dir="undisturbed")
    image = folders / "training" / "sub-2_z60.png"
    content = image.read_bytes()
    before_the_call(monkeypatch, training_search, "feature_store", lambda: write_png(image, axial(STRANGER)))
    assert "sub-2_z60.png: changed while the audit was running" in refused()
    image.write_bytes(content)
    audit()
    assert numbers(folders / "out") == numbers(folders / "undisturbed")
    kept, expected = (
        {p.name: p.read_bytes() for p in (folders / f / FEATURES).iterdir()} for f in ("out", "undisturbed")
    )
    assert len(kept) >= 2
    assert kept == expected


def test_a_bit_that_is_flipped_in_any_file_of_a_finished_audit_changes_no_number(audit, folders, capsys) -> None:
    audit()
    expected, out, random = numbers(folders / "out"), folders / "out", np.random.default_rng(0)
    # Of what belongs together one file at a time: the others go with it.
    for patterns in (["*/*/*.npy", "verified/*/*"], ["*/*/shard*.json"], ["embeddings/*/f*.json"]):
        paths = [path for pattern in patterns for path in sorted(out.glob(pattern))]
        assert len(paths) >= 2
        for path in paths:
            content = bytearray(path.read_bytes())
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
            path.write_bytes(content)
        capsys.readouterr()
        audit()
        said = capsys.readouterr().err
        assert [path.name for path in paths if f"{path.relative_to(folders)}: is damaged" not in said] == []
        assert numbers(out) == expected


def test_what_an_audit_writes_is_its_owners_alone(audit, folders) -> None:
    audit(shareable_report=True)
    files = [path for path in (folders / "out").rglob("*") if path.is_file()]
    readable = {path.name for path in files if path.stat().st_mode & 0o077}
    assert len(files) > 10
    assert readable == {"report_shareable.html"}
    assert not [path for path in (folders / "out").rglob("*") if path.is_dir() and path.stat().st_mode & 0o077]
    assert (folders / "out").stat().st_mode & 0o777 == 0o700


def test_what_a_killed_run_left_is_removed_by_the_next_one(audit, folders) -> None:
    leftovers = ["matches.csv.partial", "report.html.partial", "report_shareable.html.partial", "summary.json.partial"]
    leftovers += ["embeddings/training/shard-00000.npy.partial", "verified/training/pairs-00009.json.partial"]
    leftovers += ["local_features/training/shard-00000.npy.partial"]
    for name in leftovers:
        (folders / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folders / "out" / name).write_text("half")
    audit()
    assert not list((folders / "out").rglob("*.partial"))


def test_a_second_audit_in_the_same_folder_is_refused_while_the_first_one_runs(refused, folders, monkeypatch) -> None:
    from monai_deepssim.folder_lock import locked_folder

    monkeypatch.setattr("threading.get_ident", lambda: 0)
    with locked_folder(folders / "out"):
        monkeypatch.undo()
        monkeypatch.chdir(folders)
        message = refused()
        with pytest.raises(UnusableInputError, match="another run is at work"):
            find_copies("training", "synthetic", output_dir="out", thresholds=[0.9, 0.999])
    assert "another run is at work in out" in message


@pytest.mark.parametrize("find", [find_copies, remove_copies])
def test_without_an_output_folder_nothing_is_written_anywhere(folders, checkpoint, monkeypatch, find) -> None:
    written = []
    monkeypatch.setattr("monai_deepssim.files.os.open", lambda *arguments: written.append(arguments))
    monkeypatch.setattr("tempfile.mkdtemp", lambda *arguments, **_: written.append(arguments))
    options = {"checkpoint": str(checkpoint), "image_size": (64, 64), "device": "cpu", "thresholds": [0.9, 0.999]}
    result = find(str(folders / "training"), str(folders / "synthetic"), controls=None, **options)
    before = result if find is find_copies else result.before
    assert before.copy_fraction.count == 2
    assert not written
    assert sorted(path.name for path in folders.iterdir()) == ["synthetic", "training"]


def test_a_set_whose_files_changed_since_they_were_judged_is_not_kept(folders, checkpoint, axial) -> None:
    options = {"checkpoint": str(checkpoint), "image_size": (64, 64), "device": "cpu", "thresholds": [0.9, 0.999]}
    result = find_copies(str(folders / "training"), str(folders / "synthetic"), controls=None, **options)
    rows = np.array([2, 3])
    items = [{name: v for name, v in result.synthetic.usable_items[row].items() if name != "contents"} for row in rows]
    side = result.synthetic.side
    kept = result.synthetic.subset(rows, type(side)("synthetic", side.source, items, []))
    assert kept.contents == [result.synthetic.contents[row] for row in rows]
    write_png(Path(items[0]["image"]), axial(60))
    with pytest.raises(UnusableInputError, match="other images than those that were judged"):
        result.synthetic.subset(rows, type(side)("synthetic", side.source, hash_items(items), []))
