"""Batches and answers to them that break the rules: foreign memory, forbidden operations, bad replies."""

import os
import struct
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest
from batch_asker import ENTRY, Asker, Entry, asker_of
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import OPERATION_SERVER_DEFINED, Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import OpenFlags
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.limits import BATCH_ENTRIES
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, USER_ARGUMENTS, USER_END, USER_HEAP
from callgate.kernel.abi.selectors import MAX_ENDPOINTS
from callgate.kernel.abi.thread import KernelWords
from callgate.kernel.memory.page_tables import USER_DATA, USER_READ
from callgate.kernel.system import System, SystemOptions
from double_fetch import Detector
from ipc_rig import FAST_PATH

Rigs = Callable[..., Any]
SomeOf = Callable[[Iterable[int], int], list[int]]
OWN = OPERATION_SERVER_DEFINED  # of the server "inverter": every register inverted
FAILING, FLAGS = OWN + 1, OWN + 2
GOOD = Entry(OWN)
STATUS = 0x8D5
CARRY = 1
INVERTED = tuple(~value & 0xFFFF_FFFF for value in GOOD.registers)


@pytest.fixture
def asker(rig: Rigs) -> Asker:
    """A client of a server that inverts registers."""
    return asker_of(rig("inverter", THREADS=1))


def spent_on(asker: Asker, batch: Callable[[], ErrorCode]) -> tuple[ErrorCode, int, int]:
    """Return a batch's error, and how many messages and how many of their entries have been posted for it."""
    ledger = asker.system.machine.ledger
    before = ledger.counts()
    code = batch()
    spent = ledger.counts() - before
    return code, spent.requests, spent.batched_requests


def test_the_number_of_a_batchs_entries_is_bounded(asker: Asker) -> None:
    asker.put([GOOD] * 2 * BATCH_ENTRIES)
    for count in (0, BATCH_ENTRIES + 1, 1 << 27, 0x8000_0000, 0xFFFF_FFFF):
        assert spent_on(asker, lambda count=count: asker.ask(count)) == (ErrorCode.BAD_ARGUMENT, 0, 0), count
    assert asker.take(2 * BATCH_ENTRIES) == [GOOD] * 2 * BATCH_ENTRIES
    assert asker.ask(BATCH_ENTRIES) is ErrorCode.OK
    assert [entry.registers for entry in asker.take(BATCH_ENTRIES)] == [INVERTED] * BATCH_ENTRIES
    assert asker.take(1, asker.entries + BATCH_ENTRIES * ENTRY.size) == [GOOD], "nothing after the entries is written"


@pytest.mark.parametrize(
    "address",
    [
        *(KERNEL_BASE, KERNEL_BASE + 0x10_0000, USER_END - ENTRY.size, USER_END - 1),
        *(0xFFFF_FFFF, 0xFFFF_FFE0, 0xFFFF_FFC0, 4, USER_HEAP + (64 << 20)),
    ],
)
def test_a_batch_is_read_only_from_the_memory_of_its_caller(asker: Asker, address: int) -> None:
    assert spent_on(asker, lambda: asker.ask(2, address)) == (ErrorCode.BAD_ADDRESS, 0, 0)


def test_a_batch_that_crosses_the_end_of_user_space_is_refused_if_its_beginning_is_there(asker: Asker) -> None:
    """No program has that page; with it only the comparison of the end is left."""
    kernel = asker.system.kernel
    kernel.processes.give_page(asker.process, USER_END - PAGE_SIZE, USER_DATA)
    asker.put([GOOD], USER_END - ENTRY.size)
    assert spent_on(asker, lambda: asker.ask(2, USER_END - ENTRY.size)) == (ErrorCode.BAD_ADDRESS, 0, 0)
    assert spent_on(asker, lambda: asker.ask(1, USER_END - ENTRY.size)) == (ErrorCode.OK, 1, 1)


