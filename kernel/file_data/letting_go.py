"""Releasing file data: spans, when memory is short or they are no longer used, and whole files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import SpanState
from callgate.kernel.core.records import EndpointState
from callgate.kernel.file_data.ageing_timer import AgeingTimer
from callgate.kernel.file_data.mapping import FileMapping
from callgate.kernel.file_data.objects import FileObject, FilesState, publish
from callgate.kernel.file_data.spans import Span, SpanRecords
from callgate.kernel.ipc.deferred_releases import DeferredReleases
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.pins import Pins


class LettingGo:
    """Releases spans and file objects."""

    def __init__(
        self,
        state: FilesState,
        low: FramePool,
        pins: Pins,
        mapping: FileMapping,
        releases: DeferredReleases,
        timer: AgeingTimer,
        records: SpanRecords,
    ) -> None:
        self.state = state
        self.low = low
        self.pins = pins
        self.mapping = mapping
        self.guest = mapping.guest
        self.releases = releases
        self.endpoints = releases.endpoints
        self.timer = timer
        self.records = records

    def release(self, file: FileObject, span: Span) -> None:
        """Unmap and release a READY span."""
        self.mapping.unmap(file, span)
        self.drop(file, span)

    def reclaim(
        self,
        *,
        low: bool = False,
        only: FileObject | None = None,
        server: int | None = None,
        enough: Callable[[], bool] = lambda: True,
    ) -> bool:
        """Release spans, the most idle ones first, until that is `enough`; False if there is none.

        Mapped spans are released too: a page fault fetches them again.  `low`: only those that hold low memory;
        `only`: those of this file; `server`: those that lie in the memory of the server of this endpoint.
        """
        found: list[tuple[FileObject, Span]] = []
        for file in (only,) if only is not None else self.state.objects.values():
            if server is not None and file.endpoint != server:
                continue
            for span in file.spans:
                kept = (low and not span.holds_low) or (server is not None and not span.server_request)
                if span.idling and not kept:
                    found.append((file, span))
        found.sort(key=lambda item: (-item[1].idle, item[1].number))
        changed: dict[int, FileObject] = {}
        for file, span in found:
            self.release(file, span)
            changed[file.number] = file
            if enough():
                break
        for file in changed.values():
            publish(self.guest.ram, file)
        return bool(found)

    def drop(self, file: FileObject, span: Span) -> None:
        """Release what a span holds, and take it out of its file; no window shows it."""
        if span in file.spans:
            file.spans.remove(span)
            self.state.blocks -= 1
        self.pins.release(span.pins)
        self.pins.unlock([*chain.from_iterable(run.keys for run in span.blocks)])
        for frame in span.private:
            self.low.release(frame)
        span.pins, span.blocks, span.private, span.frames, span.whole, span.parts = [], [], [], [], [], []
        if span.ahead:
            self.state.counters.wasted += 1
        server = self.endpoints.by_number[file.endpoint]
        if span.server_request and file.error is ErrorCode.OK:
            self.releases.add(server, Operation.RELEASE, span.server_request)
        span.server_request = 0
        self.records.release(server, span)

    def close_object(self, file: FileObject) -> None:
        """Close a file object once; the last close releases everything that it holds."""
        file.opens -= 1
        if file.opens:
            return
        for span in [span for span in file.spans if span.state is SpanState.READY]:
            self.release(file, span)
        self.finish_closing(file)

    def finish_closing(self, file: FileObject) -> None:
        """Remove a file object that no process has open, unless it is being opened again or data are in flight to it.

        Memory that the disk is about to write cannot be released.  No thread waits for that: the end of the last span
        in flight calls this again.
        """
        coming = any(span.state is SpanState.WAITING for span in file.spans)
        if file.opens or coming or file.number not in self.state.objects:
            return
        for span in list(file.spans):
            self.release(file, span)
        endpoint = self.endpoints.by_number[file.endpoint]
        del self.state.objects[file.number]
        self.records.trim(endpoint)
        if not self.state.objects:
            self.timer.rest()
        self.low.release(file.frame)
        if file.brief:
            self.releases.add_close(endpoint, file.server_file)
        else:
            self.close_at_server(endpoint, file.server_file)

    def close_at_server(self, endpoint: EndpointState, number: int) -> None:
        """Note a CLOSE of a server's file, to be sent after the releases of its data, which were noted before."""
        self.releases.add(endpoint, Operation.CLOSE, number)

    def in_use(self, endpoint: EndpointState) -> bool:
        """Whether there is a file object of an endpoint, which names the endpoint by its number."""
        return any(file.endpoint == endpoint.number for file in self.state.objects.values())
