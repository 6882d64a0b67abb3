"""Score matrices and index files in the published form."""

import numpy as np
import pytest

from monai_deepssim.data import ScoreMatrix, read_score_matrix, write_score_matrix
from monai_deepssim.errors import UnusableInputError

REAL, SYNTH = ["IXI002___training", "IXI003___training"], ["IXI002___gen-0", "IXI002___gen-1", "IXI003___gen-0"]
SCORES = np.linspace(0, 1, 6, dtype=np.float16).reshape(2, 3)


@pytest.fixture
def files(tmp_path):
    """Files as NumPy writes them, with the published names inside."""
    paths = [tmp_path / name for name in ("deepssim.npz", "real.npz", "synth.npz")]
    for path, array in zip(paths, (SCORES, np.array(REAL), np.array(SYNTH)), strict=True):
        np.savez(path, data=array)
    return paths


def test_a_published_matrix_is_read_with_its_keys_and_in_its_precision(files):
    matrix = read_score_matrix(*files)
    assert (matrix.real_keys, matrix.synth_keys) == (REAL, SYNTH)
    scores = matrix.look_up([("IXI003___training", "IXI002___gen-1"), ("IXI002___training", "IXI003___gen-0")])
    assert scores.dtype == np.float16
    assert scores.tolist() == [SCORES[1, 1], SCORES[0, 2]]


def test_what_is_written_has_the_published_arrays(tmp_path):
    files = [tmp_path / name for name in ("chen.npz", "real.npz", "synth.npz")]
    write_score_matrix(ScoreMatrix(SCORES.astype(np.float32), REAL, SYNTH), *files)
    arrays = [dict(np.load(file)) for file in files]
    assert [list(one) for one in arrays] == [["data"]] * 3
    assert arrays[0]["data"].dtype == np.float16
    np.testing.assert_array_equal(arrays[0]["data"], SCORES)
    assert [arrays[1]["data"].tolist(), arrays[2]["data"].tolist()] == [REAL, SYNTH]


def test_an_image_that_the_matrix_has_not_is_named(files):
    with pytest.raises(UnusableInputError, match="IXI009___gen-0: the score matrix has no such synthetic image"):
        read_score_matrix(*files).look_up([("IXI002___training", "IXI009___gen-0")])


@pytest.mark.parametrize(
    ("position", "array", "message"),
    [
        (0, {"data": SCORES[:, :2]}, "the matrix is 2 x 2, and its index files name 2 real and 3 synthetic"),
        (0, {"data": np.array(REAL)}, "wanted floating-point scores, real x synthetic"),
        (0, {"scores": SCORES}, "one array named data"),
        (1, {"data": SCORES}, "wanted a list of keys"),
        (2, {"data": np.array([{}, 1, 2], dtype=object)}, "cannot be read as an index of keys"),
    ],
)
def test_files_that_do_not_fit_are_refused(files, position, array, message):
    np.savez(files[position], **array)
    with pytest.raises(UnusableInputError, match=message):
        read_score_matrix(*files)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"0.1,0.2"])
def test_a_file_that_is_missing_or_damaged_is_named(files, content):
    files[0].unlink()
    if content is not None:
        files[0].write_bytes(content)
    with pytest.raises(UnusableInputError, match=r"deepssim\.npz: (there is no such file|cannot be read)"):
        read_score_matrix(*files)
