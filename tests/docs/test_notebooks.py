"""Every notebook runs from its first cell to its last, and prints what is stored with it."""

import nbformat
import pytest
from tests.conftest import REPOSITORY

nbclient = pytest.importorskip("nbclient", reason="the extra `docs` is not installed")
NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell wrote to its standard output."""
    return [
        "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_stored_cells_are_those_of_a_run(path, tmp_path):
    """Its own assertions check what its text claims; numbers may differ by rounding elsewhere."""
    notebook = nbformat.read(path, as_version=4)
    stored = printed(notebook)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert [bool(text) for text in printed(notebook)] == [bool(text) for text in stored]
