"""Any input to the assembler gives a program or errors with places, within a bounded time."""

import os
import time

import pytest
from callgate.asm.assembler import AsmError, AsmErrors, Program, assemble_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MANY = 200 if os.environ.get("CALLGATE_THOROUGH") else 50  # texts that are slow to assemble

SECONDS = 5.0  # of CPU time
WORDS = st.sampled_from(
    "mov add push pop call jmp je loop lea rep lock movsb imul shl int out in lgdt ret fld st movaps xmm0 eax ax al "
    "esp ebp cs fs cr0 dr7 byte word dword ptr short near far offset [ ] ( ) { } , : ; # // /* */ + - * / % << >> & | "
    "^ ~ ! < > == != && || = . $ @ \\ ' \" 0 1 8 0x10 -1 300 0xffffffff 99999999999 010 1fh start .local start.local "
    "Message.eax sizeof lo16 .text .data .bss .section .align .org .byte .long .quad .ascii .space .fill .incbin .if "
    ".ifdef .else .endif .rept .endr .irp .macro .endm .include .struct .field .ends .equ .set .event .ledger .assert "
    ".error .global \\a \\@ \\() % ! [bits %define .cfi_startproc \x00 \x7f é \u2028 \ud800 \t".split(" ")
)
SOURCE = st.lists(st.one_of(WORDS, st.just("\n"), st.just("\n"), st.text(max_size=4)), max_size=60).map(" ".join)

GOOD = """\
        .macro put register, value=1
        mov     \\register, \\value
        jne     .skip\\@
.skip\\@:
        .endm
SIZE = sizeof(Message) + 4
        .struct Pair
        .field  first, 4
        .field  second, SIZE
        .ends
        .if SIZE > 4
start:
        put     eax
        put     ecx, [ebx + Pair.second]
        .endif
        .rept 3
        lock inc dword ptr fs:[start + ecx*4]
        .endr
        .event  here.we.go slot=eax size=SIZE
        rep movsd
        lgdt    [table]
        call    start
        jmp     8:start
        .rodata
        .align  16
table:  .word   lo16(start), hi16(start), "x"
text:   .asciz  "hello \\"you\\" \\x41" ; comment
        .space  64 - ($ - text), 0xff
"""


def check(source: str) -> Program | None:
    """Assemble; errors must be whole, and come within a bound of time."""
    start = time.process_time()
    program, errors = attempt(source)
    assert time.process_time() - start < SECONDS
    assert program is not None or errors
    for error in errors:
        assert error.message
        assert error.line >= 1
        assert error.column >= 1
        assert str(error)
    return program


def attempt(source: str) -> tuple[Program | None, list[AsmError]]:
    try:
        return assemble_text(source), []
    except AsmErrors as caught:
        return None, caught.errors


@pytest.mark.thorough(only=True)
@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(SOURCE)
def test_words_in_any_order_give_a_program_or_errors(source: str) -> None:
    check(source)


@settings(max_examples=MANY, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200))
def test_any_text_gives_a_program_or_errors(source: str) -> None:
    check(source)


@pytest.mark.thorough(only=True)
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_source_gives_a_program_or_errors(data: st.DataObject) -> None:
    source = GOOD
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(source)))
        length = data.draw(st.integers(0, 8))
        source = source[:start] + data.draw(st.one_of(WORDS, st.text(max_size=3))) + source[start + length :]
    check(source)


# Each of these hangs, kills or silences Keystone when it is handed over as it stands.
KILLERS = (
    "[bits 32]", "! nop", "%define x", ".text", ".cfi_startproc", ".fill x-.,4", ".string 'x'", '.ascii "', ".section",
    "nop ; hlt", '.include "none"', ".end", "mov eax, 'AB'", "cs: mov eax, [ebx]", "1: jmp 1b", "mov eax, -x",
)  # fmt: skip


@pytest.mark.parametrize("source", KILLERS)
@pytest.mark.timeout(60)
def test_input_that_crashes_keystone_does_no_harm(source: str) -> None:
    check(source)
    check(f"start: nop\n{source}\nnop\n")


def test_the_source_that_is_damaged_assembles_undamaged() -> None:
    program = check(GOOD.replace(', "x"', ""))
    assert program is not None
    assert len(program.events) == 1
