"""`callgate explain` against docs/reference.md, DWARF lines, the machine and values of other systems."""

import io
import itertools
import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.cpu.cpu import FLAG_NAMES
from callgate.kernel.machine.cpu.paging import Mode, Walk, refusal
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.programs.images import kernel_image, program_image
from callgate.tools.explaining import addresses, names, paging
from callgate.tools.explaining.answers import Answer, Unknown
from callgate.tools.explaining.counters import COUNTERS
from callgate.tools.explaining.explain import KINDS, explain, number
from elftools.elf.elffile import ELFFile

REFERENCE = (Path(__file__).parents[3] / "docs" / "reference.md").read_text("utf-8")
SECTION = re.compile(r"^### (\w+)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
LEDGER = (Path(__file__).parents[3] / "docs" / "ledger.md").read_text("utf-8")
VALUE = re.compile(r"^\| (0x[0-9a-f]+) \| `(\w+)` \|$", re.MULTILINE)
FIELD = re.compile(r"^\| (0x[0-9a-f]+) \| (\d+) \| `(\w+)` \| (.*) \|$", re.MULTILINE)


def one(*words: str) -> Answer:
    [answer] = explain(words)
    return answer


@pytest.mark.parametrize(("title", "text"), SECTION.findall(REFERENCE), ids=lambda value: value[:20].strip())
def test_every_number_and_field_of_the_reference_is_explained_as_it_stands_there(title: str, text: str) -> None:
    for value, name in VALUE.findall(text):
        answer = one(f"{title}.{name}")
        assert answer.summary == f"{title}.{name} = {value} ({int(value, 16)})"
        assert answer.summary in {other.summary for other in explain([name])}
    for offset, size, name, note in FIELD.findall(text):
        answer = one(f"{title}.{name}")
        assert answer.summary == f"offset {offset}, {size} bytes"
        assert answer.notes == ([note] if note else [])
    shown = [part[:2] for part in one(title).parts]
    assert shown == [(value, name) for value, name in VALUE.findall(text)] + [
        (offset, name) for offset, _, name, _ in FIELD.findall(text)
    ]


def test_source_lines_of_the_kernel_are_those_of_its_dwarf_data() -> None:
    image = kernel_image()
    lines = []
    for unit in ELFFile(io.BytesIO(image.elf())).get_dwarf_info().iter_CUs():
        program = unit.dwarfinfo.line_program_for_CU(unit)
        files = [entry.name.decode() for entry in program["file_entry"]]
        for entry in program.get_entries():
            if entry.state is not None and not entry.state.end_sequence:
                lines.append((entry.state.address, Path(files[entry.state.file - 1]).name, entry.state.line))
    lines.sort(key=lambda line: line[0])
    starts = [address for address, _, _ in lines]
    section = next(section for section in image.sections if section.executable)
    for address in range(section.address, section.address + section.size, 97):
        answer = addresses.explain(address)
        _, file, line = lines[bisect_right(starts, address) - 1]
        assert f"/{file}:{line}: " in answer.parts[0].meaning


@pytest.mark.parametrize("value", [0x246, 0x2, 0x10AD7, 0x46, 0xED6])
def test_flags_are_named_as_the_machine_names_them(value: int) -> None:
    answer = one("eflags", hex(value))
    assert set(answer.summary.split()) >= {name for bit, name in FLAG_NAMES.items() if value >> bit & 1}
    assert not [note for note in answer.notes if "reserved" in note]
    assert "reserved bits that are not as they must be: 3" in " ".join(one("eflags", hex(value | 8)).notes)


def test_a_page_faults_error_code_says_the_access_that_raises_it() -> None:
    mode = Mode(paging=True, cr3=0, write_protect=True, no_execute=True, smep=True)
    accesses = {"read": (False, False), "write": (True, False), "instruction fetch": (False, True)}
    refused = 0
    for user, access, present in itertools.product((False, True), accesses, (False, True)):
        write, fetch = accesses[access]
        page = 0x5000 if present else None
        walk = Walk(0x1000, (), page, user=not user, writable=False, executable=False, page_size=4096)
        code = refusal(walk, mode, user=user, write=write, fetch=fetch)
        if code is not None:
            refused += 1
            ring, why = (
                "ring 3" if user else "the kernel",
                "page does not allow it" if present else "page is not present",
            )
            assert paging.page_fault(code) == f"{access} by {ring}: the {why}"
    assert refused == 11, "all but the kernel's read of a page that is present"


@pytest.mark.parametrize(
    ("value", "words"),
    [  # of Linux (arch/x86/include/asm/desc_defs.h and what /proc tells), and of the SDM's examples
        ("00cffa000000ffff", "code, execute and read, base 0x00000000, limit 0xffffffff, DPL 3"),
        ("00cff2000000ffff", "data, read and write, base 0x00000000, limit 0xffffffff, DPL 3"),
        ("00cf9b000000ffff", "code, execute and read, accessed, base 0x00000000, limit 0xffffffff, DPL 0"),
        ("0000e8fe1234006b", "reserved type 0x8, target 0x1234:0x0000006b, DPL 3"),
        ("ff008b0123450067", "TSS, busy, base 0xff012345, limit 0x00000067, DPL 0"),
        ("c0108e000008abcd", "interrupt gate, target 0x0008:0xc010abcd, DPL 0"),
        ("c010ef000008abcd", "trap gate, target 0x0008:0xc010abcd, DPL 3"),
        ("0", "null descriptor"),
    ],
)
def test_descriptors_of_other_systems_are_told(value: str, words: str) -> None:
    assert one("descriptor", value).summary == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("selector", "0x2b"), "entry 5 of the GDT, RPL 3"),
        (("selector", "0xf"), "entry 1 of the LDT, RPL 3"),
        (("selector", "3"), "null selector, RPL 3"),
        (("pte", "0x8000000000123067"), "a page of 4 KiB at physical 0x123000; read, write; ring 3 and kernel"),
        (("pde", "e1"), "a page of 2048 KiB at physical 0x0; read, execute; kernel only"),
        (("pde", "200023"), "a table at physical 0x200000; read, write, execute; kernel only"),
        (("pdpte", "200001"), "a table at physical 0x200000"),
        (("pte", "8000000000000000"), "not present: all other bits are the system's own"),
        (("error-code", "#GP", "0x2b"), "entry 0x5 of the IDT"),
        (("error-code", "13", "0"), "no selector is to blame"),
        (("cr0", "80050033h"), "PE MP ET NE WP AM PG"),
        (("cr3", "0x21d000"), "page-directory-pointer table at physical 0x21d000"),
        (("efer", "0x800"), "NXE"),
    ],
)
def test_values_are_summed_up(words: tuple[str, ...], said: str) -> None:
    assert one(*words).summary == said


