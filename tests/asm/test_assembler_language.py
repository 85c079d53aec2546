"""The language: labels, sections, data, expressions, macros, conditions, structures, probes."""

import pickle
from pathlib import Path

import pytest
from callgate.asm.assembler import AsmErrors, Program, assemble, assemble_text
from callgate.asm.assembler.encoding.layout import SectionSpec


def code(text: str, section: str = ".text", **options: int) -> str:
    """Return a section's bytes in hex."""
    program = assemble_text(text, **options)
    return next(s.data.hex() for s in program.sections if s.name == section)


def message(text: str) -> str:
    with pytest.raises(AsmErrors) as caught:
        assemble_text(text)
    return str(caught.value)


def longs(expression: str) -> int:
    """Return the value of an expression as the assembler computes it."""
    return int.from_bytes(bytes.fromhex(code(f".data\n.quad {expression}\n", ".data")), "little", signed=True)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("10", 10), ("0x10", 16), ("10h", 16), ("0ffh", 255), ("0b101", 5), ("0o17", 15), ("1_000", 1000),
        ("'A'", 65), (r"'\n'", 10), (r"'\x7f'", 127), ("'é'", 0xA9C3), ("1010b", 10),
        ("0b1", 1), ("2 + 3 * 4", 14), ("(2 + 3) * 4", 20),
        ("-7 / 2", -3), ("-7 % 2", -1), ("7 / -2", -3), ("1 << 4 | 1", 17), ("6 & 3 ^ 1", 3), ("~0", -1), ("!5", 0),
        ("3 < 4 && 4 <= 4", 1), ("0 || 3 == 4", 0), ("3 != 4", 1), ("lo16(0x12345678)", 0x5678),
        ("hi16(0x12345678)", 0x1234), ("0x100 >> 4", 16), ("- -3", 3), ("2 - 3 - 4", -5),
        ("Message.ebx - Message.eax", 4), ("sizeof(SlotRecord)", 16),
    ],
)  # fmt: skip
def test_expressions_have_the_values_of_c(expression: str, value: int) -> None:
    assert longs(expression) == value


def test_forward_references_and_distances_are_resolved() -> None:
    source = "start: mov ecx, end - start\n mov eax, LATER\n mov edx, end\n nop\nend:\nLATER = 5\n"
    assert code(source, origin=0x1000) == "b910000000b805000000ba1010000090"


def test_dollar_and_dot_are_the_address_of_their_statement() -> None:
    assert code("nop\n.long $, ., $ + 4\n", origin=0x100) == "90" + "01010000" * 2 + "05010000"


def test_a_constant_keeps_the_address_where_it_was_defined() -> None:
    assert code("a: nop\nnop\nLENGTH = $ - a\nnop\n.byte LENGTH\n") == "90909002"


def test_local_labels_belong_to_the_label_before_them() -> None:
    source = "a:\n.x: nop\n jmp .x\nb:\n.x: nop\n jmp .x\n jmp a.x\n"
    assert code(source) == "90ebfd90ebfdebf8"


def test_a_label_may_share_the_line_with_an_instruction() -> None:
    program = assemble_text("start: nop\nnext: again: ret\n")
    assert program.address("next") == program.address("again") == program.address("start") + 1


def test_branches_are_short_where_that_reaches_and_near_elsewhere() -> None:
    assert code("a: .space 126\n jmp a\n")[-4:] == "eb80"
    assert code("a: .space 127\n jmp a\n")[-10:] == "e97cffffff"
    assert code(" jne b\n.space 127\nb:\n")[:4] == "757f"
    assert code(" jne b\n.space 128\nb:\n")[:12] == "0f8580000000"
    assert code(" jmp near b\nb:\n") == "e900000000"
    assert code(" call b\nb:\n") == "e800000000"


def test_branches_that_push_each_other_out_of_reach_settle() -> None:
    lines = [f"l{n}: jmp l{n + 40}" for n in range(200)] + [f"l{n}:" for n in range(200, 240)]
    program = assemble_text("\n".join(lines))
    for line in program.lines:
        data = program.code_at(line.address, line.size)
        offset = int.from_bytes(data[1:], "little", signed=True)
        number = int(line.text.split("jmp l")[1])
        assert line.address + line.size + offset == program.address(f"l{number}")
    assert {line.size for line in program.lines} <= {2, 5}


