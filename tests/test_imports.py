"""Imports run in one direction, and torch is imported by the demo's comparison alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import torchwise

SOURCE = Path(torchwise.__file__).parent
# A layer may import those before it and itself. A layer is a file or a folder.
LAYERS = [
    *(
        "numbers",
        "fields",
        "rounding",
        "doubles",
        "fence",
        "kinds",
        "rule",
        "sparse",
        "structure",
        "trees",
        "frames",
        "norms",
        "placement",
        "leaf",
        "strips",
        "apply",
        "gathering",
        "states",
        "preparation",
        "transformation",
    ),
    *("schedules", "param_groups", "blocks", "rules", "checkpoint", "state_dict", "optax_states"),
    *("quasi_newton", "averages", "optim", "nn", "dragon", "demo"),
]
# They stand beside the layers: `layouts` describes models, the others are used by nobody.
OTHERS = {"__main__", "array_norm", "cli", "gradient_accumulation", "inspection", "layouts"}
TORCH_ALLOWED = {"demo/torch_comparison.py"}


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
    folder = SOURCE / layer
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{layer}.py"]
    assert files
    for file in files:
        wrong = {
            module
            for module in imported_modules(file)
            for name in above
            if f"{module}.".startswith(f"torchwise.{name}.")
        }
        assert not wrong, f"{file} imports {wrong}"


def test_everything_is_a_layer():
    found = {path.stem for path in SOURCE.iterdir() if path.suffix in ("", ".py")}
    assert found - {"__pycache__", "__init__", "py"} == {*LAYERS} | OTHERS


def modules():
    """Every module, by its name."""
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ("torchwise", *file.relative_to(SOURCE).with_suffix("").parts)
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def test_no_import_cycles():
    """Imports under TYPE_CHECKING count, too; a package and its own modules are one."""
    names = dict(modules())
    graph = {
        name: {module for module in imported_modules(file) if module in names and module != name}
        for name, file in names.items()
        if file.name != "__init__.py"
    }
    done = set()

    def visit(name, path):
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def private_reaches(file):
    """Attributes with one leading underscore that the file itself does not define."""
    text = file.read_text()
    known = {"_replace", "_asdict", "_fields"}  # of NamedTuples
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
            owner = ast.unparse(node.value)
            own = f"self.{node.attr}" in text or owner in ("self", "cls", "super()")
            if not own and node.attr not in known:
                yield f"{file.name}: {ast.unparse(node)}"


@pytest.mark.parametrize("layer", ["optim", "nn", "state_dict", "blocks", "rules", "dragon"])
def test_nobody_reaches_into_private_attributes(layer):
    found = [reach for file in (SOURCE / layer).rglob("*.py") for reach in private_reaches(file)]
    assert not found


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
