"""One page of HTML, without network, on which one steps through the requests of a run with the arrow keys.

`page.html` is its frame, `page.css` its look, `page.js` what steps; the run itself is JSON in it.  A content security
policy names both by their hashes and allows nothing else, and the JSON has no `<`: names from disk images stay text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Final

from callgate.tools.pictures.page_data import page_data
from callgate.tools.pictures.records import RunRecord

MARK: Final = b"<!-- callgate trace: page -->"


def draw(recording: RunRecord) -> str:
    """Return the page."""
    here = files("callgate.tools.pictures")
    frame, style, script = (here.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    parts = {
        "@STYLE_HASH@": digest(style),
        "@SCRIPT_HASH@": digest(script),
        "@STYLE@": style,
        "@SCRIPT@": script,
        "@DATA@": as_json(page_data(recording)),
    }
    shown = frame
    for mark, text in parts.items():  # the data come last: what they hold is not looked at again
        before, _, after = shown.partition(mark)
        shown = before + text + after
    return shown


def digest(text: str) -> str:
    """Return the hash by which a content security policy allows a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_json(data: object) -> str:
    """Return JSON that cannot end the element it stands in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
