"""Execute the notebooks: every `.py` here becomes the `.ipynb` of the same name.

`python notebooks/run.py` writes; with `--check` nothing is written, and any error, warning or text
on stderr fails. Names of notebooks limit it to these. Needs the docs and test extras.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LIMIT = 120  # seconds for one cell
SMALL = 300_000  # bytes


def sources(names: list[str]) -> list[Path]:
    """Return the named notebooks, or all."""
    found = sorted(FOLDER.glob("[0-9]*.py"))
    unknown = set(names) - {path.stem for path in found}
    if unknown:
        sys.exit(f"no such notebooks: {', '.join(sorted(unknown))}")
    return [path for path in found if not names or path.stem in names]


def executed(path: Path) -> nbformat.NotebookNode:
    """Execute in a fresh kernel; a cell that raises ends it.

    Ids and metadata depend on the source alone, so that the file changes only where outputs do.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    NotebookClient(
        notebook,
        timeout=LIMIT,
        kernel_name=KERNEL["name"],
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index}", nbformat.NotebookNode()
    return notebook


def complaints(notebook: nbformat.NotebookNode) -> str:
    """Return what the cells wrote to stderr."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.get("name") == "stderr")


def main() -> None:
    """Execute the notebooks, and write them unless only a check is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="without .py; all if none is given")
    parser.add_argument("--check", action="store_true", help="execute, but write nothing")
    options = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    for path in sources(options.names):
        start = time.perf_counter()
        notebook = executed(path)
        if complaints(notebook):
            sys.exit(f"{path.stem} wrote to stderr:\n{complaints(notebook)}")
        text = nbformat.writes(notebook) + "\n"
        if len(text.encode()) > SMALL:
            sys.exit(f"{path.stem} has {len(text.encode())} bytes: draw smaller figures")
        if not options.check:
            path.with_suffix(".ipynb").write_text(text)
        print(f"{path.stem}: {time.perf_counter() - start:.1f} s, {len(text.encode()):,} bytes")


if __name__ == "__main__":
    main()