@pytest.mark.parametrize("missing", ["first", "second"])
def test_a_batch_with_a_missing_page_is_refused_before_anything_is_asked(asker: Asker, missing: str) -> None:
    """The memory from ALLOCATE is one page, with nothing before it and nothing after it."""
    address = asker.heap + PAGE_SIZE - ENTRY.size if missing == "second" else asker.heap - ENTRY.size
    asker.put([GOOD], asker.heap + PAGE_SIZE - ENTRY.size if missing == "second" else asker.heap)
    assert spent_on(asker, lambda: asker.ask(2, address)) == (ErrorCode.BAD_ADDRESS, 0, 0)


@pytest.mark.parametrize("read_only", ["first", "second"])
def test_a_batch_that_cannot_be_written_to_is_refused_before_anything_is_asked(asker: Asker, read_only: str) -> None:
    kernel, process = asker.system.kernel, asker.process
    second = kernel.processes.allocate(process, PAGE_SIZE)
    assert second == asker.heap + PAGE_SIZE
    address = second - ENTRY.size
    asker.put([GOOD] * 2, address)
    page = asker.heap if read_only == "first" else second
    kernel.memory.tables.map(process.pointers, page, process.pages[page], USER_READ, process.tables)
    assert spent_on(asker, lambda: asker.ask(2, address)) == (ErrorCode.BAD_ADDRESS, 0, 0)
    assert asker.take(2, address) == [GOOD] * 2


def test_a_batch_in_a_programs_code_or_arguments_is_refused(asker: Asker) -> None:
    for address in (asker.label("start"), USER_ARGUMENTS):
        assert spent_on(asker, lambda address=address: asker.ask(1, address)) == (ErrorCode.BAD_ADDRESS, 0, 0)


@pytest.mark.parametrize("where", [0, 1, 3])
@pytest.mark.parametrize(
    "operation", [*(Operation(number) for number in range(Operation.LOCK_DIRECTORY, Operation.BATCH + 1)), 0xFF]
)
def test_an_operation_of_the_kernels_own_refuses_the_whole_batch(asker: Asker, operation: int, where: int) -> None:
    entries = [GOOD._replace(operation=operation) if index == where else GOOD for index in range(4)]
    asker.put(entries)
    assert spent_on(asker, lambda: asker.ask(4)) == (ErrorCode.BAD_CALL, 0, 0)
    assert asker.take(4) == entries


@pytest.mark.parametrize("operation", [OWN + 3, 0xFFFF, 0x1_0003, 0xFFFF_FFFF])
def test_an_operation_that_the_server_does_not_know_fails_alone(asker: Asker, operation: int) -> None:
    first, unknown, last = asker.batch(GOOD, GOOD._replace(operation=operation), GOOD)
    assert first == last == Entry(OWN, *INVERTED, first.eflags)
    assert unknown == GOOD._replace(operation=operation, eax=ErrorCode.BAD_CALL, eflags=unknown.eflags)
    assert (first.eflags & CARRY, unknown.eflags & CARRY) == (0, 1)


def test_each_entry_has_the_flags_of_its_own_reply_and_only_arithmetic_ones(asker: Asker) -> None:
    replies = asker.batch(GOOD, Entry(FLAGS), Entry(FAILING), GOOD)
    assert [reply.eflags & CARRY for reply in replies] == [0, 1, 1, 0]
    assert replies[1] == Entry(FLAGS, eflags=STATUS), "the data that the server adds to this reply are dropped"
    assert replies[2].registers == (ErrorCode.IO_ERROR, *INVERTED[1:])
    assert all(not reply.eflags & ~STATUS for reply in replies)


@pytest.mark.parametrize("seed", range(int(os.environ.get("CALLGATE_BATCHES", "4"))))
def test_a_random_batch_does_what_its_requests_do_one_by_one(asker: Asker, seed: int) -> None:
    """Any operations and registers, at any address around the border of two pages."""
    random = Random(seed)
    second = asker.system.kernel.processes.allocate(asker.process, PAGE_SIZE)
    assert second == asker.heap + PAGE_SIZE
    for _ in range(6):
        count = random.choice((1, 2, 3, random.randint(1, BATCH_ENTRIES)))
        operations = [random.choice((OWN, OWN, OWN + 1, FLAGS, OWN + 9, Operation.NULL)) for _ in range(count)]
        entries = [Entry(number, *(random.getrandbits(32) for _ in range(7))) for number in operations]
        address = second - random.randint(0, count * ENTRY.size)
        before, after = asker.read(address - 8, 8), asker.read(address + count * ENTRY.size, 8)
        asker.put(entries, address)
        assert asker.ask(count, address) is ErrorCode.OK
        replies = asker.take(count, address)
        for entry, reply in zip(entries, replies, strict=True):
            single = asker.single(entry)
            known = 6 if entry.operation in (OWN, OWN + 1, FLAGS) else 1  # what else an unknown one leaves is no result
            assert reply.registers[:known] == single.registers[:known]
            assert (reply.operation, reply.eflags & CARRY) == (entry.operation, single.eflags & CARRY)
        assert asker.read(address - 8, 8) == before
        assert asker.read(address + count * ENTRY.size, 8) == after


