"""gdb's own Debug Adapter Protocol interpreter (gdb 14 and later) as a client of the stub."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.kernel.system import System

FIRST_WITH_DAP = 14


class Adapter:
    """Speaks DAP with `gdb -i dap` as the specification says: a header, a blank line, JSON."""

    def __init__(self, program: Path, home: Path) -> None:
        self.process = subprocess.Popen(
            [program, "-nx", "-i", "dap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        )
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def send(self, command: str, **arguments: object) -> int:
        self.number += 1
        body = json.dumps({"seq": self.number, "type": "request", "command": command, "arguments": arguments}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()
        return self.number

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        size = 0
        while (line := self.process.stdout.readline().strip()) or not size:
            assert line, "gdb has gone"
            if (found := re.match(rb"Content-Length: (\d+)", line)) is not None:
                size = int(found[1])
        message: dict[str, Any] = json.loads(self.process.stdout.read(size))
        return message

    def answer(self, number: int) -> dict[str, Any]:
        """Return the body of the answer to a request; what comes before it is kept."""
        while True:
            message = self.receive()
            if message["type"] == "response" and message["request_seq"] == number:
                assert message["success"], message
                body: dict[str, Any] = message.get("body", {})
                return body
            self.events.append(message)

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        return self.answer(self.send(command, **arguments))

    def event(self, name: str) -> dict[str, Any]:
        """Return the body of the next event of a name."""
        while True:
            for message in self.events:
                if message.get("event") == name:
                    self.events.remove(message)
                    body: dict[str, Any] = message.get("body", {})
                    return body
            self.events.append(self.receive())


@pytest.mark.timeout(100)
def test_gdbs_debug_adapter_attaches_stops_at_a_label_and_names_callers_and_threads(
    boot_demo: Callable[[str], System], serve: Callable[[System], Any], tmp_path: Path
) -> None:
    program = host_programs.find("gdb")
    version = int(host_programs.run("gdb", "--version").splitlines()[0].split()[-1].split(".")[0].rstrip(")"))
    if version < FIRST_WITH_DAP:
        pytest.skip(f"gdb {version} has no DAP; {FIRST_WITH_DAP} has")
    adapter = Adapter(Path(program), tmp_path)
    try:
        assert adapter.ask("initialize", adapterID="test")["supportsConfigurationDoneRequest"]
        attached = adapter.send("attach", target=f"127.0.0.1:{serve(boot_demo('dir')).port}")
        adapter.event("initialized")
        adapter.ask("setFunctionBreakpoints", breakpoints=[{"name": "take_slot"}])
        adapter.ask("configurationDone")
        adapter.answer(attached)
        stop = adapter.event("stopped")
        if stop["reason"] != "breakpoint":
            adapter.ask("continue", threadId=stop.get("threadId", 1))
            stop = adapter.event("stopped")
        assert stop["reason"] in ("breakpoint", "function breakpoint"), stop
        # Not by stackTrace: gdb 18 takes its threadId for a number within the inferior (docs/gdb.md).
        trace = adapter.ask("evaluate", expression="backtrace", context="repl")["result"]
        assert re.match(r"#0 +take_slot \(\) at .*slots\.asm:\d+\n#1 .*ipc_request \(\) at .*client\.asm", trace), trace
        names = {thread["name"] for thread in adapter.ask("threads")["threads"]}
        assert {"mount d0p1", "idle"} <= names
    finally:
        adapter.process.kill()
        adapter.process.communicate()