def test_sections_are_grouped_by_permission_and_start_on_pages() -> None:
    source = ".data\n.byte 1\n.text\nnop\n.bss\n.space 16\n.rodata\n.byte 2\n.section .boot\nhlt\n"
    program = assemble_text(source, origin=0x400000, align=4096)
    shape = [(s.name, s.address, s.writable, s.executable, len(s.data), s.size) for s in program.sections]
    assert shape == [
        (".boot", 0x400000, False, True, 1, 1),
        (".text", 0x401000, False, True, 1, 1),
        (".rodata", 0x402000, False, False, 1, 1),
        (".data", 0x403000, True, False, 1, 1),
        (".bss", 0x404000, True, False, 0, 16),
    ]


def test_load_addresses_follow_linear_addresses() -> None:
    program = assemble_text("nop\n.data\n.long 1\n", origin=0xC0100000, load=0x100000, align=4096)
    assert [(s.address, s.load) for s in program.sections] == [(0xC0100000, 0x100000), (0xC0101000, 0x101000)]


def test_sections_can_be_given_places() -> None:
    source = 'a: nop\n.data\nb: .long a\n.section .far, "rwx"\nc: nop\n'
    program = assemble_text(source, origin=0x1000, sections={".data": 0x8000, ".far": SectionSpec(0x9000, 0x500)})
    assert (program.address("a"), program.address("b"), program.address("c")) == (0x1000, 0x8000, 0x9000)
    assert [s.load for s in program.sections if s.name == ".far"] == [0x500]
    with pytest.raises(AsmErrors, match="overlap"):
        assemble_text("nop\nnop\n.data\n.long 1\n", origin=0x1000, sections={".data": 0x1001})


def test_data_directives_write_little_endian_numbers_and_strings() -> None:
    source = (
        ".data\n.byte 1, -1, 'A', \"hi\"\n.word 0x1234, -2\n.long 0x12345678\n.dword -1\n.quad 0x123456789abcdef0\n"
        '.ascii "a", "b"\n.asciz "c"\n.fill 2, 2, 0x1122\n.space 2, 0xcc\n.zero 1\n'
    )
    parts = (
        "01ff41",
        "6869",
        "3412feff",
        "78563412",
        "ffffffff",
        "f0debc9a78563412",
        "6162",
        "6300",
        "22112211",
        "cccc",
        "00",
    )
    assert code(source, ".data") == "".join(parts)


def test_strings_hold_utf_8_and_escapes() -> None:
    assert code(".data\n" + r'.ascii "é\n\t\0\x41\\\"\101;#"', ".data") == "c3a90a0900415c22413b23"


def test_alignment_fills_code_with_nops_and_data_with_zeros() -> None:
    assert code("ret\n.align 8\nret\n") == "c30f1f8000000000c3"
    assert code(".data\n.byte 1\n.align 4\n.byte 2\n", ".data") == "0100000002"
    assert code("ret\n.p2align 2, 0xcc\nret\n") == "c3ccccccc3"


def test_org_moves_to_an_offset_of_the_section() -> None:
    assert code("nop\n.org 4, 0xcc\nnop\n", origin=0x7C00) == "90cccccc90"
    assert code("a: nop\n.space 4 - ($ - a)\nnop\n") == "9000000090"


def test_comments_of_four_kinds_are_cut_and_strings_left_alone() -> None:
    source = 'nop ; a\nnop # b\nnop // c\nnop /* d\n nop\n */ ret /* e */\n.data\n.ascii "; # // /*"\n'
    program = assemble_text(source)
    assert program.sections[0].data.hex() == "90909090c3"
    assert program.sections[1].data == b"; # // /*"


def test_macros_take_arguments_defaults_and_unique_numbers() -> None:
    source = (
        ".macro add_to reg, value=1\n add \\reg, \\value\n.endm\n"
        ".macro skip\n jmp .l\\@\n nop\n.l\\@:\n.endm\n"
        ".macro twice what\n \\what\n \\what\n.endm\n"
        "start: add_to eax\n add_to ecx, 5\n skip\n skip\n twice skip\n twice inc eax\n"
    )
    assert code(source) == "83c001" + "83c105" + "eb0190" * 4 + "4040"


def test_macros_can_be_nested_and_define_macros() -> None:
    source = (
        ".macro make name, reg\n.macro \\name\n push \\reg\n.endm\n.endm\n"
        "make save_eax, eax\nmake save_ecx, ecx\nsave_eax\nsave_ecx\n"
    )
    assert code(source) == "5051"


def test_conditions_see_constants_above_them() -> None:
    source = ".equ N, 2\n.if N == 1\nnop\n.elif N == 2\n.ifdef N\nret\n.else\nhlt\n.endif\n.else\nhlt\n.endif\n"
    assert code(source) == "c3"
    assert code(".ifndef FAST\nnop\n.endif\nret\n") == "90c3"
    assert assemble_text(".ifdef FAST\nnop\n.endif\nret\n", defines={"FAST": 1}).sections[0].data == b"\x90\xc3"


