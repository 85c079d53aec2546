"""The words of gdb and of Bochs's debugger that look at the machine, and stop it."""

import io
import re
from collections.abc import Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.system import System, SystemOptions
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from debugger_lines import said

RUN = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8}) -> ([0-9a-f]{9})-([0-9a-f]{9})  r([u-])([w-])([x-])")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Prompt, int]]:
    """A debugger that stands where the server of the first partition loads a request's registers."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions(commands="df")) as system:
        bench = Workbench(system, History(system))
        prompt = Prompt(bench, io.StringIO())
        prompt.line("until ipc.load if op == FREE_SPACE and thread == 10")
        yield prompt, system.machine.clock.retired
        bench.close()


@pytest.fixture
def prompt(served: tuple[Prompt, int]) -> Prompt:
    prompt, place = served
    said(prompt, "delete")
    said(prompt, f"goto {place}")
    return prompt


def test_each_stretch_of_info_tab_is_what_a_walk_through_the_page_tables_finds(prompt: Prompt) -> None:
    paging = prompt.desk.bench.machine.paging
    runs = RUN.findall(said(prompt, "info tab"))
    assert len(runs) > 10
    mapped = set()
    for begin, end, physical, last, *rights in runs:
        for page in range(int(begin, 16), int(end, 16), PAGE_SIZE):
            found = paging.walk(page)
            assert found.physical == page - int(begin, 16) + int(physical, 16)
            assert [found.user, found.writable, found.executable] == [letter != "-" for letter in rights]
            mapped.add(page)
        assert int(last, 16) - int(physical, 16) == int(end, 16) - int(begin, 16)
    around = {page + step for page in mapped for step in (-PAGE_SIZE, PAGE_SIZE)} - mapped
    assert all(paging.walk(page).physical is None for page in around if 0 <= page < 1 << 32)


def test_registers_are_shown_with_the_names_of_their_bits_and_with_bases(prompt: Prompt) -> None:
    cpu = prompt.desk.bench.machine.cpu
    control = said(prompt, "creg").splitlines()
    assert control[0] == f"cr0  {cpu.cr0:08x}  PG WP NE ET TS MP PE"
    assert control[-1].endswith("NXE")
    segments = said(prompt, "sreg").splitlines()
    assert segments[0] == "cs   001b  base 00000000"
    assert f"gdtr       base {cpu.table('gdtr')[0]:08x}" in segments[6]
    assert "SF" in said(prompt, "info eflags")
    assert said(prompt, "ptime").startswith(f"{prompt.desk.bench.machine.clock.retired:,} instructions, ")


def test_physical_memory_is_that_of_the_page_which_a_linear_address_leads_to(prompt: Prompt) -> None:
    linear = said(prompt, "x/8w 0xa0020000").replace("a0020", "00275")
    assert said(prompt, "xp/8w 0x275000") == linear
    stack = said(prompt, "print-stack 4").splitlines()
    assert [line.split()[1] for line in stack] == said(prompt, "x/4w esp").split()[1:5]
    with pytest.raises(CommandError, match="no memory has this physical address"):
        prompt.line("xp 0xfffffff0")


def test_addresses_of_segments_and_linear_ones_are_the_same_stop_in_a_flat_segment(prompt: Prompt) -> None:
    texts = [said(prompt, line).split(": ")[1] for line in ("lb 0x4000d7", "vb 0x1b:0x4000d7", "break 0x4000d7")]
    assert len(set(texts)) == 1
    assert said(prompt, "blist").count("hits") == 3
    said(prompt, "bpd")
    assert said(prompt, "blist").count("disabled") == 3
    for line, why in (
        ("lb take_slot", "a number"),
        ("vb 0x1b", "vb SELECTOR:OFFSET"),
        ("vb 0xfff8:0", "no selector"),
        ("lb 0x1ffffffff", "no address of 32 bits"),
    ):
        with pytest.raises(CommandError, match=why):
            prompt.line(line)


def test_a_number_of_instructions_ends_a_run_and_so_does_a_stop_before_it(prompt: Prompt) -> None:
    place = prompt.desk.bench.machine.clock.retired
    assert said(prompt, "sb 100").startswith(f"instruction {place + 100:,}")
    assert said(prompt, f"sba {place + 200}").startswith(f"instruction {place + 200:,}")
    past = f"{place:,} instructions have retired already: goto {place} goes back there"
    with pytest.raises(CommandError, match=past):
        prompt.line(f"sba {place}")
    said(prompt, "break ipc.take")
    assert said(prompt, "sba 99999999").startswith("stop ")


def test_an_expression_that_is_displayed_is_shown_at_each_stop_until_it_is_taken_away(prompt: Prompt) -> None:
    assert said(prompt, "display eip") == "  1: eip = 0x40009e = 4194462\n"
    said(prompt, "display message.eax")
    assert said(prompt, "stepi").splitlines()[-2:] == ["  1: eip = 0x4000a1 = 4194465", "  2: message.eax = 0x0 = 0"]
    said(prompt, "undisplay 1")
    assert "eip =" not in said(prompt, "stepi")
    with pytest.raises(CommandError, match="there are 1"):
        prompt.line("undisplay 7")
    said(prompt, "undisplay")
    assert "message" not in said(prompt, "where")


def test_the_letters_of_gdb_say_how_numbers_of_memory_and_values_are_shown(prompt: Prompt) -> None:
    machine = prompt.desk.bench.machine
    esp, data = machine.cpu.esp, machine.read(machine.cpu.esp, 16)
    at = f"{esp:08x}  "
    signed = [int.from_bytes(data[place : place + 2], "little", signed=True) for place in range(0, 8, 2)]
    assert said(prompt, "x/4dh esp") == at + "  ".join(map(str, signed)) + "\n"
    assert said(prompt, "x/2tb esp") == f"{at}{data[0]:08b}  {data[1]:08b}\n"
    assert said(prompt, "x/2a eip").splitlines()[0].startswith("0040009e  0x")
    assert said(prompt, "x/5c eip").count("'") == 10
    for line, shown in (
        ("p 0x10 + 2", "0x12 = 18"),
        ("p/x 18", "0x00000012"),
        ("print/d 0xffffffff", "-1"),
        ("p/t 5", f"{5:032b}"),
        ("p /a eip", "0x0040009e <start+0x9e>"),
        ("p/c 65", "65 'A'"),
    ):
        assert said(prompt, line) == shown + "\n"
    with pytest.raises(CommandError, match="print/z: a letter is one of x d u o t c a"):
        prompt.line("p/z eax")
    assert said(prompt, "p 1").startswith("instruction "), "with a count it is Bochs's step"


def test_texts_in_memory_are_shown_as_literals_of_c(prompt: Prompt) -> None:
    assert said(prompt, "x/2s 0xa0020030").splitlines() == ['a0020030  "DEMO"', 'a0020035  ""']
    assert said(prompt, "x/1s shell:here").endswith('  "."\n'), "of the shell, while a server runs"


def test_source_is_listed_around_any_place_and_registers_are_shown_by_name(prompt: Prompt) -> None:
    rows = said(prompt, "list take_slot 1").splitlines()
    assert rows[0] == "asm/kernel/ipc/slots.asm:34"
    assert [row.split()[0] for row in rows[1:]] == ["33", "34", "35"]
    assert said(prompt, "list slots.asm:1 1") == "\n".join(rows) + "\n", "the first line that has an instruction"
    assert said(prompt, "i r cs eip") == "cs       0x1b = 27\neip      0x40009e = 4194462\n"
    file, *rows = said(prompt, "list shell:run_line 1").splitlines()
    assert file.startswith("asm/user/shell/parse/shell_line.asm:")
    assert any(row.endswith(" run_line:") for row in rows), "of the shell, while a server runs"
    assert not any("=>" in row for row in rows)
    assert "<run_line>  call " in said(prompt, "disassemble shell:run_line 1") == said(prompt, "x/1i shell:run_line")
    assert said(prompt, "print endpoint").splitlines()[1].startswith("endpoint[1]  <Endpoint at 0xc0")
    assert said(prompt, "help back").startswith("back step [N] ")


def test_a_symbol_and_a_line_are_found_by_address_and_by_name(prompt: Prompt) -> None:
    assert said(prompt, "info symbol eip") == "0x0040009e is start+0x9e\n"
    assert said(prompt, "info line").startswith("asm/user/servers/hosted.asm:80: mov")
    assert said(prompt, "info line take_slot").startswith("asm/kernel/ipc/slots.asm:34: cmp")
    with pytest.raises(CommandError, match="no symbol is known there"):
        prompt.line("info symbol 0x90000000")


@pytest.mark.parametrize(("condition", "stops"), [("slot == 0", True), ("slot < 1", True), ("slot >= 1", False)])
def test_a_break_at_a_label_while_a_request_is_made_asks_for_the_number_of_its_slot(
    prompt: Prompt, condition: str, stops: bool
) -> None:
    said(prompt, "goto start")
    said(prompt, f"break fill_registers if {condition} and endpoint == 1")
    assert ("<fill_registers>" in said(prompt, "continue")) == stops


@pytest.mark.parametrize(("condition", "thread"), [("endpoint <= 0", 3), ("endpoint != 0", 10), ("endpoint == 2", 11)])
def test_a_break_at_a_reply_of_an_endpoint_is_the_event_and_stops_there(
    prompt: Prompt, condition: str, thread: int
) -> None:
    said(prompt, "goto start")
    assert (
        said(prompt, f"break reply if op == free_space and {condition}")
        .partition(": ")[2]
        .startswith("event ipc.reply")
    )
    assert f"event ipc.reply thread={thread:#x} " in said(prompt, "continue")


def test_parts_of_slots_and_of_the_message_are_known_at_events_with_fields_of_their_names(prompt: Prompt) -> None:
    said(prompt, "break ipc.load if slot[0].client != 0 and message.operation == FREE_SPACE")
    first, second, *_ = said(prompt, "continue").splitlines()
    assert ": event ipc.load thread=0xb message=0xa0020000" in first
    assert second.startswith("instruction ")


def test_expressions_have_labels_parts_of_arrays_and_endpoints_by_name(prompt: Prompt) -> None:
    machine = prompt.desk.bench.machine
    words = machine.addresses["kernel_words"]
    for line, shown in (
        ("watch kernel_words", f"write of 4 bytes at {words:#010x} (kernel_words)"),
        ("watch endpoint[d0p1].free", "bytes at 0xc026a204 (endpoint[d0p1].free)"),
        ("watch endpoint[1].state[3]", "write of 1 byte at 0xc026a34f (endpoint[1].state[3])"),
        ("watch slot.client", "write of 2 bytes at 0xc026a00e (slot.client)"),
        ("print [kernel_words]", f"{int.from_bytes(machine.read(words, 4), 'little'):#x} = "),
        ("print take_slot.retry", f"{machine.addresses['take_slot.retry']:#x} = "),
        ("print endpoint[d0p2].number", "0x2 = 2"),
    ):
        assert shown in said(prompt, line)


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("message.eax == 5", "the request is not filled yet"),
        ("[0x90000000] == 0", "[2415919104] == 0: no memory is mapped there"),
        ("endpoint[d0p2]", "endpoint[d0p2] is no number: it neither holds nor does not"),
        ("slot[0] < 3", "slot[0] is no number that could be compared; name a field of it"),
    ],
)
def test_a_condition_that_cannot_be_tested_ends_the_run_and_says_why_unless_another_part_is_false(
    prompt: Prompt, condition: str, problem: str
) -> None:
    said(prompt, f"break ipc.take if {condition} and thread == 99")
    said(prompt, f"break ipc.take if {condition} and thread == 12")
    for line in ("back continue", "continue"):
        first, second, *_ = said(prompt, line).splitlines()
        assert ": event ipc.take thread=0xc slot=0x0 " in first
        assert second.startswith(f"error in testing its condition: {problem}")
    assert f"if {condition} and thread == 99, 0 hits" in said(prompt, "info break")


def test_a_condition_of_a_watchpoint_is_about_what_has_been_written_and_can_be_changed(prompt: Prompt) -> None:
    words = prompt.desk.bench.machine.addresses["kernel_words"]
    assert said(prompt, "watch kernel_words if [kernel_words] == 0x238").endswith(
        "(kernel_words) if [kernel_words] == 0x238\n"
    )
    number = int(said(prompt, "info break").split()[0])
    for line in ("continue", "back continue"):
        said(prompt, "stepi")
        assert f"write of 4 bytes at {words:#010x} by " in said(prompt, line)
        assert said(prompt, "print [kernel_words]").startswith("0x238 = ")
    said(prompt, "stepi")
    said(prompt, f"condition {number} [kernel_words] == 0x250")
    assert said(prompt, "continue").startswith(f"stop {number}: write of 4 bytes")
    assert said(prompt, "print [kernel_words]").startswith("0x250 = ")
    assert (
        said(prompt, f"condition {number}") == f"stop {number} set: write of 4 bytes at {words:#010x} (kernel_words)\n"
    )
    assert said(prompt, "info break").endswith("(kernel_words), 3 hits\n")
    said(prompt, "break ipc.reply")
    assert said(prompt, f"condition {number + 1} thread == 11").endswith("event ipc.reply if thread == 11\n")
    said(prompt, f"delete {number}")
    assert "thread=0xb" in said(prompt, "continue")


def test_descriptor_tables_can_be_looked_at_before_there_are_any(prompt: Prompt) -> None:
    said(prompt, "goto start")
    for table in ("gdt", "ldt", "idt"):
        assert said(prompt, table) == f"the {table.upper()} is empty\n"
    with pytest.raises(CommandError, match=r"^the TSS lies where no memory is mapped$"):
        said(prompt, "tss")
