"""Sites of suspicious instructions: ring 3 makes them by executing code, and their number is bounded."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.filters import filters
from callgate.kernel.machine.filters.far import LONGEST
from callgate.kernel.programs.executable import Executable, Segment

BASE = 0x0040_0000
PREFIXED_RETF = b"\x3e" * (LONGEST - 1) + b"\xcb"  # a site may begin at each of its bytes
FAR_JUMPS = 3400  # 51,000 sites, executed twice: 102,000
FEW_JUMPS, FEW_SITES = 100, 600
FAULT = 139
UD2 = b"\x0f\x0b"
# mov ebp, 2; push cs; push BASE + 18; mov ebx, esp; jmp $ + 2; RETURN: mov esp, ebx; retf
RETURN = 15
ENTRY = b"\xbd\2\0\0\0\x0e\x68" + struct.pack("<I", BASE + 18) + b"\x89\xe3\xeb\0" + b"\x89\xdc\xcb"


def jumper(jumps: int, last: bytes) -> Executable:
    """Return a program that goes twice through `count` far returns to the next one, and then does `last`.

    The first far return is that at RETURN, with the stack that EBX points to.
    """
    code = bytearray(ENTRY)
    first = len(code)
    for _ in range(jumps):
        following = BASE + len(code) + 6 + LONGEST
        code += b"\x0e\x68" + struct.pack("<I", following) + PREFIXED_RETF  # push cs; push following; retf
    code += b"\x4d\x0f\x85" + struct.pack("<i", first - len(code) - 7)  # dec ebp; jnz to the first of them
    code += last
    segment = Segment(BASE, 0, memoryview(bytes(code)), len(code), writable=False, executable=True)
    return Executable(BASE, (segment,), bytes(code))


def return_on(stack: int) -> bytes:
    """Return code that executes the far return at RETURN, which has been executed before, with another stack."""
    return b"\xbb" + struct.pack("<I", stack) + b"\xb8" + struct.pack("<I", BASE + RETURN) + b"\xff\xe0"


def start(made: Any, program: Executable) -> Any:
    process = made.kernel.processes.create("jumper")
    made.kernel.processes.start(process, made.kernel.processes.load(process, program, b""))
    made.attackers.append(process)
    return process


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of sites in user code after each new one."""
    counts: list[int] = []
    watch = filters.Filters.watch

    def counted(self: filters.Filters, address: int, *form: Any) -> None:
        watch(self, address, *form)
        counts.append(len(self.user_sites))

    monkeypatch.setattr(filters.Filters, "watch", counted)
    return counts


def run(arena: Callable[..., Any], jumps: int, last: bytes) -> Any:
    made = arena()
    made.victim()
    made.wanted.append(lambda: start(made, jumper(jumps, last)))
    assert made.run().reason == "halt"
    return made


@pytest.mark.thorough(only=True)
def test_a_hundred_thousand_far_returns_leave_a_bounded_number_of_sites(
    arena: Callable[..., Any], most: list[int]
) -> None:
    made = run(arena, FAR_JUMPS, UD2)
    assert len(most) >= 2 * FAR_JUMPS * LONGEST, "both rounds were looked through: the sites of the first one are gone"
    assert max(most) <= filters.USER_SITES + LONGEST
    machine = made.system.machine
    assert {address for address in machine.filters.watched if address < KERNEL_BASE} == set(machine.filters.user_sites)
    sites = machine.counter.sites
    assert sum(address < KERNEL_BASE for address in sites.calls) <= filters.USER_SITES
    assert len(sites.places) == sum(map(len, sites.calls.values()))
    assert sum(map(len, sites.cells.values())) <= filters.USER_SITES + len(sites.places)


def test_an_instruction_whose_site_was_dropped_is_judged_when_it_executes_again(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "USER_SITES", FEW_SITES)
    made = run(arena, FEW_JUMPS, return_on(KERNEL_BASE + 0x1000))
    assert made.results == [FAULT]
    assert any("#PF page fault: read of 0xc0001000, protection" in line for line in made.log), made.log
    made.assert_unharmed()


def test_dropping_sites_changes_neither_the_clock_nor_what_happens(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(sites: int) -> tuple[Any, ...]:
        monkeypatch.setattr(filters, "USER_SITES", sites)
        made = run(arena, FEW_JUMPS, UD2)
        machine = made.system.machine
        return machine.clock.now, machine.ledger.counts(), made.log, made.results

    assert outcome(FEW_SITES) == outcome(filters.USER_SITES)


def test_an_iretd_whose_image_has_vm_hidden_is_not_delayed(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it were, it would execute in the next slice, with VM in its image and without being judged again."""
    monkeypatch.setattr(filters, "USER_SITES", 1)
    machine = arena().system.machine
    machine.state.limit = 5
    machine.traps.returns.hidden = (0, 0)
    machine.filters.watch(BASE)
    assert (machine.filters.full, machine.state.limit) == (True, 5)
    machine.traps.returns.hidden = None
    machine.filters.watch(BASE + 1)
    assert machine.state.limit == 0
