"""Files that are written to in memory: whole pages can be, nothing else can, no disk ever changes, nothing is lost."""

from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import PTE_DIRTY
from callgate.kernel.abi.volume import VolumeInformation
from callgate.kernel.memory.user_memory import BadAddress
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE
from written_files import BLOCK, IMAGE, PATTERN, Layout, Sessions, straight, write

ERRORS = 0xFFFF_0000


def test_a_mapped_page_is_written_to_without_a_system_call_and_the_change_is_seen_everywhere(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """A window of another opening shows it at once; the last bytes, in a page that is not whole, end the write."""
    files["f"] = straight(300, 1000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "a/d0/f")], scratch=True)
    counts = []
    for label in ("again_begin", "again_end"):
        made.reach("writer", label)
        counts.append(made.system.machine.ledger.counts())
        made.system.machine.step()
    spent = counts[1] - counts[0]
    assert spent.sites.get("client_gates", 0) == 0
    assert spent.exceptions == {"#PF": 1}, "of the last page, which is refused"
    assert spent.as_dict()["cpu_file_bytes"] == {"kernel": 0, "server": 0, "client": 300 * BLOCK}
    assert made.run().reason == "halt"
    assert made.codes == [300 * BLOCK], made.log
    assert made.output == bytes([PATTERN]) * 300 * BLOCK + files["f"].content(IMAGE)[300 * BLOCK :]
    assert made.kernel.cache.state.changed == 300
    assert made.unaccounted() == []


def test_an_object_of_the_server_cannot_be_written_to(session: Sessions, files: dict[str, Layout]) -> None:
    files["f"] = straight(8)
    files["f"].kind = "object"
    made = write(session, "a", "f")
    assert made.codes == [ERRORS + ErrorCode.COPIED_PAGE]
    assert made.kernel.cache.state.changed == 0


@pytest.mark.parametrize(
    ("mode", "attributes", "scratch", "code"),
    [
        ("a", FileAttributes(0), False, ErrorCode.NO_SCRATCH),
        ("a", FileAttributes.READ_ONLY, True, ErrorCode.READ_ONLY),
        ("a", FileAttributes.READ_ONLY, False, ErrorCode.READ_ONLY),
        ("f", FileAttributes(0), True, ErrorCode.BAD_ARGUMENT),
    ],
)
def test_a_file_that_may_not_be_written_to_cannot_be_opened_for_writing(
    session: Sessions,
    files: dict[str, Layout],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    attributes: FileAttributes,
    scratch: bool,
    code: ErrorCode,
) -> None:
    """Because the machine is none whose changes may be lost, or the file says so, or the flag does not exist."""
    monkeypatch.setattr(synthetic.Synthetic, "attributes", attributes)
    files["f"] = straight(8)
    made = write(session, mode, "f", scratch=scratch)
    assert made.codes == [ERRORS + code]
    assert made.unaccounted() == []


def test_no_program_can_write_through_a_pointer_that_has_outlived_its_window(
    session: Sessions, files: dict[str, Layout]
) -> None:
    files["f"] = straight(8)
    made = write(session, "o", "f")
    assert made.codes == [FAULT_EXIT_CODE]
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


@pytest.mark.parametrize("gone", [False, True])
def test_bytes_that_the_kernel_writes_for_a_program_count_as_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """A system call's result in a page of a file: as if the CPU had written it, also if the page was released."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.spans[0])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert b"rom\0" in made.output
    touched = made.system.machine.ledger.counts().as_dict()["cpu_file_bytes"]
    assert touched["kernel"] == size_of(VolumeInformation)
    assert made.kernel.cache.state.changed == 1
    assert made.unaccounted() == []


def test_a_page_that_is_evicted_again_and_again_is_requested_as_often(
    session: Sessions, files: dict[str, Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the kernel could write to it: other threads may move the window, or need the memory."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    (file,) = made.kernel.files.objects.values()
    made.kernel.letting_go.release(file, file.spans[0])
    get, times = made.kernel.reading.fault, iter(range(1000))

    async def lose(*which: Any) -> bool:
        return next(times, None) is not None or await get(*which)

    monkeypatch.setattr(made.kernel.reading, "fault", lose)
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert made.kernel.cache.state.changed == 1


def test_bytes_that_the_kernel_does_not_write_after_all_do_not_count(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """A result that would begin in a page of a file and end where nothing can be."""
    files["f"] = straight(1)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "v/d0/f")], scratch=True)
    made.reach("writer", "describe_here")
    (process,) = made.processes
    (opened,) = process.files.values()
    with pytest.raises(BadAddress):
        made.kernel.processes.memory_of(process).write(opened.window + BLOCK - 1, b"ab")
    assert not made.kernel.memory.tables.entry(process.pointers, opened.window) & PTE_DIRTY


@pytest.mark.parametrize("gone", [False, True])
def test_a_span_that_is_mapped_again_keeps_what_was_written(
    session: Sessions, files: dict[str, Layout], gone: bool
) -> None:
    """Neither the dirty bit from before is lost, nor, if the page was released, the CPU's reason to set it again."""
    files["f"] = straight(3)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "r/d0/f")], scratch=True)
    made.run(until=made.label("writer", "again_written" if gone else "again_mapped"))
    cache = made.kernel.cache.state
    if gone:
        (file,) = made.kernel.files.objects.values()
        made.kernel.letting_go.release(file, file.spans[0])
        # As if it had not been noticed: the next write must be.
        ((key, block),) = [(key, block) for key, block in cache.blocks.items() if block.changed]
        block.changed = False
        made.kernel.cache.unlock([key])
        cache.changed = 0
        cache.held.clear()
    else:
        assert cache.changed == 1
    assert made.run().reason == "halt"
    assert made.output[:12] == PATTERN.to_bytes(4, "little") * 3
    assert cache.changed == 1
    assert made.unaccounted() == []
