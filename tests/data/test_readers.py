"""A file format is one file and one line: a toy format goes through everything that lists and loads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_deepssim import UnusableInputError, find_copies
from monai_deepssim.data import READERS, PhantomBrainDataset, Reader, files_of, list_images, load_slice, scan_images


class DigitsReader(Reader):
    """Volumes as nested lists of numbers in a text file: sagittal, coronal and axial slices in RAS order."""

    name = "Digits"
    suffixes = (".digits",)
    taken_as = "a volume"
    extra = "demo"

    def recognizes(self, head):
        return head.startswith(b'{"digits')

    def volume_shape(self, files):
        return self._load(files).shape

    def read(self, files, index, slice_axis):
        volume = self._load(files)
        index = volume.shape[slice_axis] // 2 if index is None else index
        return volume.take(index, slice_axis).T[::-1, ::-1], None

    def _load(self, files):
        return np.concatenate([np.array(json.loads(Path(file).read_text())["digits"]) for file in files], axis=2)


class NeedyReader(DigitsReader):
    """A format that needs a package which is not installed."""

    def read(self, files, index, slice_axis):
        import a_package_that_nobody_has  # noqa: F401


class PartsReader(DigitsReader):
    """A format whose volumes lie in several files of a folder; one whose name begins with an underscore has none."""

    def gather(self, paths, *, all_files=False):
        is_index = {path: path.name.startswith("_") for path in paths}
        folders = sorted({path.parent for path in paths})
        volumes = [tuple(path for path in paths if path.parent == folder and not is_index[path]) for folder in folders]
        return volumes, {path: "an index" for path in paths if is_index[path]}


@pytest.fixture
def register(monkeypatch):
    """Add a reader for the time of a test."""

    def append(reader):
        monkeypatch.setattr("monai_deepssim.data.readers.READERS", [*READERS, reader])

    return append


@pytest.fixture
def volume():
    return np.random.default_rng(0).permutation(6 * 7 * 8).reshape(6, 7, 8)


def write(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"digits": np.asarray(volume).tolist()}))


def test_a_format_is_one_line(tmp_path, volume, register):
    write(tmp_path / "a.digits", volume)
    write(tmp_path / "without_suffix", volume)
    with pytest.raises(UnusableInputError, match=r"no images in it .*PNG.* are read"):
        list_images(tmp_path)

    register(DigitsReader())

    items = list_images(tmp_path, slices="2:4", slice_axis=1)
    assert [item["path"] for item in items] == [
        f"{name}#y={y}" for name in ("a.digits", "without_suffix") for y in (2, 3)
    ]
    image = load_slice(items[1])[0].numpy()
    plane = volume[:, 3].T[::-1, ::-1]
    assert image == pytest.approx((plane - plane.min()) / (plane.max() - plane.min()))
    assert [item["path"] for item in scan_images(tmp_path, extensions=["digits"]).items] == ["a.digits"]
    with pytest.raises(UnusableInputError, match=r"not a PNG, .* or Digits image"):
        load_slice({"image": __file__})


def test_an_audit_finds_copies_in_a_format_of_ones_own(tmp_path, register):
    phantoms = [item["image"].as_tensor() for item in PhantomBrainDataset(8, seed=5, progress=False)]
    for number, image in enumerate(phantoms[:6]):
        ras = (image[0].numpy()[::-1, ::-1].T * 255).round()[:, :, None]
        write(tmp_path / "training" / f"{number}.digits", ras)
    synthetic = torch.stack([phantoms[2].flip(2), phantoms[6], phantoms[7]])

    register(DigitsReader())

    result = find_copies(str(tmp_path / "training"), synthetic, controls=None)
    copies = result.matches[result.matches["label"] == "duplicate"]
    assert copies[["synthetic_path", "training_path"]].to_numpy().tolist() == [["synthetic[0]", "2.digits"]]


def test_a_format_may_have_several_files_to_a_volume_and_files_without_one(tmp_path, volume, register):
    for part in range(2):
        write(tmp_path / "P1" / f"{part}.digits", volume[:, :, 4 * part : 4 * part + 4])
        write(tmp_path / "P2" / f"{part}.digits", volume[:, :, part : part + 1])
    write(tmp_path / "P2" / "_index.digits", volume)

    register(PartsReader())

    listing = scan_images(tmp_path, slices=-1)
    assert [item["path"] for item in listing.items] == ["P1/0.digits#z=7", "P2/0.digits#z=1"]
    assert [Path(file).name for file in files_of(listing.items[0])] == ["0.digits", "1.digits"]
    assert listing.ignored == [{"path": "P2/_index.digits", "reason": "an index"}]
    assert load_slice(listing.items[0]).shape == (1, 7, 6)


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path, volume, register):
    write(tmp_path / "a.digits", volume)
    register(NeedyReader())
    with pytest.raises(UnusableInputError, match=r"a_package_that_nobody_has: pip install 'monai-deepssim\[demo\]'"):
        load_slice(list_images(tmp_path)[0])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float64])
def test_a_reader_may_give_numbers_of_any_type(tmp_path, register, dtype):
    class TypedReader(DigitsReader):
        def read(self, files, index, slice_axis):
            return np.array([[100, 120], [0, 200]], dtype=dtype), None

    write(tmp_path / "a.digits", np.zeros((2, 2, 2)))
    register(TypedReader())
    assert load_slice(list_images(tmp_path)[0])[0].numpy() == pytest.approx(np.array([[0.5, 0.6], [0, 1]]))


def test_a_reader_that_gives_no_plane_is_refused(tmp_path, register):
    class BatchReader(DigitsReader):
        def read(self, files, index, slice_axis):
            return np.zeros((1, 8, 9)), None

    write(tmp_path / "a.digits", np.zeros((2, 2, 2)))
    register(BatchReader())
    with pytest.raises(UnusableInputError, match=r"its reader gave an array of shape \(1, 8, 9\)"):
        load_slice(list_images(tmp_path)[0])


def test_a_damaged_file_of_any_format_is_listed_and_refused(tmp_path, register):
    (tmp_path / "a.digits").write_text("damaged")
    register(DigitsReader())
    (item,) = list_images(tmp_path)
    with pytest.raises(UnusableInputError, match=r"a\.digits: the file cannot be read"):
        load_slice(item)


def test_a_suffix_that_gets_a_reader_is_not_among_the_unread_any_more(tmp_path, register):
    Image.new("L", (4, 4)).save(tmp_path / "a.pcx")
    (item,) = list_images(tmp_path)  # an image, and reported so: it is not passed over
    with pytest.raises(UnusableInputError, match="not a PNG"):
        load_slice(item)

    class PaintbrushReader(DigitsReader):
        suffixes = (".pcx",)

    register(PaintbrushReader())
    with pytest.raises(UnusableInputError, match="cannot be read"):
        load_slice(item)
