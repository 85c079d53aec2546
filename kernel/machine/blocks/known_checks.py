"""The engine's checks after each load and store whether it is to stop, and where plain blocks can do without them.

The engine calls a routine of its own after each access: a hook on memory, or a device, may have asked for a stop.  In a
plain block only what an access does out of line can ask, and that goes through host code of ours (`accesses`), which
makes the check there.  So the calls after the accesses are replaced by instructions that do nothing.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from callgate.kernel.machine.blocks.known_tables import LOOKED_UP, originals, words
from callgate.kernel.machine.blocks.translated import CALL_SIZE, FAR_CALL, NEAR_CALL, OPERAND, Translated, target
from callgate.kernel.machine.engine.counter import address_of
from unicorn.unicorn_py3.unicorn import uclib

# MOV RDI, uc; XOR ESI, ESI; CALL routine, near or through memory
CHECK: Final = re.compile(rb"\x48\xbf(........)\x33\xf6(\xe8|\xff\x15)(....)", re.DOTALL)
NOTHING: Final = {  # as long as the one and as the other
    17: bytes.fromhex("660f1f840000000000 0f1f840000000000"),
    18: bytes.fromhex("660f1f840000000000 660f1f840000000000"),
}
NEAREST: Final = 32  # bytes from the hook's third argument to the check after the hook, at most
# MOV R8, [RDI+the CPU]; MOV EAX, [R8+what is negative]; TEST EAX, EAX; JNS; TEST ESI, ESI; JE
ROUTINE: Final = re.compile(rb"\x4c\x8b\x87(....)\x41\x8b\x80(....)\x85\xc0\x79.\x85\xf6\x74", re.DOTALL)
LONGEST: Final = 32
#: What else a block may call: routines that touch no memory of the guest.
HARMLESS: Final = ("helper_cc_compute_all", "helper_cc_compute_c", "helper_lookup_tb_ptr")


def routine(name: str) -> int:
    """Return the address of a routine of the engine; 0 if it is not exported."""
    try:
        return address_of(getattr(uclib, f"{name}_x86_64"))
    except AttributeError:
        return 0


@cache
def check() -> int:
    """Return the address of the engine's check."""
    return routine("helper_check_exit_request")


@cache
def harmless() -> frozenset[int]:
    """Return the addresses that a plain block may call while its checks are left out."""
    return frozenset({check(), *map(routine, HARMLESS), *originals()})


@cache
def library() -> range:
    """Return the addresses of the engine's code in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.partition(" ")[0].split("-"))
        if begin <= check() < end:
            return range(begin, end)
    return range(0)


def exit_word(uc: int, cpu: int) -> int:
    """Return the address of the word that is negative while an engine is to stop; 0 if it is not as expected."""
    if not check():
        return 0
    found = ROUTINE.match(ctypes.string_at(check(), LONGEST))
    if found is None:
        return 0
    of_cpu, of_word = (int.from_bytes(part, "little") for part in found.groups())
    return cpu + of_word if words(uc, of_cpu) == [cpu] else 0


def checks(host: bytes, code: int, uc: int) -> list[tuple[int, int]]:
    """Return the offsets and sizes of the checks in host code that lies at an address."""
    wanted, routine = uc.to_bytes(8, "little"), check()
    return [
        (found.start(), found.end() - found.start())
        for found in CHECK.finditer(host)
        if found[1] == wanted and target(host, code, found.start(3), near=found[2] == NEAR_CALL) == routine
    ]


def leave_out(block: Translated, host: bytes, uc: int) -> None:
    """Leave out the checks of a block but the one after the hook, unless it calls what may ask for a stop.

    `host` is its host code as the engine has made it.  All calls for accesses have been led to host code of ours.
    """
    (first, _), *others = checks(host, block.code, uc) or [(len(host), 0)]
    if not 0 < first - (block.word - block.code) <= NEAREST or not others or not _harmless(host, block.code):
        return
    for at, size in others:
        ctypes.memmove(block.code + at, NOTHING[size], size)


def _harmless(host: bytes, code: int) -> bool:
    """Whether all calls of the engine in host code are of routines that are known."""
    engine, known = library(), harmless()
    # The look-up of an access ends with E8h, which is no call; nothing shorter will do, as it may be a guest's operand.
    for called in _called(host.replace(LOOKED_UP, bytes(len(LOOKED_UP))), code):
        if called in engine and called not in known:
            return False
    return True


def _called(host: bytes, code: int) -> Iterator[int]:
    """Yield where the calls in host code at an address go; those that go near are decoded here, for there are many."""
    at, last = host.find(NEAR_CALL), len(host) - CALL_SIZE
    while 0 <= at <= last:
        yield code + at + CALL_SIZE + OPERAND.unpack_from(host, at + 1)[0]
        at = host.find(NEAR_CALL, at + 1)
    at = host.find(FAR_CALL)
    while at >= 0:
        yield target(host, code, at + len(FAR_CALL), near=False)
        at = host.find(FAR_CALL, at + 1)
