"""What a system whose programs have ended still holds although nobody should: it was not given back."""

from callgate.kernel.core.records import PartitionState
from callgate.kernel.kernel import Kernel

ALL_SLOTS = 0xFFFF_FFFF


def leftovers(kernel: Kernel) -> list[str]:
    """Return slots, pins, locks, waits, open files, give-backs, coroutines and pages of file data, in words.

    The tests' one account of what may be left when every program has ended and servers have answered: nothing.
    """
    found = [
        text for partition in kernel.state.endpoints.by_number.values() for text in _of_partition(kernel, partition)
    ]
    blocks = kernel.cache.state.blocks
    locked = [key for key, block in blocks.items() if block.locks > block.changed]
    if locked:
        found.append(f"cache blocks locked: {locked}")
    if kernel.cache.state.notices:
        found.append("somebody still waits for a disk block")
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


def _of_partition(kernel: Kernel, partition: PartitionState) -> list[str]:
    fields = kernel.slots.block(partition)
    taken = ~(fields["unused"] | fields["free"]) & ALL_SLOTS
    found = [f"{partition.name}: slots {taken:#x}"] if taken else []
    if fields["slot_waiters"] or partition.waiters:
        found.append(f"{partition.name}: somebody waits for a slot")
    if partition.posted or fields["posted"]:
        found.append(f"{partition.name}: posted {partition.posted}, marked {fields['posted']:#x}")
    if partition.give_backs.busy:
        found.append(f"{partition.name}: has not been told {partition.give_backs}")
    return found + ([f"{partition.name}: pins {partition.pins}"] if partition.pins else [])


def kernel_pages(kernel: Kernel) -> int:
    """Return how many pages of low memory belong to no process, server, thread or message.

    They are the kernel's own.  The number is that of a run which did the same, or pages were lost.
    """
    state = kernel.state
    owned = {state.space.zeros}
    for process in state.tasks.processes.values():
        owned.update(process.pages.values(), process.tables)
        for window in process.windows.values():
            owned.update(window.private)
    for partition in state.endpoints.by_number.values():
        owned.update(partition.frames.values(), [partition.block])
    for frames in state.tasks.stack_frames.values():
        owned.update(frames)
    return len(set(state.low.holders) - owned)
