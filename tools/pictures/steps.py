"""The steps of a request in words: what has happened when the event of docs/trace.md comes."""

from __future__ import annotations

from typing import Final, NamedTuple


class StepText(NamedTuple):
    """A step's short name, what it means, and where registers have moved: "in", "load", "save", "out" or ""."""

    name: str
    meaning: str
    moves: str = ""


TEXTS: Final[dict[str, StepText]] = {
    "take": StepText(
        "slot taken", "The client owns one of the 32 slots; the slot's bit in the mask of free slots is clear."
    ),
    "fill": StepText(
        "page filled",
        "Operation, handle and six registers have been stored in the message page, which no other code can write.",
        "in",
    ),
    "post": StepText(
        "posted",
        "The slot's index is in the ring, and the tail has advanced: the server may fetch it.",
    ),
    "fetch": StepText(
        "fetched",
        "A server thread has taken the oldest index out of the ring: the head has advanced. By a direct switch it has "
        "been given the slot.",
    ),
    "map": StepText(
        "page mapped", "The message page is mapped in the server, writable and not executable, at the slot's address."
    ),
    "load": StepText("loading", "Ring 3 of the server is about to load the registers from the message page."),
    "call": StepText("handler called", "The registers have been loaded; the handler of the operation begins.", "load"),
    "save": StepText("saving", "The handler has ended; its registers are about to be stored in the message page."),
    "reply": StepText(
        "replied",
        "The registers are in the message page, and the server has called its gate with a reply type.",
        "save",
    ),
    "unmap": StepText(
        "page unmapped",
        "The page-table entry is zero. INVLPG, or the load of CR3 that follows, drops what the TLB holds of it: the "
        "server can no longer reach the page.",
    ),
    "convert": StepText("converted", "Policy has checked the reply and written what its type allows."),
    "replied": StepText("taken by policy", "Policy has dealt with the reply to a request that it had posted itself."),
    "wake": StepText("client awake", "The client runs again, and the slot is its own."),
    "reload": StepText(
        "registers returned", "The results are in the message page and about to be, or already, the client's.", "out"
    ),
    "release": StepText(
        "slot released", "The slot's bit is set in the mask of free slots, or the slot goes to a thread that waits."
    ),
    "abandon": StepText("abandoned", "The client was killed or interrupted; the reply will release the slot."),
}
DIRECT: Final[dict[str, StepText]] = {
    "post": StepText(
        "handed over", "A server thread sleeps, and gets the request by a direct switch: nothing goes through the ring."
    ),
    "fetch": StepText(
        "received", "The server's thread runs in the client's place, with its own stack and page tables."
    ),
}
"""The same of a request that takes the direct switch, where it is different."""


def text_of(kind: str, direct: bool) -> StepText:
    """Return a step in words; `direct`: of a request that takes the direct switch."""
    return DIRECT.get(kind, TEXTS[kind]) if direct else TEXTS[kind]
