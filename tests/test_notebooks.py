"""Every notebook runs from top to bottom at small scale, and defines no functions."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

SMALL = {
    "are_solutions_connected": "WIDTHS = [4, 16, 64]\nPAIRS = 2\nSTEP_SIZE, N_STEPS = 0.02, 50",
    "does_depth_cost_neurons": (
        "WIDTHS = [8, 16]\nSEEDS = 2\nN_STEPS = 20\nDIMENSIONS, N_NEURONS, HORIZON = [2, 8], 32, 0.1\n"
        "N_ORDERS, N_SAMPLES = 5, 100"
    ),
    "does_the_loss_change_depend_on_n": (
        "WIDTHS = [4, 16, 64]\nSEEDS = 2\nSTEP_SIZE, N_STEPS = 1e-3, 20\nN_SAMPLES = 50"
    ),
}


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_defines_no_functions_and_holds_no_output(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not [cell.source for cell in cells if "def " in cell.source]
    assert not [cell.outputs for cell in cells if cell.outputs]


@pytest.mark.filterwarnings("ignore")  # of the notebook client's own dependencies
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    parameters[0].source = SMALL[path.stem]
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    images = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(images) >= 2
