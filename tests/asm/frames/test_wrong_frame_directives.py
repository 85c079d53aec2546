"""Wrong directives about call frames and variables: an error with file, line and column, and what to do."""

import pytest
from callgate.asm.assembler import AsmErrors, Program, assemble_text

WRONG = {
    "nop\n.cfi_endproc": "2: .cfi_endproc without .cfi_startproc",
    ".cfi_def_cfa_offset 8\nnop": "1: .cfi_def_cfa_offset without .cfi_startproc",
    ".cfi_startproc\nnop\n.cfi_startproc\n.cfi_endproc": "3: the frame begun in line 1 has not been ended",
    "nop\n.cfi_startproc\nnop": "2: the frame begun here is open at the end of the section",
    ".cfi_startproc\n.cfi_restore_state\n.cfi_endproc\nnop": "2: .cfi_restore_state without .cfi_remember_state",
    ".cfi_startproc\n.cfi_offset ebq, 4\n.cfi_endproc\nnop": "2: ebq is no register of a frame",
    ".cfi_startproc\n.cfi_offset 128, 4\n.cfi_endproc\nnop": "2: 128 is no register of a frame",
    ".cfi_startproc\n.cfi_offset eax\n.cfi_endproc\nnop": "2: .cfi_offset takes 2 operands",
    ".cfi_startproc\n.cfi_endproc 5\nnop": "2: .cfi_endproc takes no operands",
    ".cfi_startproc plain\n.cfi_endproc\nnop": "1: .cfi_startproc takes nothing, or simple",
    ".cfi_startproc\n.cfi_escape 300\n.cfi_endproc\nnop": "2: .cfi_escape takes bytes",
    ".cfi_startproc\n.cfi_undefined\n.cfi_endproc\nnop": "2: .cfi_undefined wants operands",
    ".cfi_startproc\n.cfi_def_cfa_offset nowhere\n.cfi_endproc\nnop": "2: nowhere is not defined",
    ".cfi_ofset eax, 4\nnop": "1: there is no directive .cfi_ofset",
    ".data\n.cfi_startproc\n.cfi_endproc\n.long 1": "2: .cfi_startproc stands in .data",
    ".frame gates\nnop": "1: the kind of frame is not understood",
    ".frame\nnop": "1: the kind of frame is not understood",
    ".frame like\nnop": "1: the kind of frame is not understood",
    ".frame like nowhere\nnop": "1: nowhere is not defined",
    "nop\n.frame like words\nnop\n.data\nwords: .long 1": "2: no instruction stands at words",
    ".frame call, -4\nnop": "1: fewer than no bytes",
    ".cfi_startproc\n.frame call\n.cfi_endproc\nnop": "2: .frame within .cfi_startproc",
    ".frame_bias\nnop": "1: .frame_bias takes one number",
    ".data\n.layout Endpoint\n.long 1": "2: .layout wants a label before it",
    ".data\nx: .layout Endpiont\n.long 1": "2: sizeof(Endpiont) is not defined",
    ".data\nx:\n.layout Endpiont\n.long 1": "3: sizeof(Endpiont) is not defined",
    ".data\nx:\n.layout Endpoint, 0\n.long 1": "3: .layout declares one structure or more",
}


@pytest.mark.parametrize("source", WRONG)
def test_a_wrong_directive_is_an_error_that_names_its_line(source: str) -> None:
    with pytest.raises(AsmErrors) as caught:
        assemble_text(source + "\n", name="unit.asm")
    place, _, message = WRONG[source].partition(": ")
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"unit.asm:{place}:")
    assert message in first


def test_directives_about_exceptions_and_sections_have_no_effect() -> None:
    source = ".cfi_sections .eh_frame, .debug_frame\nnop\n"
    assert assemble_text(source).frame_sites == []


def test_directives_are_kept_in_the_file_and_read_back() -> None:
    program = assemble_text(
        ".struct Pair\n.field first, 4\n.field second, 8\n.ends\n"
        "start:\n.frame gate, 4\n.cfi_startproc\nret\n.cfi_endproc\n.data\npairs: .space 3 * sizeof(Pair)\n"
    )
    assert [site.word for site in program.frame_sites] == [".frame", ".cfi_startproc", ".cfi_endproc"]
    assert [(v.name, v.type, v.count) for v in program.variables] == [("pairs", "Pair", 3)]
    assert program.structures["sizeof(Pair)"] == 12
    assert Program.from_elf(program.elf()) == program
