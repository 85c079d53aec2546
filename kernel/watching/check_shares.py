"""Invariants of the totals of shares (kernel/tasks/shares.py), for `Kernel.check`: each equals a recount."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from callgate.kernel.abi import limits
from callgate.kernel.core.records import WindowKind
from callgate.kernel.memory.windows import low_frames
from callgate.kernel.watching.check_facts import Facts


def evictable_blocks_equal_a_recount(facts: Facts) -> Iterator[str]:
    """The cache's list of evictable blocks has exactly those that are not held and that have arrived."""
    state = facts.kernel.cache.state
    evictable = {key for key, block in state.blocks.items() if not block.locks and (block.valid or block.failed)}
    for key in sorted(evictable ^ {*state.blocks.idle()}):
        yield f"block {key} is evictable or on the list of those that are, not both"


def requests_of_disks_equal_a_recount(facts: Facts) -> Iterator[str]:
    """`in_flight` counts each disk's requests, and no disk has more than it may."""
    state = facts.kernel.disk_requests.state
    counted = Counter(run.disk for run in state.running.values())
    if counted != state.in_flight:
        yield f"requests by disk are {state.in_flight}, counted {dict(counted)}"
    yield from (
        f"disk {disk} has {count} requests" for disk, count in counted.items() if count > limits.REQUESTS_OF_DISK
    )


def spans_equal_a_recount(facts: Facts) -> Iterator[str]:
    """The number of spans of all files is that of each file's together, and so is that of their windows.

    Those that are on their way are booked to the families that have asked for them.
    """
    counted = sum(len(file.spans) for file in facts.kernel.files.objects.values())
    if facts.kernel.state.files.blocks != counted:
        yield f"there are {facts.kernel.state.files.blocks} spans, counted {counted}"
    families = Counter(span.family for _, span in facts.kernel.state.files.waiting.values())
    if facts.state.tasks.lists != families:
        yield f"lists by family are {facts.state.tasks.lists}, counted {dict(families)}"
    mapped = sum(len(span.users) for file in facts.kernel.files.objects.values() for span in file.spans)
    if facts.kernel.state.files.mapped != mapped:
        yield f"spans are mapped {facts.kernel.state.files.mapped} times, counted {mapped}"


def what_windows_hold_equals_a_recount(facts: Facts) -> Iterator[str]:
    """`shown` of a process and `locked_blocks` of a server are what their windows come to.

    While policy is under way a server may have blocks booked for which it has no window yet.
    """
    for process in facts.state.tasks.processes.values():
        counted = sum(low_frames(window) for window in process.windows.values() if window.kind != WindowKind.HEAP)
        if process.shown != counted:
            yield f"{process}: windows hold {process.shown} frames, counted {counted}"
        endpoint = facts.state.endpoints.by_number.get(process.endpoint)
        if endpoint is None or endpoint.process is not process:
            continue
        locked = sum(window.pages for window in process.windows.values() if window.kind == WindowKind.BLOCKS)
        if endpoint.locked_blocks < locked or (endpoint.locked_blocks > locked and facts.quiescent):
            yield f"/{endpoint.name}: {endpoint.locked_blocks} blocks locked, counted {locked}"