def test_a_message_page_and_a_ring_3_program_are_found_by_address() -> None:
    assert one("0xa0025028").notes == ["slot 5, offset 0x28 in its page"]
    entry = program_image("hello").entry
    answer = addresses.explain(entry, "hello")
    assert [part.name for part in answer.parts] == [".text"]
    assert "programs/hello.asm:" in answer.parts[0].meaning
    assert f"physical {0x101000:#x}" in addresses.explain(KERNEL_BASE + 0x101000).notes[0]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("eflagz", "3"), "did you mean eflags?"),
        (("FREE_SPAEC",), "did you mean FREE_SPACE"),
        (("Endpoint.fre",), "did you mean Endpoint.free"),
        (("error-code", "fp", "1"), "did you mean pf?"),
        (("error-code", "ud", "1"), "#UD pushes no error code"),
        (("error-code",), "name the exception and its code"),
        (("eflags", "0x1ffffffff"), "more than 32 bits"),
        (("eflags", "12x"), "not a number"),
        (("pte", "-1"), "not a number"),
        (("selector", ""), "not a number"),
        (("selector", "0x_"), "not a number"),
        (("address",), "give a number"),
        (("\x00",), "no name that is known"),
    ],
)
def test_what_cannot_be_explained_is_said_with_what_was_perhaps_meant(words: tuple[str, ...], hint: str) -> None:
    with pytest.raises(Unknown) as found:
        explain(words)
    assert hint in str(found.value)


