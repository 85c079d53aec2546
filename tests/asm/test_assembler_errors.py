"""What a mistake looks like: place, what is wrong, what to write instead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from callgate.asm.assembler import AsmErrors, assemble, assemble_text


def errors_of(text: str, **options: int) -> list[str]:
    with pytest.raises(AsmErrors) as caught:
        assemble_text(text, name="t.asm", **options)
    return [str(error) for error in caught.value.errors]


GOLDEN = {
    "movv eax, 1": "1:1: there is no instruction movv; did you mean mov?",
    "mvo eax, 1": "1:1: there is no instruction mvo; did you mean mov?",
    "  mov al, 300": "1:11: the 8-bit operand holds no 0x12c; write -0x80 to 0xff",
    "mov ax, -32769": "1:9: the 16-bit operand holds no -0x8001; write -0x8000 to 0xffff",
    "mov eax, 0x100000000": "1:10: the 32-bit operand holds no 0x100000000; write -0x80000000 to 0xffffffff",
    "mov [eax], 1": "1:5: the size of the memory operand is not given; say `byte ptr`, `word ptr` or `dword ptr`",
    "inc [eax]": "1:5: the size of the memory operand is not given; say `byte ptr`, `word ptr` or `dword ptr`",
    "shl [eax], cl": "1:5: the size of the memory operand is not given; say `byte ptr`, `word ptr` or `dword ptr`",
    "movzx eax, [ecx]": "1:12: the size of the memory operand is not given; say `byte ptr`, `word ptr` or `dword ptr`",
    "push [eax]": "1:6: the size of the memory operand is not given; say `byte ptr`, `word ptr` or `dword ptr`",
    "fld [eax]": "1:5: the size of the memory operand is not given; say `dword ptr`, `qword ptr` or `tbyte ptr`",
    "mov eax, cx": "1:1: the operands have 32 and 16 bits; use registers of one size, or movzx and movsx",
    "mov dword ptr [eax], cl": "1:1: the operands have 32 and 8 bits; use registers of one size, or movzx and movsx",
    "lock mov [eax], ecx": "1:6: lock mov raises #UD with these operands; "
    "lock stands before a read-modify-write of memory (Intel SDM vol. 2, LOCK)",
    "lock add eax, [ecx]": "1:6: lock add raises #UD with these operands; "
    "lock stands before a read-modify-write of memory (Intel SDM vol. 2, LOCK)",
    "rep cld": "1:5: rep cannot stand before cld; it repeats string instructions",
    "repne movsb": "1:7: repne tests nothing before movsb; write rep",
    "mov cs, ax": "1:1: cs cannot be written by mov (#UD); use a far jump or return",
    "pop cs": "1:1: cs cannot be popped; use retf",
    "push word 3": "1:6: only 32-bit numbers are pushed: a smaller push would misalign the stack; write push number",
    "out 0x1234, al": "1:5: 0x1234 does not fit the 8 bits that out has for it; put the port number into dx",
    "int 256": "1:5: 0x100 does not fit the 8 bits that int has for it; write 0 to 0xff",
    "ret 0x12345": "1:5: 0x12345 does not fit the 16 bits that ret has for it; write 0 to 0xffff",
    "lea eax, [ecx + edx + ebx]": "1:11: no addressing form has these registers; use base + index * 1, 2, 4 or 8",
    "mov eax, [esp*2]": "1:11: esp cannot be an index",
    "mov eax, [bx + si]": "1:11: register bx cannot stand here; addresses are made of 32-bit general registers",
    "mov eax, [ebx].4": "1:10: [ebx].4 is not a memory operand; write [address + number]",
    "mov eax, byte ptr 5": "1:10: the number has 32 bits in this mov, not 8; "
    "leave the size word out, or write [5] for the memory there",
    "mov al, dword ptr 5": "1:9: the number has 8 bits in this mov, not 32; leave the size word out",
    "add ax, dword ptr 5": "1:9: the number has 16 bits in this add, not 32; leave the size word out",
    "movzx eax, byte ptr 5": "1:12: the number has 32 bits in this movzx, not 8; leave the size word out",
    "int dword 3": "1:5: the number has 8 bits in this int, not 32; leave the size word out",
    "jmp dword ptr 5": "1:5: jmp to a label has no size word; "
    "write jmp [address] to go where the memory there says, or no size word",
    "a: mov eax, dword ptr b - a\nb:": "1:23: b - a after a size word can be read in two ways; "
    "write [b - a] for the memory there, or b - a alone for the number",
    "X = 5\nmov eax, dword ptr X": "2:20: X after a size word can be read in two ways; write [X] for the memory there",
    "a: mov al, dword ptr a": "1:4: the operands have 8 and 32 bits; use registers of one size, or movzx and movsx",
    "a: jmp short [eax]": "1:8: short is for labels; leave it out: the branch goes to what memory holds",
    "mov eax, fword ptr 5": "1:20: 5 is a number, and no number has far; write [5] for the memory there",
    ".if 0\n.else if 0\n.endif": "2:7: .else takes no argument; write .elif condition",
    ".if 0\n.endif x": "2:8: .endif takes no argument; leave it out",
    ".if 1\n.else\n.elseif 1\n.endif": "3:1: .elseif after .else; close the condition with .endif first",
    ".if 0\n.elsif 1\n.endif": "2:1: there is no directive .elsif; write .elif condition, or .else and .if",
    ".rept 1\n.endr 5": "2:7: .endr takes no argument; leave it out",
    ".macro m\n.endm m": "2:7: .endm takes no argument; leave it out",
    "jmp 2f": "1:5: there is no label 2 below; "
    "the label is written 2:, 2b is the next one above, 2f the next one below",
    "10: nop\n.byte 10b": "2:7: 10b is a number, or the label 10: above; write 0b10 for the number",
    "mov al, q\n.set q, 1\n.set q, 2": "1:9: q has several values, and none yet; "
    "its values begin at t.asm:2; set it above",
    "q = 1\nq = 2": "2:5: q is defined twice; the first time at t.asm:1; "
    "what has several values is written .set name, value each time",
    ".float 1e60": "1:8: 1e60 is too large for .float; use .double or .tfloat",
    ".macro m a, b\n.endm\nm a=1, 5": "3:1: an argument without a name follows a named one; it is m a, b",
    ".macro m a, b\n.endm\nm 1, 2, a=3": "3:1: macro m is given a twice; it is m a, b",
    ".macro m a:vararg, b\n.endm": "1:8: 'b' follows a :vararg parameter; put :vararg last",
    ".exitm": "1:7: .exitm stands in no macro; leave it out",
    ".att_syntax": "1:1: .att_syntax is not supported; the syntax is that of Intel; let gcc write it with -masm=intel",
    ".popsection": "1:12: .popsection without .pushsection; begin with .pushsection, or leave this out",
    '.section .tbss,"awT",@nobits': "1:10: section .tbss is thread-local; there is no thread-local storage",
    "x: mov eax, dword ptr gs:x@ntpoff": "1:26: @NTPOFF is not supported; @PLT, @GOT and @GOTOFF are",
    "msg db 'x'": "1:1: msg is not followed by a colon, so it is not a label; write msg: .byte 'x'",
    "x$y: nop": "1:1: x$y is not the name of a label; a name has letters, digits and _, and",
    "a: .space 4\n.org a + 2": "2:6: .org cannot go back to offset 0x2; .text is at offset 0x4 here",
    "cmp al, 'é'": "1:9: the 8-bit operand holds no 0xa9c3; write -0x80 to 0xff",
    ".equ X, end - start\nstart: .space X\nend:": "2:15: the size of this .space depends on itself; "
    "let it be computed from what stands before it, or from constants",
    "a: .space c - b\nb: .space b - a\nc:": "1:11: the size of this .space depends on itself; let it be computed",
    "mov eax [ebx]": "1:5: eax [ebx] is not a memory operand; is a comma missing?",
    "mov eax, fs:0x18": "1:10: an address stands in brackets; write fs:[0x18]",
    "mov eax, [ebx": "1:10: [ebx is not a memory operand; close the bracket",
    "a: jmp far a": "1:8: a far branch needs a selector; write jmp selector:offset",
    "jecxz a\n.space 200\na:": "1:7: jecxz reaches 128 bytes, the target is 200 away; jump around a near jmp",
    "jmp short a\n.space 200\na:": "1:5: jmp short reaches 128 bytes, the target is 200 away; write it without short",
    "jmp nowhere": "1:5: nowhere is not defined",
    "start: jmp strat": "1:12: strat is not defined; did you mean start?",
    ".algin 4": "1:1: there is no directive .algin; did you mean .align?",
    "db 5": "1:1: db belongs to another assembler; write .byte",
    ".long 010": "1:7: 010 is octal to some assemblers, decimal to others; write 10 or 0o10",
    ".long 12ab": "1:7: 12ab is not a number; write decimal, 0x, 0b, 0o, or hexadecimal with h after it",
    ".byte 256": "1:7: 0x100 does not fit 8 bits; use a larger directive, or lo16 and hi16",
    ".long 1 / 0": "1:12: division by zero",
    '.ascii "abc': '1:8: a string in double quotes is expected; close it with "',
    '.error "stop here"': "1:1: stop here",
    ".align 3": "1:8: 3 is not an alignment; write a power of two up to 0x100000",
    "a: nop\na: nop": "2:1: a is defined twice; the first time at t.asm:1",
    ".x: nop": "1:1: local label .x has no global label before it",
    "eax: nop": "1:1: eax is a register, not a label",
    "x = y\ny = x\nmov eax, x": "1:5: x is defined by itself; a constant has one value",
    "a: .space b - a + 1\nb:": "1:11: the size of this .space depends on itself; "
    "let it be computed from what stands before it, or from constants",
    ".bss\nnop": "2:1: instructions cannot stand in .bss; switch to .text before it",
    ".bss\n.byte 1": "2:1: .bss holds zeros only; put values into .data or .rodata",
    ".if 1\nnop": "1:1: the condition does not end; close it with .endif",
    ".endif": "1:1: .endif without .if",
    ".macro m\nnop": "1:1: .macro does not end; close it with .endm",
    ".macro mov a\n.endm": "1:8: mov is an instruction; give the macro another name",
    "m\n.macro m\n.endm": "1:1: macro m is defined further down; move its definition above",
    ".rept -1\n.endr": "1:7: .rept cannot repeat -1 times; write 0 to 65536",
    ".if LATER\n.endif\nLATER = 1": "1:5: LATER has no value here; "
    "use constants that are defined above; addresses are not known yet",
    ".event take slot=ecx": "1:1: no instruction follows this .event; "
    "write it directly before the instruction that it is about",
    ".event take ecx\nnop": "1:13: a field is written key=register, each key once; for instance slot=ecx",
    ".event take x=xmm0\nnop": "1:13: xmm0 cannot be recorded; general and segment registers can",
    ".struct P\nnop\n.ends": "2:1: only .field and .ends stand inside .struct; close P with .ends",
    ".global nothing": "1:9: nothing is not defined",
    "mov eax, é": "1:10: 'é' can stand in comments and strings only; names are ASCII",
    "/* no end": "1:1: the comment does not end; close it with */",
    "mov eax, \\arg": "1:10: \\arg is not a parameter of a macro here",
    "%define x": "1:1: '%' begins no statement; write a label, a directive or an instruction",
    "mov cr1, eax": "1:5: cr1 is not defined",
    "bswap ax": "1:1: there is no bswap with ax; write for instance bswap eax",
    "add eax, ebx, ecx": "1:1: there is no add with eax and ebx and ecx; write for instance add eax, ecx or",
    "nop nop": "1:5: nop is not defined; define it, or include what does",
    "mov [eax], [ebx]": "1:1: mov takes one operand from memory, not two; write for instance mov eax, [ebx] or",
    "xchg eax, 5": "1:1: there is no xchg with eax and a number; write for instance xchg eax, ecx or xchg eax, [ebx]",
    "shl eax, ebx": "1:1: there is no shl with eax and ebx; write for instance shl eax, cl or shl eax, 1 or",
    "je eax": "1:1: there is no je with eax; write je label",
    "int": "1:1: there is no int with no operands; write for instance int 1",
    "lss sp, fword ptr [eax]": "1:1: lss reads 32 bits into a register of 16; use a register of 32 bits",
    "bound dx, qword ptr [eax]": "1:1: bound reads 32 bits into a register of 16; use a register of 32 bits",
    "ljmp 0x1000": "1:1: ljmp takes selector:offset or 48 bits of memory; write ljmp [address]",
    "lcall eax": "1:1: lcall takes selector:offset or 48 bits of memory; write lcall [address]",
    "ljmp dword ptr [eax]": "1:1: ljmp takes selector:offset or 48 bits of memory; write ljmp [address]",
    "ljmp 0x12345, 8": "1:6: 0x12345 does not fit 16 bits; write -0x8000 to 0xffff",
    "mov eax ebx": "1:9: unexpected 'ebx' after an expression; an operator or a comma is missing before it",
    "mov eax,": "1:9: an operand is missing; write one between the commas, or one comma less",
    "mov eax, %ebx": "1:10: unexpected '%'; registers are written without %",
    "movl $5, %eax": "1:1: there is no instruction movl; this is the syntax of AT&T; write mov destination, source,",
    "mov rax, 1": "1:5: rax is not defined; registers of 64 bits are for 64-bit code; write eax",
    "mov eax, r8d": "1:10: r8d is not defined; it exists in 64-bit code only",
    "addps ymm0, ymm1": "1:7: ymm0 is not defined; AVX is not supported; write xmm0 to xmm7",
    "mov eax, ebx + 4": "1:17: register ebx cannot stand in this expression; an address is written [ebx + number]",
    "begin nop": "1:1: there is no instruction begin; a label is written begin:",
    "frobnicate eax": "1:1: there is no instruction frobnicate; names are those of the Intel manual, up to SSE4.2",
    ".text 5": "1:7: .text takes no argument; write .text alone",
    ".global": "1:1: .global wants a name; write .global name, name",
    ".error stop": '1:8: a text in double quotes is expected; write "…" after the directive',
    ".struct": "1:8: a structure or field has no name; write .struct Name, or .field name, size",
    ".endm": "1:1: .endm without .macro; begin with .macro, or leave this out",
    "add eax, byte ptr 5": "1:10: the number has 32 bits in this add, not 8; leave the size word out",
    "push word 5": "1:6: only 32-bit numbers are pushed: a smaller push would misalign the stack; write push number",
    "1: mov eax, dword ptr 1f - 1b\n1:": "1:23: 1f - 1b after a size word can be read in two ways; write [1f - 1b]",
    ".ifdef a b\n.endif": "1:8: a b is not one name; write .ifdef name, or .if with a condition",
    "lock ; inc dword ptr [eax]": "1:1: lock is a prefix, and no instruction follows; write it before the instruction,",
    "notrack jmp fs:[eax]": "1:9: notrack cannot stand before jmp here; it stands before jmp and call to where a",
    "rep nop eax": "1:5: rep cannot stand before nop; it repeats string instructions",
    ".float 1/2": "1:8: 1/2 would be divided as whole numbers are; write the quotient with a point: .float 0.5",
    ".intel_syntax noprefix\ncli; hlt": "2:4: to GNU as, hlt is another statement, and here it is a comment; put it on",
    ".intel_syntax noprefix\nx: nop ; rep movsb": "2:8: to GNU as, rep movsb is another statement, and here it is",
    ".intel_syntax noprefix\nx: add eax, x": "2:13: to GNU as, x is the memory there, and here it is the address",
    ".intel_syntax noprefix\n1: push 1b": "2:9: to GNU as, 1b is the memory there, and here it is the address; write",
    "nop\n\0": "2:1: a zero byte: this is not text; save the source as UTF-8",
}  # fmt: skip


@pytest.mark.parametrize("source", GOLDEN, ids=lambda source: source.splitlines()[0])
def test_a_mistake_is_reported_with_place_reason_and_remedy(source: str) -> None:
    first = errors_of(source)[0].splitlines()[0]
    assert first.startswith(f"t.asm:{GOLDEN[source]}"), first


@pytest.mark.parametrize("comment", ["call the handler", "and so on", "hlt now", "in short, nothing", "a1 00"])
def test_a_comment_with_the_name_of_an_instruction_stays_a_comment_in_the_syntax_of_gnu_as(comment: str) -> None:
    assert assemble_text(f".intel_syntax noprefix\nnop ; {comment}").sections[0].data == b"\x90"


#: These messages need no hint.
SELF_EVIDENT = ("division by zero", "stop here", "nothing is not defined", "does not hold")


@pytest.mark.parametrize("source", GOLDEN, ids=lambda source: source.splitlines()[0])
def test_every_mistake_is_reported_with_what_to_write_instead(source: str) -> None:
    with pytest.raises(AsmErrors) as caught:
        assemble_text(source, name="t.asm")
    for error in caught.value.errors:
        assert error.hint or any(text in error.message for text in SELF_EVIDENT), str(error)


def test_control_sequences_for_a_terminal_are_not_shown_in_errors() -> None:
    (error,) = errors_of("nop\n \x1b[31mmov eax, 1")
    assert error.splitlines()[1] == "     ?[31mmov eax, 1"


def test_an_error_shows_the_line_with_a_caret() -> None:
    (error,) = errors_of("nop\n\tmov\teax, [ecx + edx*3]\n")
    assert error.splitlines()[1:] == ["    \tmov\teax, [ecx + edx*3]", "    \t   \t      ^"]


def test_many_mistakes_are_reported_in_one_run_in_order_of_their_lines() -> None:
    source = "mov al, 300\nfoo eax\nmov eax, nowhere\n.byte 1,\nmov [eax], 1\nnop\n"
    assert [error.split(":")[1] for error in errors_of(source)] == ["1", "2", "3", "4", "5"]


def test_at_most_twenty_mistakes_are_reported() -> None:
    assert len(errors_of("foo\n" * 100)) == 20


def test_macros_and_includes_show_the_way_to_the_mistake(tmp_path: Path) -> None:
    (tmp_path / "m.inc").write_text(".macro put what\n mov al, \\what\n.endm\n")
    (tmp_path / "b.inc").write_text("nop\nput 999\n")
    main = tmp_path / "main.asm"
    main.write_text('.include "m.inc"\n.include "b.inc"\n')
    with pytest.raises(AsmErrors) as caught:
        assemble(main)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{tmp_path}/m.inc:2:10: the 8-bit operand holds no 0x3e7")
    assert lines[1] == "     mov al, 999"
    assert lines[3:] == [
        f"    in macro put called from {tmp_path}/b.inc:2",
        f"    included from {main}:2",
    ]


def test_the_error_for_a_missing_include_says_where_it_was_looked_for(tmp_path: Path) -> None:
    main = tmp_path / "main.asm"
    main.write_text('nop\n.include "gone.inc"\n')
    with pytest.raises(AsmErrors) as caught:
        assemble(main, include_dirs=[tmp_path / "inc"])
    first = str(caught.value).splitlines()[0]
    assert first == f"{main}:2:10: gone.inc cannot be found; looked in {tmp_path}, {tmp_path}/inc"


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.inc").write_text('.include "b.inc"\n')
    (tmp_path / "b.inc").write_text('.include "a.inc"\n')
    with pytest.raises(AsmErrors, match=r"a\.inc includes itself; a\.inc includes b\.inc includes a\.inc"):
        assemble(tmp_path / "a.inc")


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        assemble(tmp_path / "none.asm")
    with pytest.raises(IsADirectoryError):
        assemble(tmp_path)


def test_an_incbin_outside_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"1234")
    (tmp_path / "m.asm").write_text('.data\n.incbin "blob", 2, 3\n')
    with pytest.raises(AsmErrors, match="has 4 bytes, not 2 to 5"):
        assemble(tmp_path / "m.asm")


def test_a_macro_that_calls_itself_is_stopped() -> None:
    (error,) = errors_of(".macro m\nm\n.endm\nm\n")
    assert "nested more than 48 deep; does one of them call itself?" in error
    assert len(error.splitlines()) < 16


@pytest.mark.parametrize(
    "source",
    [
        ".rept 65536\n.rept 65536\n.endr\n.endr\n",
        ".rept 65536\n.rept 65536\nnop\n.endr\n.endr\n",
        ".macro a x\nb \\x\\x\n.endm\n.macro b x\na \\x\\x\n.endm\na 1111\n",
        "a = " + "(" * 500 + "1" + ")" * 500 + "\n.long a\n",
        "a = " + "-" * 3000 + "1\n.long a\n",
        "a = " + "1 + " * 3000 + "1\n.byte a\n",
        "".join(f"a{n} = a{n + 1} + 1\n" for n in range(300)) + ".long a0\n",
        "a = 1 << 127 << 127\n.quad a\n",
        ".space 0x7fffffff\n",
        ".fill 0x7fffffff, 8\n",
        ".org 0x7fffffff\n",
        ".space 60000000\n.space 60000000\n",
        ".data\n" + ".long " + "1," * 5000 + "x\n",
    ],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_a_source_that_expands_without_end_is_refused(source: str) -> None:
    assert errors_of(source)


MISSPELT = (
    "\n".join("dadpd bwsap cpmepqd cvtdp2qd cvtds2si fciom fcipmo hdadpd mvo2dqq mvohpls pfshud psbud sqrtt".split())
    + "\n"
)


def test_suggestions_do_not_depend_on_the_seed_of_hashes() -> None:
    script = f"from callgate.asm.assembler import *\ntry: assemble_text({MISSPELT!r})\nexcept AsmErrors as e: print(e)"
    results = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "77")
    }
    assert len(results) == 1
    assert results.pop().count(b"did you mean") > 5
