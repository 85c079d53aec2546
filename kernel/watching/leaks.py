"""Leaks: resources that a system still holds although its programs have ended."""

from callgate.kernel.core.records import EndpointState
from callgate.kernel.kernel import Kernel

ALL_SLOTS = 0xFFFF_FFFF


def leaks(kernel: Kernel) -> list[str]:
    """Return slots, pins, locks, waits, open files, deferred releases, coroutines and pages of file data, as text.

    Tests use it as the one definition: when every program has ended and servers have answered, nothing may be left.
    """
    found = [text for endpoint in kernel.state.endpoints.by_number.values() for text in _of_endpoint(kernel, endpoint)]
    blocks = kernel.cache.state.blocks
    locked = [key for key, block in blocks.items() if block.locks > block.changed]
    if locked:
        found.append(f"cache blocks locked: {locked}")
    if kernel.cache.state.notices:
        found.append("a thread still waits for a disk block")
    if kernel.state.files.waiting:
        found.append("a span still waits for its data")
    if kernel.sector_lists.state.chain:
        found.append("a sector list still waits for the disk")
    if kernel.files.objects:
        found.append(f"file objects: {sorted(kernel.files.objects)}")
    if kernel.coroutines.alive:
        found.append("a coroutine is alive")
    if kernel.hosted.running:
        found.append("a hosted server works on a request")
    lost = set(kernel.state.high.holders) - {block.frame for block in blocks.values()}
    if lost:
        found.append(f"pages of file data: {sorted(map(hex, lost))}")
    return found


def _of_endpoint(kernel: Kernel, endpoint: EndpointState) -> list[str]:
    fields = kernel.slots.block(endpoint)
    taken = ~(fields["unused"] | fields["free"]) & ALL_SLOTS
    found = [f"{endpoint.name}: slots {taken:#x}"] if taken else []
    if fields["slot_waiters"] or endpoint.waiters:
        found.append(f"{endpoint.name}: a thread waits for a slot")
    if tokens := kernel.slots.tokens(endpoint):
        found.append(f"{endpoint.name}: posted {tokens}")
    if endpoint.releases.busy:
        found.append(f"{endpoint.name}: has not been told {endpoint.releases}")
    return found + ([f"{endpoint.name}: pins {endpoint.pins}"] if endpoint.pins else [])


def kernel_pages(kernel: Kernel) -> int:
    """Return how many pages of low memory belong to no process, server, thread or message.

    They are the kernel's own. If two runs that did the same differ in it, pages were lost.
    """
    state = kernel.state
    owned = {state.space.zeros}
    for process in state.tasks.processes.values():
        owned.update(process.pages.values(), process.tables)
        for window in process.windows.values():
            owned.update(window.private)
    for endpoint in state.endpoints.by_number.values():
        owned.update(endpoint.frames.values(), endpoint.span_pages, [endpoint.block])
    for frames in state.tasks.stack_frames.values():
        owned.update(frames)
    return len(set(state.low.holders) - owned)
