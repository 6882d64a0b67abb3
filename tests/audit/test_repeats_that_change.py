"""What is counted once is watched as well: no file is listed as judged with a content that nobody judged."""

import csv
import os

import pytest
from audit_files import write_png

import monai_deepssim.audit.embedded_sides as embedded_sides
from monai_deepssim.files import hash_file

STRANGER = 140


@pytest.fixture
def repeated(folders, axial):
    """``synthetic/`` with an innocent image, the same content again, and a second name of that file."""
    folder = folders / "synthetic"
    write_png(folder / "a.png", axial(STRANGER))
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    os.link(folder / "b.png", folder / "c.png")
    return folder


def test_each_repeat_is_listed_with_the_content_that_was_judged(audit, repeated, folders) -> None:
    assert audit().copy_fraction.total == 5
    with (folders / "out" / "files.csv").open(newline="") as file:
        hashes = {row["file"]: row["sha256"] for row in csv.DictReader(file)}
    assert {hashes[name] for name in ("a.png", "b.png", "c.png")} == {hash_file(repeated / "a.png")}


@pytest.mark.parametrize("name", ["b.png", "c.png"])
def test_a_copy_in_the_place_of_a_repeat_does_not_pass(
    audit, repeated, folders, axial, monkeypatch, capsys, name
) -> None:
    embed = embedded_sides.embed_images

    def swap_and_embed(*arguments, **options):
        if (repeated / name).stat().st_nlink == 2:
            (repeated / name).unlink()
            write_png(repeated / name, axial(60))
        return embed(*arguments, **options)

    monkeypatch.setattr(embedded_sides, "embed_images", swap_and_embed)
    with pytest.raises(SystemExit) as ended:
        audit()
    assert ended.value.code == 2
    assert f"{name}: changed while the audit was running" in capsys.readouterr().err
    assert not (folders / "out" / "summary.json").exists()
