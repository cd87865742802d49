"""Adds the executed notebooks to the site, as pages with their figures, while it is built."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

_NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
_FOLDER = "notebooks"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Append a page for each notebook, its images and the notebook; mkdocs calls this once."""
    for path in sorted(_NOTEBOOKS.glob("*.ipynb")):
        page, images = _converted(path)
        files.append(File.generated(config, f"{_FOLDER}/{path.stem}.md", content=page))
        files.append(File.generated(config, f"{_FOLDER}/{path.name}", content=path.read_bytes()))
        for name, image in images.items():
            files.append(File.generated(config, f"{_FOLDER}/{name}", content=image))
    return files


def _converted(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown with a link to itself, and its images by name."""
    resources = {"unique_key": f"{path.stem}_figure", "output_files_dir": "."}
    text, found = MarkdownExporter().from_filename(str(path), resources)
    text = text.replace("![png](", "![What the code above draws](")
    title, _, rest = text.partition("\n")
    text = f"{title}\n\nA notebook, with its outputs: [{path.name}]({path.name})\n{rest}"
    return text, {Path(name).name: image for name, image in found["outputs"].items()}
