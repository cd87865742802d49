"""Imports run in one direction, and torch is imported by the demo's comparison alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import torchwise

SOURCE = Path(torchwise.__file__).parent
# A layer may import those before it and itself.
LAYERS = ["transforms", "optimizers", "checkpoint", "state_dict", "optim", "demo"]
TORCH_ALLOWED = {"demo/torch_side.py"}


def imported_modules(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_downwards(layer):
    above = LAYERS[LAYERS.index(layer) + 1 :]
    files = sorted((SOURCE / layer).rglob("*.py"))
    assert files
    for file in files:
        wrong = {
            module
            for module in imported_modules(file)
            for name in above
            if f"{module}.".startswith(f"torchwise.{name}.")
        }
        assert not wrong, f"{file} imports {wrong}"


def test_every_folder_is_a_layer():
    folders = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(LAYERS)


def test_torch_stays_out():
    importers = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if any(module.split(".")[0] == "torch" for module in imported_modules(file))
    }
    assert importers <= TORCH_ALLOWED
    code = "import sys, torchwise; sys.exit(bool({'torch', 'flax', 'equinox'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_is_curated():
    assert torchwise.__all__ == sorted(torchwise.__all__)
    assert all(hasattr(torchwise, name) for name in torchwise.__all__)
