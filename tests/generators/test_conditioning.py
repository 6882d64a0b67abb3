"""Named variables and vectors that condition a generator."""

import numpy as np
import pytest
import torch

from monai_deepssim.errors import UnusableInputError
from monai_deepssim.generators import VariableScaling, read_vectors, variable_values

ITEMS = [{"path": "a.png", "Age": "20", "sex": "0"}, {"path": "b.png", "Age": " 70 ", "sex": "1"}]


def test_variables_are_scaled_by_their_range_in_the_training_images():
    values = variable_values(ITEMS, ["age", "SEX"])
    assert values == [[20.0, 0.0], [70.0, 1.0]]
    scaling = VariableScaling.of(("age", "sex"), values)
    torch.testing.assert_close(scaling.context([20.0, 0.0]), torch.tensor([[0.0, 0.0]]))
    torch.testing.assert_close(scaling.context([80.0, 1.0]), torch.tensor([[1.2, 1.0]]))  # held-out, outside
    assert VariableScaling.of(("sex",), [[1.0], [1.0]]).context([1.0]).item() == 0.0
    with pytest.raises(ValueError, match="got 1 values, want 2"):
        scaling.context([20.0])


@pytest.mark.parametrize("cell", ["", None, "F", "nan", "inf", "12,5"])
def test_a_cell_that_is_no_finite_number_is_refused_with_the_image_and_the_column(cell):
    with pytest.raises(UnusableInputError, match=r"images\.csv: age of b\.png is .*, wanted a finite number"):
        variable_values([ITEMS[0], {"path": "b.png", "age": cell}], ["age"], "images.csv")


def test_a_missing_column_is_refused_with_the_columns_that_there_are():
    with pytest.raises(UnusableInputError, match=r"a\.png has no variable 'agee'; it has age, sex"):
        variable_values(ITEMS, ["agee"])
    with pytest.raises(UnusableInputError, match="it has none"):
        variable_values([{"path": "a.png", "image": "a.png", "patient_id": ""}], ["age"])


@pytest.mark.parametrize("columns", [[], (), "age"])
def test_columns_have_to_be_a_list_of_names(columns):
    with pytest.raises(UnusableInputError, match="wanted a list of names"):
        variable_values(ITEMS, columns)


def test_vectors_read_from_each_format_are_the_same(tmp_path):
    vectors = {"sub-1/t1.png": [0.5, -1.0, 2.0], "sub-2/t1.png": [0.0, 1.0, 3.0]}
    np.savez(tmp_path / "v.npz", **{name: np.array(vector) for name, vector in vectors.items()})
    torch.save({name: torch.tensor(vector) for name, vector in vectors.items()}, tmp_path / "v.pt")
    rows = ["path,patient_id,e0,e1,e2", *(f"{n},7,{','.join(map(str, v))}" for n, v in vectors.items())]
    (tmp_path / "v.csv").write_text("\n".join(rows))
    for suffix in ("npz", "pt", "csv"):
        read = read_vectors(tmp_path / f"v.{suffix}")
        assert {name: vector.tolist() for name, vector in read.items()} == {n: [v] for n, v in vectors.items()}, suffix
        assert all(vector.dtype == torch.float32 for vector in read.values())


class Unsafe:
    def __reduce__(self):
        return print, ("this would run",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    torch.save({"a.png": Unsafe()}, tmp_path / "v.pt")
    with pytest.raises(UnusableInputError, match="code of a checkpoint is never run"):
        read_vectors(tmp_path / "v.pt")
    assert capsys.readouterr().out == ""


def test_vectors_that_do_not_fit_are_refused(tmp_path):
    np.savez(tmp_path / "uneven.npz", a=np.ones(3), b=np.ones(4))
    with pytest.raises(UnusableInputError, match="vector of b has 4 numbers, wanted 3 finite ones"):
        read_vectors(tmp_path / "uneven.npz")
    np.savez(tmp_path / "nan.npz", a=np.array([1.0, np.nan]))
    with pytest.raises(UnusableInputError, match="vector of a has NaN"):
        read_vectors(tmp_path / "nan.npz")
    (tmp_path / "text.csv").write_text("path,e0\na.png,red\n")
    with pytest.raises(UnusableInputError, match=r"text\.csv, line 2: e0 of a\.png is 'red'"):
        read_vectors(tmp_path / "text.csv")
    for name in ("missing.npz", "vectors.npy"):
        with pytest.raises(UnusableInputError, match=name):
            read_vectors(tmp_path / name)
