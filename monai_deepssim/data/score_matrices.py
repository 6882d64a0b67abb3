"""Score matrices and their index files, as they are published with the DeepSSIM data set."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.files import atomic_file

__all__ = ["ScoreMatrix", "read_score_matrix", "write_score_matrix"]

# Of the published files: each holds one array, of this name.
_ARRAY = "data"


@dataclass(frozen=True)
class ScoreMatrix:
    """The scores of all real images with all synthetic ones.

    Attributes:
        scores: ``(R, S)``, float16 in the published files.
        real_keys: keys of the R real images, such as ``IXI002___training``.
        synth_keys: keys of the S synthetic ones, such as ``IXI002___gen-3``.
    """

    scores: np.ndarray
    real_keys: Sequence[str]
    synth_keys: Sequence[str]

    def look_up(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Find the scores of pairs of keys.

        Args:
            pairs: the keys of the real and of the synthetic image of N pairs.

        Returns:
            ``(N,)``, in the precision of the matrix.

        Raises:
            UnusableInputError: when the matrix has no such image.

        Example:
            >>> matrix = ScoreMatrix(np.array([[0.1, 0.9]]), ["a___training"], ["a___gen-0", "a___gen-1"])
            >>> matrix.look_up([("a___training", "a___gen-1")])
            array([0.9])
        """
        rows, columns = ({key: i for i, key in enumerate(keys)} for keys in (self.real_keys, self.synth_keys))
        for position, (known, side) in enumerate(((rows, "real"), (columns, "synthetic"))):
            missing = [pair[position] for pair in pairs if pair[position] not in known]
            if missing:
                raise UnusableInputError(
                    f"{missing[0]}: the score matrix has no such {side} image, nor {len(set(missing)) - 1} others. "
                    "Give the index files that belong to the matrix."
                )
        return self.scores[[rows[real] for real, _ in pairs], [columns[synth] for _, synth in pairs]]


def read_score_matrix(
    matrix_file: str | os.PathLike[str],
    real_index_file: str | os.PathLike[str],
    synth_index_file: str | os.PathLike[str],
) -> ScoreMatrix:
    """Read a score matrix and the index files that name its rows and columns.

    Args:
        matrix_file: path of a ``.npz`` with ``data``, ``(R, S)``: real images by synthetic ones.
        real_index_file: path of a ``.npz`` with ``data``, R keys.
        synth_index_file: path of a ``.npz`` with ``data``, S keys.

    Returns:
        The matrix. Scores stay in the precision that they have.

    Raises:
        UnusableInputError: when a file is missing or is another, or the three do not fit together.

    Example:
        >>> import tempfile
        >>> files = [Path(tempfile.mkdtemp(), name) for name in ("deepssim.npz", "real.npz", "synth.npz")]
        >>> write_score_matrix(ScoreMatrix(np.eye(1, 2), ["a___training"], ["a___gen-0", "a___gen-1"]), *files)
        >>> read_score_matrix(*files).synth_keys
        ['a___gen-0', 'a___gen-1']
    """
    scores = _read_array(Path(matrix_file), "a score matrix")
    keys = [_read_array(Path(file), "an index of keys") for file in (real_index_file, synth_index_file)]
    if scores.ndim != 2 or scores.dtype.kind != "f":
        raise UnusableInputError(
            f"{matrix_file}: {_ARRAY} is {scores.dtype} of shape {scores.shape}, wanted floating-point scores, real x "
            "synthetic. Give a score matrix."
        )
    for file, names in zip((real_index_file, synth_index_file), keys, strict=True):
        if names.ndim != 1 or names.dtype.kind != "U":
            raise UnusableInputError(
                f"{file}: {_ARRAY} is {names.dtype} of shape {names.shape}, wanted a list of keys such as "
                "IXI002___training. Give an index file."
            )
    if scores.shape != (len(keys[0]), len(keys[1])):
        raise UnusableInputError(
            f"{matrix_file}: the matrix is {scores.shape[0]} x {scores.shape[1]}, and its index files name "
            f"{len(keys[0])} real and {len(keys[1])} synthetic images. Give files that were written together."
        )
    return ScoreMatrix(scores, keys[0].tolist(), keys[1].tolist())


def write_score_matrix(
    matrix: ScoreMatrix,
    matrix_file: str | os.PathLike[str],
    real_index_file: str | os.PathLike[str],
    synth_index_file: str | os.PathLike[str],
) -> None:
    """Write a score matrix and its index files as they are published, scores in half precision.

    Args:
        matrix: what is written.
        matrix_file: path of the ``.npz`` of the scores.
        real_index_file: path of the ``.npz`` of the real images' keys.
        synth_index_file: path of the ``.npz`` of the synthetic images' keys.

    Raises:
        UnusableInputError: when a file cannot be written.
    """
    arrays = (matrix.scores.astype(np.float16), np.array(matrix.real_keys), np.array(matrix.synth_keys))
    for file, array in zip((matrix_file, real_index_file, synth_index_file), arrays, strict=True):
        with atomic_file(file) as stream:
            np.savez(stream, data=array)


def _read_array(path: Path, wanted: str) -> np.ndarray:
    if not path.is_file():
        raise UnusableInputError(f"{path}: there is no such file, wanted {wanted}, a .npz with {_ARRAY}.")
    try:
        with np.load(path, allow_pickle=False) as file:
            array: np.ndarray = file[_ARRAY]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UnusableInputError(
            f"{path}: cannot be read as {wanted} ({error}). Wanted a .npz with one array named {_ARRAY}."
        ) from error
    return array
