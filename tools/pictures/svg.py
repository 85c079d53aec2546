"""SVG as text: elements with escaped text and attributes; nothing else is known here."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape, quoteattr

NAMESPACE: Final = "http://www.w3.org/2000/svg"
ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
REFUSED: Final = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)
CHARACTER: Final = 6.7  # pixels of one character, of the monospaced font at 11 px


def printable(words: str) -> str:
    """Return text with escapes for what XML does not take, for control characters and for changes of direction."""
    return REFUSED.sub(lambda found: f"\\u{ord(found[0]):04x}", words)


def element(name: str, content: str = "", title: str = "", **attributes: str | float) -> str:
    """Return an element; `content` is markup, `title` is text.  `_` in names of attributes stands for `-`."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(str(value))}" for key, value in attributes.items()
    )
    inner = (f"<title>{escape(printable(title))}</title>" if title else "") + content
    return f"<{name}{shown}>{inner}</{name}>" if inner else f"<{name}{shown}/>"


def text(x: float, y: float, words: str, **attributes: str) -> str:
    """Return a line of text."""
    shown: dict[str, str | float] = {"x": number(x), "y": number(y), **attributes}
    return element("text", escape(printable(words)), "", **shown)


def fit(words: str, width: float) -> str:
    """Return text cut to what `width` pixels hold."""
    most = max(1, int(width / CHARACTER))
    words = printable(words)
    return words if len(words) <= most else words[: most - 1] + ELLIPSIS


def number(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def document(width: float, height: float, title: str, style: str, body: list[str], kind: str) -> str:
    """Return a whole file; `kind` stands at its beginning, so that an earlier one is recognised."""
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- callgate {kind} -->\n'
        f'<svg xmlns="{NAMESPACE}" width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}" role="img" aria-labelledby="title">\n'
        f'<title id="title">{escape(printable(title))}</title>\n<style>{style}</style>\n'
    )
    return head + "\n".join(body) + "\n</svg>\n"