def test_a_condition_knows_a_common_block_and_a_local_label_above_it() -> None:
    source = ".comm block, 4\n.ifdef block\nnop\n.endif\nf:\n.in:\n.ifdef .in\ncld\n.endif\ng:\n.ifdef .in\nhlt\n.endif"
    assert assemble_text(source).sections[0].data == b"\x90\xfc"


def test_repeat_blocks_are_expanded_as_often_as_they_say() -> None:
    assert code("N = 3\n.rept N\n.rept 2\nnop\n.endr\nret\n.endr\n") == "9090c3" * 3
    assert code(".irp r, eax, ecx\npush \\r\n.endr\n") == "5051"


def test_structures_give_offsets_and_sizes() -> None:
    source = ".struct P\n.field x, 4\n.field y, 8\n.ends\nmov eax, [ebx + P.y]\n.byte sizeof(P), P.x\n"
    assert code(source) == "8b43040c00"
    assert "did you mean P.y?" in message(".struct P\n.field x, 4\n.field y, 8\n.ends\nmov eax, [ebx + P.yy]\n")


def test_names_of_the_abi_are_known_and_misspelt_ones_get_a_suggestion() -> None:
    assert code("mov eax, [ebx + Message.eax]\n") == "8b4310"
    assert "did you mean Message.eflags?" in message("mov eax, [ebx + Message.eflag]\n")
    with pytest.raises(AsmErrors, match="not defined"):
        assemble_text("mov eax, [ebx + Message.eax]\n", abi=False)


def test_a_unit_may_repeat_a_predefined_value_but_not_change_it() -> None:
    assert code("PAGE_SIZE = 4096\nmov eax, PAGE_SIZE\n") == "b800100000"
    assert "predefined" in message("PAGE_SIZE = 4097\n")


def test_operands_may_be_written_in_the_style_of_intel_or_nasm() -> None:
    for text in ("mov dword ptr [eax], 1", "mov dword [eax], 1", "mov [eax], dword 1", "MOV DWORD PTR [EAX], 1"):
        assert code(text) == "c70001000000"
    for text in ("mov eax, fs:[ecx]", "mov eax, [fs:ecx]", "mov eax, dword ptr fs:[ecx]"):
        assert code(text) == "648b01"
    for text in ("mov eax, x\nx:", "mov eax, offset x\nx:"):
        assert code(text, origin=0x1000) == "b805100000"
    assert code("mov eax, [x]\nx:", origin=0x1000) == "a105100000"
    assert code("lea eax, [ecx*3]") == code("lea eax, [ecx + ecx*2]")
    assert code("lea eax, [4 + ecx*(2 + 2) + edx - 8]") == code("lea eax, [edx + ecx*4 - 4]")


def test_the_segment_of_ebp_can_be_overridden() -> None:
    assert code("mov eax, ds:[ebp]") == "3e8b4500"
    assert code("mov eax, ss:[ebp]") == code("mov eax, [ebp]") == "8b4500"


def test_mnemonics_without_a_size_are_the_32_bit_forms() -> None:
    assert code("iret\npushf\npopf\npusha\npopa\npush 8\npush ds\npush x\nx:", origin=0x1000) == (
        "cf9c9d6061" + "6a08" + "1e" + "680d100000"
    )


def test_files_are_included_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "main.asm").write_text('.include "lib/one.inc"\n.include "two.inc"\nmov eax, TWO\n')
    (tmp_path / "lib/one.inc").write_text('.include "near.inc"\n')
    (tmp_path / "lib/near.inc").write_text("nop\n")
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc/two.inc").write_text("TWO = 2\n")
    program = assemble(tmp_path / "main.asm", include_dirs=[tmp_path / "inc"])
    assert program.sections[0].data.hex() == "90b802000000"
    assert [Path(name).name for name in program.sources] == ["main.asm", "one.inc", "near.inc", "two.inc"]


def test_several_files_are_one_unit(tmp_path: Path) -> None:
    (tmp_path / "a.asm").write_text("start: jmp other\n")
    (tmp_path / "b.asm").write_text("other: ret\n")
    program = assemble([tmp_path / "a.asm", tmp_path / "b.asm"])
    assert program.sections[0].data.hex() == "eb00c3"


