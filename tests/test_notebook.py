"""The tutorial's notebook runs from its first cell to its last, and finds what was planted."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "find_copies.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_DATA_DIRECTORY", str(folder))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return folder, notebook


def test_it_goes_from_two_folders_to_a_filtered_set(executed):
    folder, notebook = executed
    words = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "4 of 4 planted copies found, 0 others called copies" in words
    assert "12 files are kept; 0 of them are copies" in words
    assert len(list((folder / "out" / "filtered").iterdir())) == 12


def test_it_has_the_parts_of_monais_tutorials():
    text = NOTEBOOK.read_text(encoding="utf-8")
    for heading in ("Setup environment", "Setup imports", "Setup data directory", "Cleanup data directory"):
        assert f"## {heading}" in text
    assert "print_config()" in text


def test_no_path_of_a_machine_is_left_in_it():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/home/" not in text
