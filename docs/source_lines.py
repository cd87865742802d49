"""Shows lines of the source on pages, as they are when the site is built.

`<!-- code: rules.adam: Adam.accumulate, Adam.move -->` becomes a box that opens, with these two
methods of `src/torchwise/rules/adam.py`. Several files are separated by semicolons.
"""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent / "src" / "torchwise"
_MARK = re.compile(r"^<!-- code: (.+?) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark; mkdocs calls this for every page."""
    return _MARK.sub(lambda match: _box(match[1]), markdown)


def _box(mark: str) -> str:
    files = [entry.split(":", 1) for entry in mark.split(";")]
    paths = [module.strip().replace(".", "/") + ".py" for module, _ in files]
    parts = [
        _lines(_PACKAGE / path, name.strip())
        for path, (_, names) in zip(paths, files, strict=True)
        for name in names.split(",")
    ]
    block = "```python\n" + "\n".join(parts) + "```\n"
    title = ", ".join(f"`{path}`" for path in paths)
    return f'??? quote "The lines of code: {title}"\n\n{textwrap.indent(block, "    ")}'


def _lines(path: Path, name: str) -> str:
    """Return the source of a function, or of a method as `Class.method`, without its docstring."""
    text = path.read_text()
    node: Any = ast.parse(text)
    for part in name.split("."):
        found = [one for one in node.body if getattr(one, "name", None) == part]
        if not found:
            raise LookupError(f"{path} has no {name}, of which a page shows the lines")
        (node,) = found
    lines = text.splitlines(keepends=True)
    body = range(node.lineno - 1, node.end_lineno)
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        body = [line for line in body if not first.lineno - 1 <= line < first.end_lineno]
    return textwrap.dedent("".join(lines[line] for line in body))