def test_a_handler_that_leaves_the_direction_flag_set_spoils_no_batch(asker: Asker) -> None:
    asker.single(Entry(FLAGS))
    assert asker.batch(GOOD, Entry(FLAGS))[0].registers == INVERTED


def test_a_batch_for_a_volume_that_there_is_not_is_refused(asker: Asker) -> None:
    """Among them numbers whose bit is set in the memory after the mask of endpoints."""
    system = asker.system
    mask = system.kernel.guest.address("kernel_words") - KERNEL_BASE + offset_of(KernelWords, "endpoints")
    bits = int.from_bytes(system.machine.ram.read(mask, 0x1_0000 // 8), "little")
    behind = [number for number in range(MAX_ENDPOINTS, 0x1_0000) if bits >> number & 1]
    assert behind, "without such a number the test shows nothing"
    asker.put([GOOD])
    for number in (MAX_ENDPOINTS - 1, MAX_ENDPOINTS, *behind[:: len(behind) // 20 + 1], 0xFFFF):
        target = number << 16 | Operation.BATCH
        refused = spent_on(asker, lambda target=target: asker.ask(1, target=target))
        assert refused == (ErrorCode.BAD_ARGUMENT, 0, 0), number


def test_a_batch_for_a_server_that_has_ended_is_refused(asker: Asker) -> None:
    kernel = asker.system.kernel
    kernel.servers.kill(kernel.state.endpoints.by_number[asker.volume].process, "killed by the test")
    asker.put([GOOD])
    assert spent_on(asker, lambda: asker.ask(1)) == (ErrorCode.SERVER_DIED, 0, 0)
    assert asker.take(1) == [GOOD]


def test_the_kernel_reads_no_byte_of_a_batch_twice(asker: Asker) -> None:
    detector = Detector(asker.system)
    asker.put([GOOD] * BATCH_ENTRIES)
    assert asker.ask(BATCH_ENTRIES) is ErrorCode.OK
    assert {read.place for read in detector.reads} == {"copy_entries"}, "the message page is read when no server has it"
    assert detector.findings == {}


def test_a_batch_changed_at_any_instruction_gains_no_operation_that_was_not_checked(
    asker: Asker, some_of: SomeOf
) -> None:
    """Another thread of the program writes over the entries: the server sees what the kernel has checked."""
    system = asker.system
    asker.put([GOOD] * 3)
    kept = system.snapshot()
    seen = set()
    for steps in some_of(range(700), 9):
        system.restore(kept)
        asker.aim(3)
        system.machine.step(steps)
        asker.put([Entry(Operation.LOCK_DIRECTORY, 7, 7, 7, 7, 7, 7, 7)] * 3)
        code = asker.finish()
        seen.add(code)
        if not code:
            assert all(not entry.eflags & CARRY for entry in asker.take(3)), steps
    assert seen == {ErrorCode.OK, ErrorCode.BAD_CALL}


@pytest.mark.parametrize("page", ["first", "second"])
def test_results_whose_memory_has_gone_are_lost_and_nothing_else(asker: Asker, page: str) -> None:
    """Another thread frees the memory while the server works."""
    kernel = asker.system.kernel
    address = asker.heap
    if page == "second":
        address = kernel.processes.allocate(asker.process, PAGE_SIZE) - ENTRY.size
        assert address + ENTRY.size == asker.heap + PAGE_SIZE
    asker.put([GOOD] * 2, address)
    asker.aim(2, address)
    asker.system.run(until="server_gate")
    kernel.processes.free(asker.process, asker.heap if page == "first" else asker.heap + PAGE_SIZE)
    assert asker.finish() is ErrorCode.BAD_ADDRESS
    assert asker.batch(GOOD)[0].registers == INVERTED
    kernel.check()


@pytest.mark.parametrize(("flags", "code"), [(OpenFlags(0), ErrorCode.NOT_WRITABLE), (OpenFlags.WRITE, ErrorCode.OK)])
def test_a_batch_that_lies_in_a_file_is_fetched_from_the_disk_and_changed_only_if_it_may_be(
    flags: OpenFlags, code: ErrorCode
) -> None:
    """The first touch of the file is the kernel's, before a slot is taken: the file's own server has to be asked."""
    image = bytearray(demo_image(cache_directory()).read_bytes())
    at = image.index(struct.pack("<4I", 0, 1, 2, 3))  # PATTERN.BIN begins so
    wanted = [Entry(Operation.NULL), Entry(Operation.FREE_SPACE)]
    image[at : at + 2 * ENTRY.size] = b"".join(ENTRY.pack(*entry) for entry in wanted)
    options = SystemOptions(shell=False, scratch=True, log=lambda _line: None, fast_path=FAST_PATH)
    system = System([MemoryMedium(bytes(image))], options)
    system.run()
    number = next(end.number for end in system.kernel.state.endpoints.by_number.values() if end.name == "d0p1")
    asker = Asker(system, number, b"/d0p1/PATTERN.BIN", flags)
    free = asker.single(wanted[1]).registers
    before = system.machine.ledger.counts().batched_requests
    assert asker.ask(2, asker.window) is code
    replies = [wanted[0], Entry(Operation.FREE_SPACE, *free)]
    assert [entry[:7] for entry in asker.take(2, asker.window)] == [
        entry[:7] for entry in (wanted if code else replies)
    ]
    assert system.machine.ledger.counts().batched_requests - before == (0 if code else 2)
    assert system.kernel.check() == []
    system.close()


def test_a_server_writes_no_more_of_a_batch_than_registers_and_flags(rig: Rigs) -> None:
    asker = asker_of(rig("batch_server", HOW=0))
    asker.write(asker.entries - 4096, b"\xcc" * 3 * 4096)
    ones = (0xFFFF_FFFF,) * 6
    assert asker.batch(GOOD, Entry(Operation.NULL)) == [Entry(OWN, *ones, STATUS), Entry(Operation.NULL, *ones, STATUS)]
    assert asker.read(asker.entries - 4096, 4096) == b"\xcc" * 4096
    assert asker.read(asker.entries + 2 * ENTRY.size, 4096) == b"\xcc" * 4096


@pytest.mark.parametrize(
    "reply", [ServerCall.REPLY_NONE, ServerCall.REPLY_DATA, ServerCall.REPLY_OBJECT, ServerCall.REPLY_SECTORS]
)
def test_a_batch_is_answered_by_registers_or_the_reply_is_refused(rig: Rigs, reply: ServerCall) -> None:
    made = rig("batch_server", HOW=reply)
    asker = asker_of(made)
    used = made.kernel.memory.low.used
    asker.put([GOOD] * 3)
    for _ in range(3):
        assert asker.ask(3) is ErrorCode.BAD_REPLY
    assert asker.take(3) == [GOOD] * 3
    assert made.kernel.memory.low.used == used + len(made.endpoint.frames), "pages that came with it are released"
    assert made.block["free"].bit_count() == len(made.endpoint.frames)
    assert made.kernel.check() == []


@pytest.mark.parametrize(("how", "code"), [(6, ErrorCode.IO_ERROR), (7, ErrorCode.BAD_CALL)])
def test_a_batch_that_the_server_fails_as_a_whole_changes_no_entry(rig: Rigs, how: int, code: ErrorCode) -> None:
    made = rig("batch_server", HOW=how)
    asker = asker_of(made)
    asker.put([GOOD] * 3)
    assert asker.ask(3) is code
    assert asker.take(3) == [GOOD] * 3
    assert made.block["free"] == 1
