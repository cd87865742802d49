"""Every Python block of the documents runs, and every docstring's example."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import torchwise.rules

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python(?: title=\S+)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = [
    path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) if path.exists()
]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(torchwise.__path__, "torchwise.")
    if not module.name.endswith(("__main__", "torch_comparison"))
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_blocks_of_a_document_run_in_order(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(document.read_text())
    assert blocks or document.name != "README.md"
    namespace = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, str(document), "exec"), namespace)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.failed == 0
    rules = {rule.__module__ for rule in torchwise.rules.RULES}
    if name in rules | {"torchwise.optim.classes", "torchwise.transformation"}:
        assert results.attempted > 0
