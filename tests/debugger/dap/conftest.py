"""An editor's side of the protocol that is not ours: dap-python checks each message that the adapter sends."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forked import DEVNULL, PIPE, Forked

WAIT = 60  # seconds for an answer


def encoded(message: dict[str, Any]) -> bytes:
    """Return a message as it is sent."""
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


class Editor:
    """A client of one adapter: `ask` sends a request and returns its response, `until` waits for an event."""

    def __init__(self, *arguments: str | Path) -> None:
        dap = pytest.importorskip("dap")
        self.dap = dap
        self.client = dap.Client("callgate")
        self.process = Forked("debug", "--dap", *arguments, stdin=PIPE, stderr=DEVNULL)
        self.messages: list[Any] = []  # checked by the client
        self.raw: list[dict[str, Any]] = []  # the same as they came
        self.seen = 0
        self.output = ""
        self.initialized = self.response(self.flush())

    def flush(self) -> int:
        """Send what the client has to send; return the number of its last request."""
        self.process.stdin.write(self.client.send())
        self.process.stdin.flush()
        return int(self.client._seq) - 1

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Return the next message; the client has to accept it."""
        head = self.process.stdout.readline()
        assert head, "the adapter has ended"
        blank = self.process.stdout.readline()
        body = self.process.stdout.read(int(head.partition(b":")[2]))
        message: dict[str, Any] = json.loads(body)
        self.check(message, head + blank + body)
        if message.get("event") == "output":
            self.output += message["body"]["output"]
        return message

    def plain_response(self, number: int) -> dict[str, Any]:
        """Return the response to a request that the client's types do not allow: nothing else is checked."""
        while True:
            length = int(self.process.stdout.readline().partition(b":")[2])
            self.process.stdout.readline()
            message: dict[str, Any] = json.loads(self.process.stdout.read(length))
            if message.get("request_seq") == number:
                return message

    def check(self, message: dict[str, Any], data: bytes) -> None:
        """Let the client take a message: pydantic's ValidationError for what is none of the protocol."""
        mistaken = not message["body"] or message.get("command") == "setExceptionBreakpoints"
        if message["type"] == "response" and mistaken:
            # dap-python 0.5 takes the body of an acknowledgement, and of this one, for the whole response.
            self.dap.base.Response.model_validate(message)
            self.client._pending_requests.pop(message["request_seq"])
            return
        if "hitBreakpointIds" in (message.get("body") or {}):  # it takes numbers of breakpoints for texts
            data = encoded(message | {"body": message["body"] | {"hitBreakpointIds": ["1"]}})
        list(self.client.receive(data))

    def response(self, number: int) -> dict[str, Any]:
        """Return the response to a request; events that come before it are kept."""
        while True:
            message = self.receive()
            if message["type"] == "response" and message["request_seq"] == number:
                return message
            self.raw.append(message)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the body of a response, which must be a success."""
        answer = self.request(command, **arguments)
        assert answer["success"], answer
        body: dict[str, Any] = answer["body"]
        return body

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return a response."""
        self.client.send_request(command, arguments)
        return self.response(self.flush())

    def until(self, event: str) -> dict[str, Any]:
        """Return the body of the next event of a kind."""
        while True:
            message = self.raw.pop(0) if self.raw else self.receive()
            if message.get("event") == event:
                body: dict[str, Any] = message["body"]
                return body

    def move(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Move the system; return the event that says where it stopped."""
        self.ask(command, threadId=1, **arguments)
        return self.until("stopped")

    def evaluate(self, text: str, context: str = "repl") -> str:
        """Return what the console says, or the value of an expression."""
        return str(self.ask("evaluate", expression=text, context=context)["result"])

    def where(self) -> str:
        """Return the name of the innermost frame of the thread that runs."""
        return self.evaluate("where").splitlines()[1]

    def begin(self, **arguments: Any) -> None:
        """Launch, without breakpoints."""
        self.ask("launch", **arguments)
        self.until("initialized")

    def enter(self) -> dict[str, Any]:
        """Say that all breakpoints are set; return the first stop."""
        self.ask("configurationDone")
        return self.until("stopped")

    def close(self) -> int:
        """Disconnect; return the adapter's exit code."""
        if self.process.poll() is None:
            self.client.send_request("disconnect", {})
            self.flush()
        return self.process.wait(WAIT)


@pytest.fixture
def editor() -> Iterator[Callable[..., Editor]]:
    """Start adapters, each with a client."""
    made: list[Editor] = []

    def start(*arguments: str | Path) -> Editor:
        made.append(Editor(*arguments))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(WAIT)
        for stream in (one.process.stdin, one.process.stdout):
            with suppress(OSError):  # for what was not sent
                stream.close()
