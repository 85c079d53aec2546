"""The kernel is asked to read or write for a program what the program may not: it refuses, and prints nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi import memory as memory_layout
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_LOAD, PAGE_SIZE, USER_END, USER_HEAP, USER_PROGRAM
from callgate.kernel.memory.page_tables import USER_DATA
from callgate.kernel.memory.user_memory import BadAddress

HELD = 0
ATTACKS = (
    "write_out_kernel",
    "path_from_kernel",
    "command_line_from_kernel",
    "volume_to_kernel",
    "process_to_kernel",
    "ipc_to_kernel",
    "ledger_to_kernel",
    "thread_in_kernel",
    "handler_in_kernel",
    "long_path",
    "nested_path",
    "stack_in_kernel",
    "segments",
    "flags",
    "joined_path",
    "current_directory",
    "endless_string",
    "unknown_flags",
    "root_as_file",
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_kernel_does_nothing_for_a_program_that_the_program_may_not_do_itself(
    arena: Callable[..., Any], attack: str
) -> None:
    made = arena()
    made.victim()
    made.attacker("deputy", ATTACKS.index(attack))
    assert made.run().reason == "halt"
    assert made.results == [HELD], made.log
    assert made.output == b""
    made.assert_unharmed()


def test_memory_of_a_program_does_not_grow_into_the_windows_of_files(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = USER_HEAP + (4 << 20)  # instead of 768 MiB, which take a second to clear
    monkeypatch.setattr(memory_layout, "USER_FILES", limit)
    made = arena()
    made.victim()
    made.attacker("deputy", len(ATTACKS), HEAP_LIMIT=limit)
    assert made.run().reason == "halt"
    assert made.results == [HELD], made.log
    made.assert_unharmed()


@pytest.mark.parametrize("address", [-1, -4096, USER_END, KERNEL_BASE + 0x10_0000, 1 << 32, (1 << 32) + USER_PROGRAM])
def test_a_hosted_handler_reads_no_address_outside_user_space(arena: Callable[..., Any], address: int) -> None:
    made = arena()
    made.run()
    memory = made.kernel.processes.memory_of(made.start("victim"))
    assert len(memory.read(USER_PROGRAM, 4)) == 4
    with pytest.raises(BadAddress, match="for read"):
        memory.read(address, 4)
    with pytest.raises(BadAddress, match="for write"):
        memory.write(address, b"1234")


def test_a_hosted_handler_cannot_name_page_tables_of_its_own_making(arena: Callable[..., Any]) -> None:
    made = arena()
    made.run()
    process = made.start("victim")
    memory = made.kernel.processes.memory_of(process)
    pages = [made.kernel.processes.give_page(process, USER_HEAP + n * PAGE_SIZE, USER_DATA) for n in range(3)]
    # A pointer, a directory and a table, in memory that is the server's: they show it the kernel's first page.
    for number, target in enumerate((pages[1], pages[2], KERNEL_LOAD)):
        memory.write(USER_HEAP + number * PAGE_SIZE, (target | USER_DATA & 0xFFF).to_bytes(8, "little"))
    beyond = (pages[0] - process.pointers) // 8
    with pytest.raises(BadAddress):
        memory.read(beyond << 30, 16)
