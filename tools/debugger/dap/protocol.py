"""Messages: JSON objects, each after a header with its length (DAP, "Base Protocol")."""

from __future__ import annotations

import json
from threading import Lock
from typing import IO, Any, Final

LONGEST: Final = 16 << 20
"""Bytes of a message."""
LONGEST_LINE: Final = 4096
HEADER: Final = b"content-length:"
SHOWN_WHERE_ASKED: Final = (
    *("evaluate", "completions", "setVariable", "dataBreakpointInfo", "variables", "scopes", "stackTrace", "threads"),
    *("source", "loadedSources", "disassemble", "readMemory", "writeMemory"),
)
"""Requests of a view of the client, which shows there why it has got no answer.  The user is told of all others."""

KINDS: Final = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}
"""What JSON has for the types of arguments, in words."""


class Malformed(ValueError):
    """A message that cannot be understood; the stream stands after it."""


class EndOfStream(EOFError):
    """There will be no more messages, or none whose beginning can be found."""


class RequestError(Exception):
    """A request that cannot be carried out: the text is for the user."""


def read_message(stream: IO[bytes]) -> dict[str, Any]:
    """Return the next message; Malformed, EndOfStream."""
    length = _length(stream)
    body = stream.read(length)
    if len(body) < length:
        raise EndOfStream("the stream ended within a message")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Malformed("not an object")
    return message


def _length(stream: IO[bytes]) -> int:
    """Read a header up to its empty line; lines that are none of a header are passed over."""
    length = None
    while True:
        line = stream.readline(LONGEST_LINE)
        if not line:
            raise EndOfStream("the stream has ended")
        if not line.strip():
            if length is not None:
                return length
            continue
        if line.lower().startswith(HEADER):
            text = line[len(HEADER) :].strip()
            if not text.isdigit() or int(text[:20]) > LONGEST:
                raise EndOfStream(f"no length of a message: {text[:40]!r}")
            length = int(text)


class Sender:
    """Sends responses and events; a client that has gone away is noticed by the reader."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.lock = Lock()
        self.sequence = 0
        self.answered = 0  # the last request that has a response
        self.stops = True  # False: events that tell where the system stands are not sent

    def send(self, kind: str, **fields: object) -> None:
        """Send a message."""
        with self.lock:
            self.sequence += 1
            body = json.dumps({"seq": self.sequence, "type": kind, **fields}).encode()
            try:
                self.stream.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
                self.stream.flush()
            except (OSError, ValueError):  # ValueError: it has been closed
                return

    def event(self, name: str, **body: object) -> None:
        """Send an event."""
        if name == "stopped" and not self.stops:
            return
        self.send("event", event=name, body=body)

    def respond(self, request: dict[str, Any], body: dict[str, Any] | None = None) -> None:
        """Send that a request has been carried out."""
        self.answered = request["seq"]
        self.send("response", request_seq=request["seq"], success=True, command=request["command"], body=body or {})

    def refuse(self, request: dict[str, Any], reason: str) -> None:
        """Send that a request has not been carried out, and why."""
        self.answered = request["seq"]
        command = request["command"]
        error = {"id": 1, "format": "{reason}", "variables": {"reason": reason}}
        body = {"error": error | {"showUser": command not in SHOWN_WHERE_ASKED}}
        fields = {"request_seq": request["seq"], "success": False, "command": command}
        self.send("response", **fields, message=reason, body=body)


class Arguments:
    """The arguments of a request, each with the type that it must have; RequestError for another one."""

    def __init__(self, values: object) -> None:
        self.values: dict[str, Any] = values if isinstance(values, dict) else {}

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        return str(self._typed(name, str, default))

    def number(self, name: str, default: int | None = None) -> int:
        """Return a whole number."""
        value = self._typed(name, int, default)
        if isinstance(value, bool):
            raise RequestError(f"{name} must be {KINDS[int]}")
        return int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a truth value."""
        return bool(self._typed(name, bool, default))

    def some(self, name: str) -> list[Arguments]:
        """Return a list of objects, empty if there is none."""
        return [Arguments(item) for item in self._typed(name, list, [])]

    def texts(self, name: str) -> list[str]:
        """Return a list of texts, empty if there is none."""
        found: list[str] = self._typed(name, list, [])
        if not all(isinstance(item, str) for item in found):
            raise RequestError(f"{name} must be a list of texts")
        return found

    def within(self, name: str) -> Arguments:
        """Return an object, an empty one if there is none."""
        return Arguments(self._typed(name, dict, {}))

    def address(self, name: str) -> int:
        """Return an address that is written as a number."""
        try:
            return int(self.text(name), 0)
        except ValueError:
            raise RequestError(f"{name}: {self.text(name)!r} is no address") from None

    def _typed(self, name: str, kind: type, default: object) -> Any:
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, kind):
            raise RequestError(f"{name} is missing" if value is None else f"{name} must be {KINDS[kind]}")
        return value
