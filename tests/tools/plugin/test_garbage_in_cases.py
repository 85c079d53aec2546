"""Cases of random bytes in both rings: each ends within its fuel, at Ctrl-C, and so does its report.

`tests/machine/engine/test_every_run_can_be_ended.py` does the same by `bare_cpu.call`.
"""

import random
import time
from functools import cache
from pathlib import Path

import pytest
from callgate.tools.asmtest.board.programs import Programs
from callgate.tools.asmtest.cases.directives import parse
from callgate.tools.asmtest.cases.runner import CaseFailure, check_cases
from ctrl_c import ctrl_c_when, has_run

COUNT, LENGTH, FUEL = 200, 96, 2_000
# Instructions, more than 20 ms worth of them by blocks: a case that has not ended by then is taken to run for ever.
LONG = 50_000_000
PRESSED_AFTER = 0.02  # seconds of CPU time
ENDLESS = 1 << 60
DEADLINE = 1.0  # seconds of CPU time from Ctrl-C to the end of the run
SCENE = "set eax = 0x20000, ebx = 0x20000, edx = 0x1f0, edi = 0x20000, esi = 0x30000"


@cache
def program():
    """Return COUNT programs of random bytes, f0 to f199, each of which runs on into the next one."""
    generator = random.Random(3)
    lines = []
    for number in range(COUNT):
        code = bytearray(generator.randbytes(LENGTH))
        for at in range(7, LENGTH, 16 if number % 2 else LENGTH):  # jumps back, or what follows runs into zeros
            code[at : at + 2] = (0xEB, generator.randrange(0xE8, 0xFF))
        lines.append(f"f{number}: .byte {', '.join(map(str, code))}\n")
    return Programs().text("".join(lines), Path("test_garbage.asm"))


def case_of(number, ring, fuel):
    """Return a case of one of the programs, which cannot hold."""
    lines = (f"case {number}", f"ring {ring}", SCENE, f"call f{number}", f"fuel {fuel}", "expect fault = #XM")
    (case,) = parse("".join(f";@ {line}\n" for line in lines), "test_garbage.asm")
    return case


def goes_on(number, seconds, ring, cpu):
    """Whether a case is still running after LONG instructions, or after fewer that take far longer than Ctrl-C.

    `seconds` is what FUEL instructions have taken: an x87 stack fault takes a thousand times as long as another one.
    """
    if seconds > 5 * PRESSED_AFTER:
        return True
    for fuel in (10 * FUEL, 100 * FUEL, 1000 * FUEL, 5000 * FUEL, LONG):
        begin = time.process_time()
        with pytest.raises(CaseFailure) as failure:
            check_cases(case_of(number, ring, fuel), program(), cpu)
        if f"did not return within {fuel} instructions" not in failure.value.reason:
            return False
        if time.process_time() - begin > 5 * PRESSED_AFTER:
            break
    return True


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ring", [0, 3])
def test_cases_of_random_bytes_end_within_their_fuel_and_at_ctrl_c(bare_cpu, ring, some_of):
    program()  # no case waits for the assembler
    endless = {}
    for number in some_of(range(COUNT), 12):
        begin = time.process_time()
        with pytest.raises(CaseFailure) as failure:
            check_cases(case_of(number, ring, FUEL), program(), bare_cpu)
        if bare_cpu.last is not None:  # None where a host call that has no answer was refused
            assert bare_cpu.last.instructions <= FUEL
        if f"did not return within {FUEL} instructions" in failure.value.reason:
            endless[number] = time.process_time() - begin
    first = some_of(list(endless.items())[:4], 2)
    pressing = [number for number, seconds in first if goes_on(number, seconds, ring, bare_cpu)]
    assert pressing
    for number in pressing:
        with ctrl_c_when(has_run(bare_cpu.machine, PRESSED_AFTER)) as pressed, pytest.raises(KeyboardInterrupt):
            check_cases(case_of(number, ring, ENDLESS), program(), bare_cpu)
        assert time.process_time() - pressed[0] < DEADLINE, number
