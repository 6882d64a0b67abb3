"""What lies in a folder beside its images: known by content, hidden, linked, or named like something else."""

import base64
import bz2
import os
import pickle
import socket
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_deepssim.data import list_images, load_slice, scan_images
from monai_deepssim.errors import UnusableInputError


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 32), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels) -> Path:
    """A folder ``set`` with one picture."""
    (tmp_path / "set").mkdir()
    Image.fromarray(pixels).save(tmp_path / "set" / "a.png")
    return tmp_path / "set"


def paths(listing) -> list[str]:
    return [item["path"] for item in listing.items]


def ignored(listing) -> dict[str, str]:
    return {file["path"]: file["kind"] for file in listing.ignored}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("name", ["picture", "picture.jfif", "notes.txt", "table.csv", "list.json", "picture.dat"])
def test_a_picture_is_known_by_its_content_whatever_it_is_called(tmp_path, pixels, form, name):
    Image.fromarray(pixels).save(tmp_path / name, form)
    listing = scan_images(tmp_path)
    assert (paths(listing), listing.ignored) == ([name], [])
    assert load_slice(listing.items[0]).shape == (1, *pixels.shape)


def as_pickle(pixels):
    return pickle.dumps(pixels)


def as_text_of_numbers(pixels):
    return "\n".join(",".join(map(str, row)) for row in np.tile(pixels, (2, 2))).encode()


def as_json_of_numbers(pixels):
    return str({"image": np.tile(pixels, (2, 2)).tolist()}).encode()


def as_base64_lines(pixels):
    return base64.encodebytes(np.random.default_rng(0).bytes(4000))


def as_one_word(pixels):
    return b'<svg><image href="data:image/png;base64,' + pixels.tobytes().hex().encode() + b'"/></svg>'


def as_bytes_without_control_characters(pixels):
    return np.maximum(pixels, 32).tobytes()


@pytest.mark.parametrize("name", ["a.pt", "a.zip", "a.bz2", "a", "notes.txt", "table.csv"])
@pytest.mark.parametrize(
    "write",
    [
        as_pickle,
        as_text_of_numbers,
        as_json_of_numbers,
        as_base64_lines,
        as_one_word,
        as_bytes_without_control_characters,
        lambda pixels: bz2.compress(pixels.tobytes()),
        lambda pixels: bytes([0]),
    ],
)
def test_what_could_hold_an_image_is_never_taken_for_a_note(folder, pixels, name, write):
    (folder / name).write_bytes(write(pixels))
    assert ignored(scan_images(folder)) == {name: "unread"}


@pytest.mark.parametrize("name", ["a.h5", "a.avif", "a.nii.bz2", "a.png"])
def test_a_format_that_is_known_by_name_and_not_read_is_an_image_that_cannot_be_used(folder, name):
    (folder / name).write_bytes(b"\0")
    assert name in paths(scan_images(folder))


