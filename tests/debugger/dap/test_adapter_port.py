"""`callgate debug --dap-port`: an editor that connects, ports that cannot be used, options that make no sense."""

import json
import signal
import socket
from io import BytesIO
from queue import SimpleQueue
from typing import Any

import pytest
from callgate.tools.debugger.dap.adapter import Adapter
from forked import Forked


def start(*arguments: str) -> Forked:
    """Start the adapter."""
    return Forked("debug", *arguments)


def test_an_editor_connects_to_the_port_that_is_said_and_the_adapter_ends_with_it() -> None:
    with start("--dap-port", "0") as adapter:
        said = adapter.stderr.readline().decode()
        host, _, port = said.rpartition(" ")[2].strip().partition(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(port)), 20) as connection:
            body = json.dumps({"seq": 1, "type": "request", "command": "initialize"}).encode()
            connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            with connection.makefile("rb") as stream:
                length = int(stream.readline().partition(b":")[2])
                stream.readline()
                assert json.loads(stream.read(length))["body"]["supportsStepBack"] is True
        assert adapter.wait(20) == 0
        assert adapter.stderr.read() == b""


def test_ctrl_c_as_the_client_goes_away_does_not_keep_the_adapter() -> None:
    """The queue's `get` has an item when Ctrl-C comes, and has not returned it yet."""

    class Interrupted(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            item = super().get(block, timeout)
            signal.raise_signal(signal.SIGINT)
            return item

    request = b'{"seq": 1, "type": "request", "command": "initialize"}'
    output = BytesIO()
    adapter = Adapter(BytesIO(b"Content-Length: %d\r\n\r\n" % len(request) + request), output, refuse)
    adapter.queue = Interrupted()
    adapter.serve()
    assert b'"supportsStepBack": true' in output.getvalue()


def refuse(*_: object) -> Any:
    """Launch nothing."""
    raise AssertionError


def test_a_port_that_is_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with start("--dap-port", port) as adapter:
            _, said = adapter.communicate(timeout=60)
    assert adapter.returncode == 3
    assert said.decode() == f"callgate: --dap-port {port}: Address already in use; name another one\n"


@pytest.mark.parametrize("arguments", [("-c", "df"), ("-e", "step")])
def test_commands_for_an_adapter_come_from_the_editor(arguments: tuple[str, ...]) -> None:
    with start("--dap", *arguments) as adapter:
        _, said = adapter.communicate(timeout=60)
    assert adapter.returncode == 2
    assert b"--dap: no -c, -e or -x: the editor's launch request" in said
