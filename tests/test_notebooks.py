"""The notebooks as they are kept: paired with their sources, executed, small and clean.

`python notebooks/run.py --check` executes them; it needs the docs extra.
"""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
CELL = re.compile(r"^# %%(.*)\n", re.MULTILINE)
SMALL = 300_000  # bytes
UNWANTED = ("Traceback", "Warning", "/tmp/", "/home/", "site-packages", " at 0x")

each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def cells_of_source(path):
    """The cells of the percent format: (type, text)."""
    before, *parts = CELL.split(path.read_text())
    assert before == ""
    cells = []
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        if title == " [markdown]":
            lines = body.strip().splitlines()
            assert all(line == "#" or line.startswith("# ") for line in lines)
            cells.append(("markdown", "\n".join(line[2:] for line in lines)))
        else:
            assert title == ""
            cells.append(("code", body.strip()))
    return cells


def notebook_of(source):
    return json.loads(source.with_suffix(".ipynb").read_text())


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_every_notebook_has_a_source():
    notebooks = {path.stem for path in FOLDER.glob("*.ipynb")}
    assert notebooks == {path.stem for path in SOURCES} != set()


@each
def test_cells_are_those_of_the_source(source):
    kept = [
        (cell["cell_type"], "".join(cell["source"]).strip())
        for cell in notebook_of(source)["cells"]
    ]
    assert kept == cells_of_source(source)


@each
def test_all_cells_have_been_executed_in_order(source):
    cells = code_cells(notebook_of(source))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


@each
def test_outputs_are_clean(source):
    outputs = [output for cell in code_cells(notebook_of(source)) for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output["output_type"] in ("stream", "display_data", "execute_result")
        assert output.get("name", "stdout") == "stdout"
        shown = "".join(output.get("text", [])) + "".join(
            output.get("data", {}).get("text/plain", [])
        )
        assert not [word for word in UNWANTED if word in shown]


@each
def test_notebook_is_small_and_portable(source):
    notebook = notebook_of(source)
    assert source.with_suffix(".ipynb").stat().st_size < SMALL
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
