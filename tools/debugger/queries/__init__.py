"""Queries over a history: each runs through a stretch of the past again and lists the moments that it looks for.

Nothing has to be set up beforehand.  The system stands where it stood afterwards, also after Ctrl-C.
"""

from callgate.tools.debugger.queries.accesses import Accesses, Fact, Touch, becomes, touches
from callgate.tools.debugger.queries.requests import NAMES, RequestRow, requests_between
from callgate.tools.debugger.queries.scanning import MOST, Answer, Stretch, before_instruction

__all__ = [
    "MOST",
    "NAMES",
    "Accesses",
    "Answer",
    "Fact",
    "RequestRow",
    "Stretch",
    "Touch",
    "becomes",
    "before_instruction",
    "requests_between",
    "touches",
]
