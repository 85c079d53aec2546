"""A headless Chromium, spoken to by its developer tools (the Chrome DevTools Protocol over a WebSocket)."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import host_programs
import websocket

LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
SECONDS = 60  # that only a failure reaches, however busy the host is
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowUp": 38, "ArrowDown": 40, "Home": 36, "End": 35, "Tab": 9}


class Page:
    """One page: what it says, what it asks the network for, and what it complains of."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self.connection = connection
        self.number = 0
        self.session = ""
        self.requested: list[str] = []
        self.complaints: list[str] = []

    def open(self, file: Path) -> None:
        """Open a file and wait until it has been loaded."""
        self.open_address(file.as_uri())

    def open_address(self, address: str) -> None:
        """Open an address and wait until it has been loaded."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.requested.clear()
        self.ask("Page.navigate", url=address)
        while self.evaluate("document.readyState + document.location") != f"complete{address}":
            pass

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result; events that come meanwhile are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        self.connection.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.connection.recv())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer.get("method"), answer.get("params", {}))

    def _event(self, method: str | None, parameters: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(parameters))

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, as the keyboard does."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])

    def emulate(self, medium: str = "", **features: str) -> None:
        """Show it as in print, or with media features: `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=named)


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start the browser; skip the test where it is not installed."""
    program = host_programs.start(
        "chromium",
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
        *("--no-first-run", "--disable-extensions", "--window-size=1600,1100", f"--user-data-dir={profile}"),
        HOME=str(profile),
    )
    assert program.stderr is not None
    try:
        address = next(found[1] for line in program.stderr if (found := LISTENING.search(line)))
        connection = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True)
        try:
            yield Page(connection)
        finally:
            connection.close()
    finally:
        program.terminate()
        program.stderr.close()
        program.wait(SECONDS)