@pytest.mark.parametrize(
    ("text", "value"), [("0x1f", 31), ("1fh", 31), ("31", 31), ("0X1F", 31), ("1_000", 1000), ("10h", 16)]
)
def test_numbers_are_read_as_programmers_write_them(text: str, value: int) -> None:
    assert number(text, 32) == value


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_value_of_every_kind_has_an_explanation_of_whole_bits(kind: str) -> None:
    width = KINDS[kind][0]
    assert one(kind).lines()
    values = [0, (1 << width) - 1, *(1 << bit for bit in range(width)), *(1 << bit | 0x81 for bit in range(width))]
    for value in values:
        assert all(line.isprintable() for line in one(kind, hex(value)).lines())


def test_every_known_name_has_an_explanation() -> None:
    sampled = sorted(names.catalogue())[::7]
    assert all(names.explain(name) for name in sampled)
    assert len(names.catalogue()) > 900


def test_a_name_in_another_case_is_found() -> None:
    assert explain(["free_space"])[0].subject in ("FREE_SPACE", "free_space")


def test_a_program_that_is_no_program_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"MZ")
    for program, hint in (
        ("helo", "did you mean hello?"),
        (str(tmp_path / "a"), str(tmp_path / "a")),
        (str(tmp_path), "Is a directory"),
    ):
        with pytest.raises(Unknown, match=re.escape(hint)):
            addresses.explain(0x400000, program)


def test_answers_are_plain_data_too(command_line: Any) -> None:
    import json

    [answer] = json.loads(command_line("explain", "pte", "123067", "--json").stdout)
    assert answer["parts"][0] == {"place": "bit 0", "name": "P", "value": "1", "meaning": "present"}
    assert [one["kind"] for one in json.loads(command_line("explain", "OPEN", "--json").stdout)] == [
        "system call",
        "Operation",
    ]


@pytest.mark.parametrize(
    ("number", "what"),
    [("0x1b", "code of ring 3"), ("0x8", "kernel code, flat"), ("0x9", None), ("0", None), ("0xfffb", None)],
)
def test_a_small_number_is_a_selector_too_where_there_is_something_under_it(number: str, what: str | None) -> None:
    kinds = {answer.kind: answer for answer in explain([number])}
    assert ("selector" in kinds) is (what is not None)
    assert "address" in kinds
    if what is not None:
        assert kinds["selector"].notes == [f"here: {what}"]


def test_an_exception_is_found_without_the_sign_that_begins_a_comment_in_a_shell() -> None:
    assert [answer.subject for answer in explain(["pf"])] == ["#PF"]
    assert explain(["#pf"])[0].subject == "#PF"


def test_a_kind_without_a_value_is_named_without_a_gap() -> None:
    assert explain(["EFLAGS"])[0].lines()[0] == "eflags: 32 bits"


def test_every_counter_of_the_ledger_is_explained() -> None:
    counted = set(Counts().as_dict())
    documented = {
        key for cells in re.findall(r"^\| (`.*?) \|", LEDGER, re.MULTILINE) for key in re.findall(r"`(\w+)`", cells)
    }
    assert counted < documented == COUNTERS.keys()
    for name in documented:
        (answer,) = (answer for answer in explain([name]) if answer.kind == "counter of the ledger")
        assert answer.subject == name
        assert answer.summary
    assert one("Fast_Requests").subject == "fast_requests"
    with pytest.raises(Unknown, match="did you mean fast_requests"):
        explain(["fast_reqests"])
