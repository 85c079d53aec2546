"""Sources that GNU as takes as well: the same bytes, whole sections at a time."""

import random
import struct
from pathlib import Path

import host_programs
import pytest
from callgate.asm.assembler import assemble_text
from callgate.asm.assembler.encoding.floats import float_bytes

# `.org`, `.p2align` and labels are relative to the section, which GNU as lets begin at 0.
SOURCES = {
    "labels with numbers": """
        1: nop
        jmp 1b
        jmp 1f
        2: jmp 2b
        1: jne 2b
        call 1b
        12: jmp 12b
    """,
    "labels with numbers in macros": """
        .macro wait_for
        1: dec ecx
        jne 1b
        .endm
        wait_for
        wait_for
        1: jmp 1b
    """,
    "symbols that are set again": """
        .set n, 1
        .byte n
        .set n, n + 1
        .byte n
        .if n == 2
        .byte 22
        .endif
        .set n, 9
    """,
    "a symbol that counts": """
        .set i, 0
        .rept 5
        .byte i
        .set i, i + 1
        .endr
        .byte i
    """,
    "an alias of a label": """
        f: ret
        .set g, f
        call g
    """,
    "numbers with a point": """
        .float 1.5, -2, 1e10, 0.1, 3.4e38, 1e-45, 0
        .double 0.1, -1e308, 5e-324
        .single 2.5
        .tfloat 0.1
    """,
    "an index behind a label": """
        mov eax, dword ptr table[ecx*4]
        mov eax, table[ebx]
        lea edx, table[eax + ecx*2 + 4]
        table:
    """,
    "brackets behind brackets": """
        mov eax, [ebx][ecx]
        mov eax, [ebx][ecx*4][8]
        mov eax, 4[ebx]
        mov eax, -4[ebp + edx*2]
        mov eax, [ebx] + 4
        mov eax, 8[ebx + 4][ecx*2]
        mov eax, [edx + edx]
        lea eax, [eax + eax + 1]
    """,
    "a size in brackets": """
        call [dword ptr [eax]]
        jmp [dword ptr 8[ebp]]
        jmp [dword ptr table[0 + eax*4]]
        table:
    """,
    "memory by its size word": """
        mov eax, dword ptr x
        push dword ptr x
        call dword ptr x
        jmp dword ptr x
        cmp eax, dword ptr x
        mov byte ptr x + 1, al
        inc word ptr x
        fld qword ptr x
        movzx eax, byte ptr x
        imul eax, dword ptr x, 5
        mov dword ptr x, 5
        pop dword ptr x
        lea eax, dword ptr x
        mov eax, dword ptr gs:20
        mov eax, dword ptr (x + 4)
        shl dword ptr x, 3
        lgdt fword ptr x
        jmp fword ptr x
        movaps xmm0, xmmword ptr x
        x:
    """,
    "numbers behind a size word": """
        mov eax, dword ptr 5
        add ax, word ptr 5
        push dword ptr 5
        int byte ptr 3
        out byte ptr 5, al
        mov [ebx], dword ptr 1
        shl eax, byte ptr 5
        imul eax, ebx, dword ptr 5
    """,
    "addresses as numbers": """
        mov eax, offset x
        mov eax, offset flat:x
        mov eax, 4 + offset flat:x
        mov eax, dword ptr offset x
        push offset x
        mov eax, offset x[4]
        cmp eax, offset x[4]
        push offset x[8]
        mov dword ptr [ebx], offset flat:x[4]
        mov eax, offset [x]
        mov eax, offset x[ecx]
        x:
    """,
    "memory at labels with numbers": """
        1: mov eax, dword ptr 1f
        call dword ptr 1b
        mov al, byte ptr 1b + 1
        fld qword ptr 1f
        jmp dword ptr 1f
        1: inc dword ptr 1b[ecx*4]
    """,
    "conditions about labels": """
        first: second: nop
        .ifdef second
        cld
        .endif
        .ifdef later
        hlt
        .endif
        .macro once
        .ifndef done
        done: std
        .endif
        .endm
        once
        once
        .Lc:
        .ifdef .Lc
        stc
        .endif
        later:
    """,
    "an alias of a constant of a compiler": """
        .set .LC0,.LC1
        fld qword ptr .LC0
        mov eax, offset flat:.LC0+4
        .LC1:
    """,
    "inline assembly": """
        #APP
        cli; hlt # a; b
        lock; inc dword ptr [ecx]
        rep; movsd
        .ascii ";"; nop
        #NO_APP
        nop
    """,
    "conditions": """
        .ifdef NOTHING
        int3
        .elseif 1
        nop
        .endif
        .ifeq 0
        nop
        .endif
        .ifne 0
        hlt
        .else
        cld
        .endif
        .ifgt 1
        std
        .endif
        .iflt 1
        hlt
        .endif
        .ifb
        clc
        .endif
        .ifnb x
        stc
        .endif
        .ifc a b, a b
        cmc
        .endif
        .ifnc a, b
        leave
        .endif
        .ifeqs "a", "b"
        hlt
        .endif
    """,
    "macros with names, defaults and the rest": r"""
        .macro m a:req, b=2, r:vararg
        .byte \a, \b
        .byte \r
        .endm
        m 1, 3, 4, 5
        m b=5, a=1, r=9
        m 7,,8
    """,
    "the way out of a macro": r"""
        .macro m x=
        .ifb \x
        .exitm
        .endif
        .byte \x
        .endm
        m
        m 1
        .purgem m
        .macro m
        .byte 9
        .endm
        m
    """,
    "characters one by one": r"""
        .irpc c, 1234
        .byte \c
        .endr
        .irp r, eax, ecx
        push \r
        .endr
        .irp none
        ret
        .endr
    """,
    "sections on a stack": """
        .byte 1
        .pushsection .data
        .byte 9
        .popsection
        .byte 2
        .section .text
        .byte 3
        .data
        .previous
        .byte 4
        .section .note.GNU-stack,"",@progbits
        .byte 7
        .text
        .byte 5
    """,
    "alignment with a limit": """
        nop
        .p2align 4,0xcc,3
        ret
        .p2align 3,0xcc,7
        ret
        .balign 16,0x11,15
        ret
        .p2align 2,0x22
    """,
    "an origin by label": """
        a: nop
        .org a + 8, 0xcc
        nop
        .org 16, 0xcc
        nop
    """,
    "what compilers tell others": """
        .file "x.c"
        .intel_syntax noprefix
        .globl f
        .type f, @function
        f: nop
        .size f, .-f
        .ident "gcc"
        .cfi_sections .debug_frame
        .hidden f
        .value 5
        .2byte 6
        .4byte 7
        .8byte 8
        .hword 9
        .extern printf
    """,
    "repeats of compilers": """
        rep ret
        rep bsf eax, ecx
        rep bsf ax, word ptr fs:[ebx]
        rep nop
    """,
    "branches that need no ENDBR32": """
        notrack jmp eax
        notrack call dword ptr [ebx]
        notrack jmp dword ptr table[ecx*4]
        table:
    """,
    "short numbers by their size": """
        push byte ptr 5
        and eax, dword ptr 5
    """,
}


