"""Writes `Scalar` and `Schedule` into the reference, where their long unions would stand."""

import re
from typing import Any

from mkdocs.structure.pages import Page

_SCALAR = ("float", "int", "number", "ndarray", "Array")
_FUNCTION = r"Callable\[\[Any\], ?Any\]"


def _word(text: str) -> str:
    """Match a word, with or without the spans of a highlighted signature around it."""
    one = rf"<span[^>]*>{text}</span>"
    return rf"(?:<span[^>]*>{one}</span>|{one}|{text})"


_BAR = r"\s*" + _word(r"\|") + r"\s*"
_UNION = re.compile(_BAR.join(map(_word, _SCALAR)))
# In signatures every bracket and name has its span.
_CALLABLE = re.compile(
    "|".join((_FUNCTION, "".join(map(_word, ("Callable", r"\[\[", "Any", r"\],"))) + r"\s*"
              + "".join(map(_word, ("Any", r"\]")))))
)  # fmt: skip


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Replace the unions of the reference, when its links are made; mkdocs calls this for all."""
    if page.file.src_uri != "api.md":
        return output
    output = _UNION.sub('<a href="#scalar">Scalar</a>', output)
    return _CALLABLE.sub('<a href="#schedule">Schedule</a>', output)