@pytest.mark.parametrize(
    "text",
    [
        "image,seed\n" + "\n".join(f"sub-{number:04d}_z90.png,{number}" for number in range(3000)),
        "image\tage\nä.png\t70\n",
        '{"model": "ldm", "steps": [1, 2, 3]}\n',
        "Made on Monday.\r\nWith love.\f",
        "-----\n" * 50,
        "",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("name", ["README", "manifest.csv", "run.log", ".gitignore"])
def test_tables_and_notes_are_known_by_their_content(folder, text, encoding, name):
    (folder / name).write_bytes(text.encode(encoding))
    assert ignored(scan_images(folder)) == {name: "note"}


def test_a_pointer_of_dvc_to_a_file_that_is_not_there_is_an_image_that_was_not_read(folder):
    for name in ("a.png.dvc", "b.png.dvc"):
        (folder / name).write_text("outs:\n- md5: a304afb96060aad90176268345e10355\n  path: b.png\n")
    listing = scan_images(folder)
    assert ignored(listing) == {"a.png.dvc": "note", "b.png.dvc": "unread"}
    assert "b.png, which is not there (run: dvc pull)" in listing.ignored[1]["reason"]


def test_files_of_systems_are_known_by_name_and_content(folder, pixels):
    written = {
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(50),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50),
        "desktop.ini": "[.ShellClassInfo]\r\n".encode("utf-16"),
        "._a.png": b"\0\5\x16\7" + bytes(50),
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._a.png").write_bytes(written["._a.png"])
    kinds = ignored(scan_images(folder))
    assert kinds.pop("desktop.ini") == "note"
    assert kinds == dict.fromkeys([".DS_Store", "Thumbs.db", "._a.png", "__MACOSX"], "system")
    for name in (".DS_Store", "Thumbs.db", "._a.png", "__MACOSX/._a.png"):
        Image.fromarray(pixels).save(folder / name, "GIF")
    kinds = ignored(scan_images(folder))
    assert kinds.pop("desktop.ini") == "note"
    assert set(kinds.values()) == {"unread"}


def test_a_thumbnail_of_a_nas_shows_the_file_beside_it_or_is_not_known(folder, pixels):
    thumbnail = folder / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg"
    thumbnail.parent.mkdir(parents=True)
    smooth = Image.fromarray(pixels).resize((320, 240), Image.Resampling.BICUBIC)
    smooth.save(folder / "a.png")
    smooth.resize((64, 48)).save(thumbnail)
    assert ignored(scan_images(folder)) == {"@eaDir": "system"}
    assert paths(scan_images(folder)) == ["a.png"]
    Image.fromarray(pixels[::-1]).save(thumbnail)
    assert ignored(scan_images(folder)) == {"@eaDir": "unread"}


def test_hidden_folders_are_looked_into_and_none_of_their_images_is_taken(folder, pixels):
    (folder / ".git" / "refs").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[core]\n")
    assert ignored(scan_images(folder)) == {".git": "note"}
    Image.fromarray(pixels).save(folder / ".git" / "refs" / "b.png")
    listing = scan_images(folder)
    assert (paths(listing), ignored(listing)) == (["a.png"], {".git": "unread"})
    assert "such as b.png" in listing.ignored[0]["reason"]
    for pattern in ("**", "**/*", "**/*.png", "*/*/*.png"):
        (folder / "P1" / "x").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "P1" / "x" / "c.png")
        listing = scan_images(folder / pattern)
        assert paths(listing) == (["P1/x/c.png"] if pattern.startswith("*/*/") else ["P1/x/c.png", "a.png"])
        assert ignored(listing) == {".git": "unread"}
        assert listing.repeats == []


@pytest.mark.parametrize("pattern", [".git", "*.zip", "sub/*", "more.zip", "sub"])
def test_what_is_left_out_on_purpose_is_recorded(folder, pixels, pattern):
    (folder / "sub").mkdir()
    (folder / ".git").mkdir()
    for name in (".git/b", "sub/more.zip"):
        (folder / name).write_bytes(b"PK\3\4")
    kinds = ignored(scan_images(folder, ignore=[pattern]))
    left_out = ".git" if pattern == ".git" else "sub" if pattern == "sub" else "sub/more.zip"
    assert kinds.pop(left_out) == "asked"
    assert list(kinds.values()) == ["unread"]


def test_images_and_rows_can_be_left_out_on_purpose(folder, pixels):
    Image.fromarray(pixels).save(folder / "b_thumb.png")
    assert paths(scan_images(folder, ignore=("*_thumb.png",))) == ["a.png"]
    (folder / "list.csv").write_text("image\na.png\nb_thumb.png\n")
    listing = scan_images(folder / "list.csv", ignore=("*_thumb.png",))
    assert (paths(listing), ignored(listing)) == (["a.png"], {"b_thumb.png": "asked"})


def test_pipes_sockets_and_devices_are_never_opened(folder):
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    server = socket.socket(socket.AF_UNIX)
    os.chdir(folder)  # the name of a socket has at most 108 bytes
    server.bind("socket")
    listing = scan_images(folder)
    server.close()
    assert (paths(listing), ignored(listing)) == (["a.png"], dict.fromkeys(["pipe", "pipe.png", "socket"], "unread"))
    (folder / "list.csv").write_text("image\npipe\n")
    for source in (folder / "pipe", folder / "list.csv", [{"image": folder / "pipe.png"}], "/dev/null"):
        with pytest.raises(UnusableInputError, match="a pipe, a socket or a device"):
            list_images(source)


def test_a_file_that_may_not_be_read_is_not_taken_for_a_note(folder, monkeypatch):
    (folder / "secret").write_text("a")
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "secret":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    (file,) = scan_images(folder).ignored
    assert (file["kind"], file["reason"]) == ("unread", "cannot be opened (Permission denied)")


def test_links_inside_of_a_folder_are_the_file_that_they_lead_to(folder, pixels):
    (folder / "0.png").symlink_to("a.png")
    (folder / "P1").mkdir()
    (folder / "P1" / "up").symlink_to(folder)
    (folder / "P1" / "self").symlink_to("self")
    listing = scan_images(folder)
    assert paths(listing) == ["a.png"]
    assert [(repeat.item["path"], repeat.first, repeat.is_link) for repeat in listing.repeats] == [
        ("0.png", "a.png", True)
    ]
    assert ignored(listing) == {"P1/up": "seen", "P1/self": "unread"}


def test_a_file_in_a_hidden_store_is_an_image_under_the_name_of_its_link(folder, pixels):
    store = folder / ".git" / "annex" / "objects"
    store.mkdir(parents=True)
    (folder / "a.png").rename(store / "SHA256E-s1")
    (folder / "a.png").symlink_to(store / "SHA256E-s1")
    (folder / "b.png").symlink_to(store / "SHA256E-s2")  # its content is not here
    listing = scan_images(folder)
    assert paths(listing) == ["a.png", "b.png"]
    with pytest.raises(UnusableInputError, match="is a broken link"):
        load_slice(listing.items[1])


def test_a_folder_of_nothing_but_links_names_the_option(folder, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.png").symlink_to(folder / "a.png")
    with pytest.raises(UnusableInputError, match=r"1 symbolic links in it, such as a\.png, .*--follow_links true"):
        list_images(tmp_path / "linked")
    assert paths(scan_images(tmp_path / "linked", follow_links=True)) == ["a.png"]
    with pytest.raises(UnusableInputError, match="--follow_links true"):
        list_images(tmp_path / "linked" / "*.png")


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_list_cannot_reach_outside_of_its_folder_through_links(folder, tmp_path, kind, is_folder):
    (tmp_path / "lists").mkdir()
    link = tmp_path / "lists" / ("more" if is_folder else "a.png")
    link.symlink_to(folder if is_folder else folder / "a.png")
    name = "more/a.png" if is_folder else "a.png"
    file = tmp_path / "lists" / f"list.{kind}"
    file.write_text(f"image\n{name}\n" if kind == "csv" else f'[{{"image": "{name}"}}]')
    with pytest.raises(UnusableInputError, match=r"(line 2|entry 0): .*symbolic link.*--follow_links true"):
        list_images(file)
    assert paths(scan_images(file, follow_links=True)) == [name]


def test_hard_links_repeated_rows_and_names_of_one_file_are_one_image(folder):
    os.link(folder / "a.png", folder / "b.png")
    assert [(repeat.first, repeat.reason) for repeat in scan_images(folder).repeats] == [
        ("a.png", "the same file under another name")
    ]
    (folder / "list.csv").write_text("image\na.png\n./a.png\nsub/../a.png\n")
    (folder / "sub").mkdir()
    listing = scan_images(folder / "list.csv")
    assert (paths(listing), len(listing.repeats)) == (["a.png"], 2)
    assert {repeat.reason for repeat in listing.repeats} == {"the same file, named twice"}
    assert len(scan_images(folder / "list.csv", keep_repeats=True).items) == 3
    assert len(list_images([{"image": folder / "a.png"}, {"image": str(folder / "a.png")}])) == 1


NAMES = [
    "a#b.png",
    "#z=3.png",
    "a.png#z=0",
    "a[1].png",
    "[ab]*?.png",
    "two\nlines.png",
    "trailing .png ",
    " lead.PNG",
    "ä猫.TiF",
    b"\xff\xfe.png".decode("utf-8", "surrogateescape"),
    "back\\slash.png",
    "-rf.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(tmp_path, pixels, name):
    folder = tmp_path / "sub-[1]*#7"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / name, "PNG")
    items = list_images(folder, patient_id_pattern="folder")
    assert [item["path"] for item in items] == [name]
    assert load_slice(items[0]).shape == (1, *pixels.shape)
    assert list_images(items) == items
    assert [item["path"] for item in list_images(folder / name)] == [name]
    assert [item["patient_id"] for item in list_images(tmp_path, patient_id_pattern="folder")] == [folder.name]


def test_a_volume_whose_name_has_a_number_sign_keeps_its_slices_apart(tmp_path, lopsided):
    for name in ("v#1.nii", "v#z=2.nii", "v.nii"):
        nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / name)
    items = list_images(tmp_path, slices="2,3")
    assert len({item["path"] for item in items}) == 6
    assert list_images(items) == items
    assert list_images(items[:1])[0]["path"] == "v#1.nii#z=2"


def test_a_file_that_is_called_like_a_slice_of_another_one_is_refused(tmp_path, lopsided, pixels):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "v.nii")
    Image.fromarray(pixels).save(tmp_path / "v.nii#z=2", "PNG")
    assert len(list_images(tmp_path)) == 2
    with pytest.raises(UnusableInputError, match="has the name of a slice of"):
        list_images(tmp_path, slices="2,3")


