"""The report of an exception that a server's Python has raised: its type and text, and the frames it came from."""

from __future__ import annotations

import linecache
from types import CodeType, TracebackType
from typing import Final

FRAMES: Final = 4  # of the last ones that are shown
RUNNERS: Final = (
    "callgate.kernel.",
    "callgate.server.probing",
    "callgate.server.hosted",
    "callgate.server.testing",
    "callgate.tools.",
    "importlib",
)
TEXT_LIMIT: Final = 200  # characters of an exception's text


def describe(error: BaseException) -> str:
    """Return type and text of an exception on one line; its text may be none, or raise in turn."""
    try:
        text = " ".join(str(error).split())[:TEXT_LIMIT]
    except Exception as other:  # noqa: BLE001 - the text is a server's Python, too
        text = f"(its text is not available: {type(other).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def last_frames(error: BaseException) -> list[str]:
    """Return a line for each of the last frames of servers' code that an exception has passed, innermost last.

    A frame is named by module and function, so that the report is the same wherever the package is installed.
    """
    found = []
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "?"))
        if not module.startswith(RUNNERS):
            found.append(_line(module, trace))
        trace = trace.tb_next
    return found[-FRAMES:]


def _line(module: str, trace: TracebackType) -> str:
    code: CodeType = trace.tb_frame.f_code
    source = linecache.getline(code.co_filename, trace.tb_lineno).strip()
    place = f"{module}, line {trace.tb_lineno}, in {code.co_name}"
    return f"{place}: {source}" if source else place