def test_binary_files_are_included_whole_or_in_part(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(bytes(range(10)))
    (tmp_path / "m.asm").write_text('.data\n.incbin "blob"\n.incbin "blob", 8\n.incbin "blob", 2, 3\n')
    assert assemble(tmp_path / "m.asm").sections[0].data == bytes([*range(10), 8, 9, 2, 3, 4])


def test_events_and_marks_cost_no_bytes_and_name_the_next_instruction() -> None:
    source = (
        "start: nop\n.event ipc.take slot=ecx, size=sizeof(SlotRecord) part=gs\n.ledger pte_writes, 2\nmov [eax], ecx\n"
    )
    program = assemble_text(source)
    assert program.sections[0].data.hex() == "908908"
    (event,) = program.events
    assert (event.address, event.name) == (program.entry + 1, "ipc.take")
    assert event.fields == (("slot", "ecx"), ("size", "16"), ("part", "gs"))
    (mark,) = program.marks
    assert (mark.address, mark.name, mark.amount) == (program.entry + 1, "pte_writes", 2)


def test_symbols_know_kind_size_and_place() -> None:
    program = assemble_text("N = 3\nfirst: nop\n.loop: nop\nsecond: ret\n", origin=0x1000)
    shape = {s.name: (s.address, s.kind, s.size, s.line) for s in program.symbols.values()}
    assert shape == {
        "first": (0x1000, "label", 2, 2),
        "first.loop": (0x1001, "local", 0, 3),
        "second": (0x1002, "label", 1, 4),
        "N": (3, "constant", 0, 1),
    }


def test_addresses_are_named_and_found_in_the_source() -> None:
    program = assemble_text("nop\nstart: nop\n.x: ret\n", origin=0x1000)
    assert program.symbol_at(0x1001) == "start"
    assert program.symbol_at(0x1002) == "start+0x1"
    assert program.symbol_at(0x1000) == "0x00001000"
    assert program.symbol_at(0x5000) == "0x00005000"
    line = program.line_at(0x1002)
    assert line is not None
    assert (line.line, line.text.strip()) == (3, ".x: ret")
    assert program.line_at(0x1003) is None
    with pytest.raises(KeyError, match="did you mean start"):
        program.address("stort")


def test_lines_of_a_macro_are_those_of_its_call() -> None:
    program = assemble_text(".macro m\nnop\nret\n.endm\nstart:\n m\n")
    assert [(line.line, line.text.strip()) for line in program.lines] == [(6, "nop"), (6, "ret")]


def test_the_entry_is_start_or_what_is_named_or_the_first_instruction() -> None:
    assert assemble_text("nop\nstart: nop\n", origin=0x1000).entry == 0x1001
    assert assemble_text("nop\nother: nop\n", origin=0x1000, entry="other").entry == 0x1001
    assert assemble_text("nop\n", origin=0x1000).entry == 0x1000
    with pytest.raises(AsmErrors, match="no label begin"):
        assemble_text("nop\n", entry="begin")


def test_assertions_are_checked_when_addresses_are_final() -> None:
    assemble_text('a: jmp b\n.space 200\nb:\n.assert b - a == 205, "size"\n')
    assert "too large" in message('a: jmp b\n.space 200\nb:\n.assert b - a < 205, "too large"\n')


def test_listing_and_symbol_file_show_addresses() -> None:
    program: Program = assemble_text(
        "start: mov eax, 1\n.x: ret\n.data\nv: .long 1\nN = 2\n", origin=0x1000, align=4096
    )
    assert program.listing() == (
        "start:\n"
        "00001000  b801000000            <text>:1               start: mov eax, 1\n"
        "start.x:\n"
        "00001005  c3                    <text>:2               .x: ret\n"
    )
    assert program.symbol_file() == "00000002 a N\n00001000 T start\n00001005 t start.x\n00002000 D v\n"


def test_assembling_is_deterministic() -> None:
    source = "a: jmp b\n.space 300\nb: mov eax, [a + ecx*4]\n.event e x=eax\nnop\n"
    assert assemble_text(source).elf() == assemble_text(source).elf()


def test_a_label_may_stand_before_a_macro_call() -> None:
    program = assemble_text(".macro two\nnop\nnop\n.endm\nnop\nhere: two\n", origin=0)
    assert program.address("here") == 1


def test_programs_and_errors_survive_pickling() -> None:
    program = assemble_text("start: nop\n.event e x=eax\nret\n")
    program.symbol_at(program.entry)
    assert pickle.loads(pickle.dumps(program)) == program  # noqa: S301 - written one call before
    with pytest.raises(AsmErrors) as caught:
        assemble_text("foo\nbar\n")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - as above


def test_a_misspelt_macro_gets_a_suggestion() -> None:
    assert "did you mean ENTER_KERNEL?" in message(".macro ENTER_KERNEL\nnop\n.endm\nENTRE_KERNEL\n")