def test_a_pattern_with_brackets_of_a_name_says_how_to_escape_them(tmp_path, pixels):
    (tmp_path / "set[1]").mkdir()
    Image.fromarray(pixels).save(tmp_path / "set[1]" / "a[2].png")
    assert len(list_images(tmp_path / "set[1]" / "*.png")) == 1
    assert len(list_images(tmp_path / "*" / "a[[]2].png")) == 1
    with pytest.raises(UnusableInputError, match=r"\[\[\], \[\*\] and \[\?\] stand for"):
        list_images(tmp_path / "*" / "a[2].png")
    with pytest.raises(UnusableInputError, match=r"no pattern|nothing matches"):
        list_images(tmp_path / "**.png")


def test_a_range_is_bounded_by_the_volume(tmp_path, lopsided):
    nib.save(nib.Nifti1Image(lopsided, np.eye(4)), tmp_path / "v.nii")
    assert [item["slice"] for item in list_images(tmp_path, slices="0:1000000000000")] == [*range(9)]
    assert [item["slice"] for item in list_images(tmp_path, slices="0:1000000000000:5")] == [0, 5, 10]
    listing = scan_images(tmp_path, slices="7,-1,7,3")
    assert ([item["slice"] for item in listing.items], listing.repeats) == ([7, 3], [])
    for slices in ("9" * 30, 10**30, "0:" + "9" * 5000, [10**30]):
        with pytest.raises(UnusableInputError, match="slices="):
            list_images(tmp_path, slices=slices)
