"""Adds the executed notebooks to the site, as pages with their figures, while it is built."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

_NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
_FOLDER = "notebooks"
# What the figures of each notebook show, in their order, for those who do not see them.
_SHOWN = {
    "1_compose_and_jit": (
        "Paths of torch, torchwise and optax on a valley, and their distances from torch. "
        "torchwise stays within rounding; optax's ema, and its Adagrad with default values, differ "
        "from the first step on",
        "The loss after 40 steps over the learning rate, and the points that gradient descent on "
        "the rate visits on its way to the minimum",
    ),
    "2_torch_to_jax_and_back": (
        "Left, the losses of the run that moves lie on those of the run that stays in torch. "
        "Right, their parameters differ by rounding; without momentum they differ a thousandfold",
    ),
    "3_groups_hooks_freezing": (
        "The loss, the gradient norms and the movement of both layers over the steps, with gaps "
        "where a layer is frozen",
        "Distances between steps on whole batches and on their parts: all of them are rounding",
    ),
}


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
    before, *others = text.split("![png](")
    shown = zip(_SHOWN[path.stem], others, strict=True)
    text = before + "".join(f"![{words}]({other}" for words, other in shown)
    title, _, rest = text.partition("\n")
    subject = title.removeprefix("# ")
    text = (
        f'---\ndescription: "A notebook with its outputs: {subject}, in torchwise."\n---\n\n'
        f"{title}\n\nA notebook, with its outputs: [{path.name}]({path.name}). To run it, install "
        f'the test and docs extras: `pip install -e ".[test,docs]"`.\n{rest}'
    )
    return text, {Path(name).name: image for name, image in found["outputs"].items()}