@pytest.mark.parametrize("title", SOURCES)
def test_a_source_of_gnu_as_has_the_same_bytes(title: str, tmp_path: Path) -> None:
    source, image, script, binary = (tmp_path / name for name in ("s.s", "s.o", "s.ld", "s.bin"))
    source.write_text(".intel_syntax noprefix\n" + SOURCES[title])
    script.write_text("SECTIONS { .text 0x400000 : { *(.text) } .data 0x500000 : { *(.data) } }")
    host_programs.run("as", "--32", "-msyntax=intel", "-mnaked-reg", "-W", "-o", image, source)
    host_programs.run("ld", "-m", "elf_i386", "-e", "0x400000", "-T", script, "-o", binary, image)
    host_programs.run("objcopy", "-O", "binary", "-j", ".text", binary, image)
    program = assemble_text(SOURCES[title], sections={".text": 0x400000, ".data": 0x500000}, abi=False)
    assert next(s.data for s in program.sections if s.name == ".text").hex(" ") == image.read_bytes().hex(" ")


def test_floating_point_numbers_are_rounded_as_gnu_as_does(tmp_path: Path) -> None:
    host_programs.find("as", "objcopy")
    rng = random.Random(1)
    digits = [(rng.choice(("", "-")), rng.randrange(10**9), rng.randrange(10**6)) for _ in range(300)]
    numbers = [f"{sign}{whole}.{part}e{rng.randrange(-40, -16)}" for sign, whole, part in digits]
    numbers += ["1.17549435e-38", "1e-40", "0.30000001192092896"]
    lines = [f"{word} {number}" for word in (".float", ".double", ".tfloat") for number in numbers]
    source, image, binary = (tmp_path / name for name in ("s.s", "s.o", "s.bin"))
    source.write_text("\n".join((*lines, "")))
    host_programs.run("as", "--32", "-o", image, source)
    host_programs.run("objcopy", "-O", "binary", "-j", ".text", image, binary)
    code, at = binary.read_bytes(), 0
    for line in lines:
        word, number = line.split()
        ours = float_bytes(number, word)
        assert ours is not None
        assert code[at : at + len(ours)].hex() == ours.hex(), line
        at += len(ours)
    assert at == len(code)


@pytest.mark.parametrize("text", ["16777217", "16777219", "1.401298464e-45", "0.7e-45", "3.4028235e38", "8388608.5"])
def test_a_number_between_two_others_becomes_the_even_one(text: str) -> None:
    """GNU as takes the larger one."""
    assert float_bytes(text, ".float") == struct.pack("<f", float(text))
