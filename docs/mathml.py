"""Turns formulas into MathML while the pages are built: browsers need no script for them."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_content(content: str, **_: Any) -> str:
    """Replace what `pymdownx.arithmatex` marks; mkdocs calls this for every page."""
    return _FORMULA.sub(_converted, content)


def _converted(match: re.Match[str]) -> str:
    tex = html.unescape(match["tex"])
    if match["tag"] == "span":
        return convert(tex, display="inline")
    return f'<div class="formula">{convert(tex, display="block")}</div>'
