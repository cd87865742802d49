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
        "pinning",
        "rounding",
        "doubles",
        "fence",
        "hyperparameter_types",
        "rule",
        "sparse",
        "structure",
        "passing_order",
        "alphabetical",
        "trees",
        "frames",
        "norms",
        "placement",
        "leaf",
        "jaxprs",
        "write_order",
        "strips",
        "apply",
        "gathering",
        "states",
        "preparation",
        "transformation",
    ),
    *(
        "schedules",
        "groups",
        "param_groups",
        "named_groups",
        "blocks",
        "rules",
        "checkpoint",
        "state_dict",
        "optax_states",
    ),
    *("quasi_newton", "averages", "optim", "nn", "dragon", "demo"),
]
# They stand beside the layers: `layouts` describes models, `public` has the names of the package,
# the others are the command line and what it uses.
OTHERS = {
    *("__main__", "array_norm", "cli", "comparison", "inspection", "signals"),
    *("gradient_accumulation", "layouts", "public"),
}
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
    assert not {"torch", "flax", "equinox"} & imported_by("import torchwise.public")


def imported_by(code):
    """The modules that a new process has after running some code."""
    run = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    return {*subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()}


def test_jax_waits_until_it_is_needed():
    """The command line looks out for signals before it imports what takes time."""
    assert not {"jax", "numpy", "argparse"} & imported_by("import torchwise, torchwise.__main__")
    assert "jax" not in imported_by("import torchwise.cli; from torchwise import checkpoint")
    assert "jax" in imported_by("import torchwise; torchwise.sgd")


def test_every_public_name_is_found_late_as_early():
    code = (
        "import torchwise, torchwise.public as public; "
        "assert torchwise.__all__ == dir(torchwise) == public.__all__; "
        "assert all(getattr(torchwise, name) is getattr(public, name) for name in public.__all__); "
        "assert torchwise.rules.RULES and not hasattr(torchwise, 'nothing')"
    )
    assert "torchwise.public" in imported_by(code)


def test_all_is_curated():
    assert torchwise.__all__ == sorted(torchwise.__all__)
    assert all(hasattr(torchwise, name) for name in torchwise.__all__)
