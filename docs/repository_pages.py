"""Adds CHANGELOG.md and CONTRIBUTING.md to the site, while it is built."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parent.parent
_PAGES = {
    "CHANGELOG.md": "What came when in torchwise.",
    "CONTRIBUTING.md": "How to work on torchwise: setting up, testing, adding an optimizer.",
}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Append a page for each; mkdocs calls this once."""
    for name, description in _PAGES.items():
        front = f"---\nsearch:\n  boost: 0.1\ndescription: {description}\n---\n\n"
        text = front + (_ROOT / name).read_text()
        files.append(File.generated(config, name.lower(), content=text))
    return files
