"""Where a value comes from: across address spaces, through the message page, back to a byte of the image."""

import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.kernel.system import System
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.why import InMemory, InRegister, Link, Writer
from callgate.tools.debugger.why.path import Tracer
from callgate.tools.debugger.why.sources import CONDITIONS, takes_effect
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.workbench import Workbench
from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn.x86_const import UC_X86_REG_AL, UC_X86_REG_EFLAGS


@pytest.fixture
def boot_bench(boot_demo: Callable[..., System]) -> Iterator[Callable[..., Workbench]]:
    benches: list[Workbench] = []

    def boot(commands: str | None, **options: bool) -> Workbench:
        system = boot_demo(commands, **options)
        benches.append(Workbench(system, History(system)))
        return benches[-1]

    yield boot
    for bench in benches:
        bench.close()


def carry_out(bench: Workbench, *lines: str) -> str:
    prompt = Prompt(bench, io.StringIO())
    for line in lines:
        prompt.line(line)
    assert isinstance(prompt.output, io.StringIO)
    return prompt.output.getvalue()


def in_directory_page(bench: Workbench) -> int:
    """Run the shell's LOCK_DIRECTORY to its return; return the linear address of README.TXT's size in the client."""
    carry_out(bench, "tbreak gate.system if call == LOCK_DIRECTORY and thread == 12", "continue", "finish")
    assert bench.machine.cpu.cpl == 3
    page = bench.machine.cpu.eax
    data = bench.machine.read(page, 4096)
    entry = data.index(b"README.TXT")
    size = data.index(struct.pack("<Q", 637), entry - 64)
    return page + size


def test_the_size_in_a_directory_page_comes_from_a_byte_of_the_image(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("ls -l")
    address = in_directory_page(bench)
    here, origin = bench.history.moment, bench.machine.cpu.registers()
    links = list(bench.chain.links(bench.chain.location(address, 4)))
    image = demo_image(cache_directory()).read_bytes()
    at = image.index(b"README  TXT") + 28  # DIR_FileSize of a short entry
    assert image[at : at + 4] == struct.pack("<I", 637)
    assert [link.value for link in links] == [637] * len(links)
    assert links[0].by == "policy, in the host call server.hosted_step"
    assert "its Python is not followed" in links[0].note
    assert (links[-1].by, links[-1].source) == ("DMA", None)
    assert links[-1].note.startswith(f"disk d0, sector {at // 512}, byte {at % 512}: byte {at:,} of demo-")
    command = re.search(r"by READ_FPDMA_QUEUED from sector (\d+) on, slot \d+ of port 0$", links[-1].note)
    assert command
    assert int(command[1]) <= at // 512
    assert (bench.history.moment, bench.machine.cpu.registers()) == (here, origin)


@pytest.mark.thorough(only=True)
def test_the_size_comes_from_the_same_byte_where_the_cpu_copies_sectors_from_a_port(
    boot_bench: Callable[..., Workbench],
) -> None:
    bench = boot_bench("ls -l", ide=True)
    links = list(bench.chain.links(bench.chain.location(in_directory_page(bench), 4)))
    at = demo_image(cache_directory()).read_bytes().index(b"README  TXT") + 28
    assert links[-1].by.endswith("  rep insd dword ptr es:[edi], dx")
    assert links[-1].note.startswith(f"disk d0, sector {at // 512}, byte {at % 512}: byte {at:,} of demo-")
    assert re.search(r"by READ_MULTIPLE_EXT from sector \d+ on, channel 0$", links[-1].note)


def test_a_character_of_the_shells_line_comes_from_what_was_typed(boot_bench: Callable[..., Workbench]) -> None:
    bench = boot_bench(None)
    carry_out(bench, "continue", "type free", "continue", "type echo grüße", "break shell:run_line", "continue")
    at, line = bench.history.occurred[1].position, "echo grüße\n".encode()
    for index in (0, 8):
        *_, link = bench.why(f"byte[line + {index}]", 9)
        assert (link.value, link.by.split("  ")[1]) == (line[index], "in al, dx")
        assert link.note == f"from the console: byte {index} of 'echo grüße\\n', typed at {at}"


def test_a_block_of_the_disk_that_a_client_has_mapped_is_watched_while_policy_answers(
    boot_bench: Callable[..., Workbench],
) -> None:
    bench = boot_bench("hexdump PATTERN.BIN 65536 16")
    carry_out(bench, "tbreak gate.system if call == CLOSE and thread == 12", "continue")
    assert bench.machine.paging.walk(0x4001_1000).physical >= 1 << 32, "no copy of it"
    said = carry_out(
        bench, "why -c [0x40011000]", "watch [0x40011000]", "break gate.host if [0x40011000] == 1", "continue"
    )
    assert re.search(r"  DMA\n.*\n  disk d0, sector \d+, byte 0: ", said)
    assert "stop 2: write of 1 byte at 0x40011000 by policy, in the host call system.close\n" in said


def test_a_register_of_a_reply_is_followed_into_the_server_and_back(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("df")
    carry_out(bench, "break ipc.reload if thread == 12", *["continue"] * 4, "finish")
    links = list(bench.chain.links(InRegister("ecx")))
    writers = [link.writer for link in links]
    shell, server = bench.debuggee.threads.by_number(12), bench.debuggee.threads.by_number(10)
    assert shell
    assert server
    assert writers == [
        Writer(12, "shell", shell.process.number, "shell", 0),
        *[Writer(10, "hosted:d0p1", server.process.number, server.process.name, 3)] * 2,
        Writer(10, "hosted:d0p1", server.process.number, server.process.name, 0),
    ]
    assert isinstance(links[1].location, InMemory)
    assert [link.value for link in links] == [0x1000] * 4
    assert "<ipc_request+" in links[0].by
    assert links[-1].by == "policy, in the host call server.hosted_step"


def test_registers_of_a_request_are_followed_from_the_server_to_the_client(
    boot_bench: Callable[[str], Workbench], some_of: Callable[[Iterable[str], int], list[str]]
) -> None:
    bench = boot_bench("cat README.TXT")
    carry_out(bench, "until ipc.load if op == OPEN", "stepi 5")
    assert bench.debuggee.threads.running().number == 10
    for name in some_of(("eax", "ebx", "ecx", "edx"), 2):
        links: list[Link] = list(bench.chain.links(InRegister(name), 4))
        writers = [(link.writer.thread, link.writer.ring) for link in links if link.writer]
        assert writers == [(10, 3), (12, 0), (12, 0), (12, 0)]
        routines = [re.findall(r"<(\w+)", link.by)[0] for link in links]
        assert routines == ["start", "fill_registers", "fill_registers", "ipc_request"]
        assert [link.value for link in links] == [getattr(bench.machine.cpu, name)] * 4


def test_each_link_has_the_time_that_a_trace_of_the_run_has_there(boot_bench: Callable[[str], Workbench]) -> None:
    """The oracle is the trace's events: between two of them without a halt as many ns pass as instructions retire."""
    bench = boot_bench("ls -l")
    address = in_directory_page(bench)
    links = list(bench.chain.links(bench.chain.location(address, 4)))
    entries = bench.timeline.entries
    *cpu, dma = links
    for link in cpu:
        retired = link.moment.position.retired
        later = next(index for index, entry in enumerate(entries) if entry.retired > retired)
        idle = {entry.event.clock - entry.retired for entry in entries[later - 1 : later + 1]}
        assert idle == {link.clock - retired}
        assert f"  at instruction {retired:,}, {link.clock} ns, {link.writer}\n" in f"{link}\n"
    ended = [entry.event.clock for entry in entries if entry.event.kind in ("disk.command", "disk.complete")]
    assert dma.clock in ended, "the data come when the command ends"
    assert dma.writer is None
    bench.history.go(dma.moment)
    assert bench.machine.clock.now == dma.clock


def test_a_link_is_gone_to_by_its_number(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("df")
    carry_out(bench, "until ipc.load if op == FREE_SPACE", "stepi 5")
    links = list(bench.chain.links(InRegister("eax"), 64))
    text = carry_out(bench, "why -c eax")
    assert re.findall(r"^#(\d+) (\S+) = ", text, re.MULTILINE) == [
        (str(number), str(link.location)) for number, link in enumerate(links, 1)
    ]
    for number, link in enumerate(links, 1):
        carry_out(bench, f"goto #{number}")
        assert bench.history.moment == link.moment
    with pytest.raises(Exception, match=f"no moment #{len(links) + 1}; there are #1 to #{len(links)}"):
        carry_out(bench, f"goto #{len(links) + 1}")


def test_a_write_by_the_last_instruction_is_the_last_write(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("df")
    carry_out(bench, "until ipc.load if op == FREE_SPACE", "watch endpoint[1].fast", "continue")
    written_by = bench.machine.clock.retired
    linear, size = bench.meanings.place(Expression("endpoint[1].fast"))
    link = next(bench.chain.links(bench.chain.location(linear, size), 1))
    assert link.moment.position.retired == written_by - 1


def test_each_writer_is_the_last_one(
    boot_bench: Callable[[str], Workbench], some_of: Callable[[Iterable[str], int], list[str]]
) -> None:
    """The oracle steps through the same stretch, and compares the register before and after each instruction."""
    bench = boot_bench("df")
    history, machine = bench.history, bench.machine
    history.run()
    for end in (12_345, 14_800):
        history.go(history.moment_at(end - 80))
        changes: dict[str, int] = {}
        while machine.position.retired < end:
            before = machine.cpu.registers()
            history.step()
            after = machine.cpu.registers()
            changes |= {name: machine.position.retired for name in after if after[name] != before[name]}
        history.go(history.moment_at(end))
        general = some_of(("eax", "ebx", "ecx", "edx", "esi", "edi", "esp", "ebp"), 2)
        for name in (*general, *some_of(("ds", "es", "fs", "gs"), 2)):
            link = next(bench.chain.links(InRegister(name), 1))
            found = link.moment.position.retired + 1
            assert found >= changes.get(name, 0)  # an instruction may write the value that was there
            assert history.moment.position.retired == end


def test_the_path_is_that_of_single_steps(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("df")
    history, machine = bench.history, bench.machine
    history.run()
    begin, end = history.moment_at(14_300), history.moment_at(14_700)
    history.go(begin)
    steps = {}
    while machine.position.retired < 14_700:
        retired, eip = machine.position.retired, machine.cpu.eip
        history.step()
        if machine.position.retired > retired:
            steps[retired + 1] = eip
    history.go(begin)
    with Tracer(bench.debuggee.target).tracing() as path:
        history.forward_to(end)
    assert path.at == steps


def test_conditions_of_instructions_are_those_of_the_cpu() -> None:
    """The oracle is Unicorn, which executes SETcc and so each condition, and Capstone's names of CMOVcc."""
    code, flags = 0x1000, [1 << bit for bit in (0, 2, 6, 7, 11)]
    decoder, engine = Cs(CS_ARCH_X86, CS_MODE_32), Uc(UC_ARCH_X86, UC_MODE_32)
    engine.mem_map(code, 0x1000)
    names = set()
    for condition in range(16):
        move = next(decoder.disasm(bytes((0x0F, 0x40 + condition, 0xC1)), 0))  # cmovcc eax, ecx
        names.add(move.mnemonic[4:])
        engine.mem_write(code, bytes((0x0F, 0x90 + condition, 0xC0)))  # setcc al
        engine.ctl_flush_tb()
        for chosen in range(32):
            eflags = 2 | sum(flag for bit, flag in enumerate(flags) if chosen >> bit & 1)
            engine.reg_write(UC_X86_REG_EFLAGS, eflags)
            engine.emu_start(code, code + 3)
            assert takes_effect(move, eflags, 0) == bool(engine.reg_read(UC_X86_REG_AL)), (move.mnemonic, eflags)
    assert names == set(CONDITIONS)
    assert not takes_effect(next(decoder.disasm(b"\xf3\xa4", 0)), 0, 0)  # rep movsb
    assert takes_effect(next(decoder.disasm(b"\xf3\xa4", 0)), 0, 1)


def test_a_chain_that_ends_says_from_what_the_value_was_made_and_how_to_go_on(
    boot_bench: Callable[[str], Workbench],
) -> None:
    bench = boot_bench("df")
    carry_out(bench, "break ipc.reload if thread == 12", *["continue"] * 4, "finish")
    text = carry_out(bench, "why -c ecx")
    assert (
        "nothing that it has read holds this value\n  it has read before, the last first, 64 bytes at 0x0ffff000,"
        in text
    )
    onward = re.findall(r"^    (goto \d+), (why -c \[0x\w+\])$", text, re.MULTILINE)
    assert len(onward) == 3
    sector = re.search(r"disk d0, sector (\d+)", carry_out(bench, *onward[-1]))
    assert sector
    assert 2048 <= int(sector[1]) < 51200, "it is a block of this server's volume, and not of the other one's"


@pytest.mark.thorough(only=True)
def test_each_way_to_go_on_from_the_end_of_a_chain_leads_to_another_place(
    boot_bench: Callable[[str], Workbench],
) -> None:
    bench = boot_bench("df")
    carry_out(bench, "break ipc.reload if thread == 12", *["continue"] * 4)
    bench.back_to_event("ipc.post")  # where registers hold what has been computed for the request
    carry_out(bench, "stepi 2")
    ended = [
        link for name in ("eax", "ebx", "ecx", "edx", "esi", "edi") for link in bench.chain.links(InRegister(name))
    ]
    computed = [link for link in ended if link.inputs]
    assert computed
    for link in computed:
        assert link.source is None
        for line in link.onward:
            assert re.search(r"\n(e\w\w|.*\[0x\w+\]) = 0x", carry_out(bench, *line.split(", ")))


def test_the_client_of_a_slot_is_followed_to_where_policy_chose_its_thread(
    boot_bench: Callable[..., Workbench],
) -> None:
    bench = boot_bench("df", fast_path=False)
    carry_out(bench, "until ipc.load if op == FREE_SPACE")
    text = carry_out(bench, "why -c slot[0].client")
    assert re.search(r"^#1 word .*\n.*mov word ptr gs:\[eax \+ 0xe\], fs\n.*\n#2 fs = 0x0238\n", text)
    assert re.search(r"^#\d+ \[0x\w+\] = 0x00000238\n  policy, in the host call \w+\n", text, re.MULTILINE)


def step_to(bench: Workbench, mnemonic: str, operands: str = "") -> None:
    """Step to the next instruction of a kind."""
    while (instruction := bench.code.current()) is not None:
        if (instruction.mnemonic, instruction.operands) == (mnemonic, operands):
            return
        bench.step()


def test_a_return_to_ring_3_that_clears_a_segment_register_is_what_wrote_it(
    boot_bench: Callable[[str], Workbench],
) -> None:
    bench = boot_bench("df")
    carry_out(bench, "until leave_tested")
    step_to(bench, "pop", "es")  # FS has been loaded before
    carry_out(bench, "set fs = 0x10")
    step_to(bench, "retf")
    before = bench.machine.clock.retired
    carry_out(bench, "stepi")
    assert (bench.machine.cpu.cpl, bench.machine.cpu.fs) == (3, 0), "ring 3 may not use a selector of ring 0"
    link = next(bench.chain.links(InRegister("fs")))
    assert (link.value, link.moment.position.retired) == (0, before)
    assert link.note == "a return to an outer ring clears what that ring may not use"
    kept = next(bench.chain.links(InRegister("ds")))
    assert "pop ds" in kept.by, "the same instruction has left it as it was"


def test_a_value_that_nothing_wrote_is_as_it_was_at_the_beginning(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("df")
    text = carry_out(bench, "stepi 3", "why ebx", "why [0x5000]")
    assert text.count("as it was at the beginning of the history") == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("why", "why what?"),
        ("why cr3", "general registers and ds, es, fs, gs are followed"),
        ("why nosuch", "no register, field or number"),
        ("why [0x90000000]", "is not mapped"),
    ],
)
def test_what_is_nowhere_cannot_be_asked_for(boot_bench: Callable[[str], Workbench], line: str, reason: str) -> None:
    bench = boot_bench("df")
    carry_out(bench, "until ipc.load")
    with pytest.raises(Exception, match=reason):
        carry_out(bench, line)


def test_what_the_cpu_pushes_at_a_delivery_is_named_with_the_vector(boot_bench: Callable[[str], Workbench]) -> None:
    """The oracle is the frame itself, read where the handler begins."""
    bench = boot_bench("/rom/crash r")
    carry_out(bench, "until exception if vector == 14")
    cpu = bench.machine.cpu
    assert bench.machine.position.delivered == 1
    frame = [int.from_bytes(bench.machine.read(cpu.esp + 4 * index, 4), "little") for index in range(4)]
    names = ("the error code", "EIP", "CS", "EFLAGS")
    here = bench.history.moment
    for index, (name, value) in enumerate(zip(names, frame, strict=True)):
        link = next(bench.chain.links(bench.chain.location(cpu.esp + 4 * index, 4), 1))
        assert link.by == f"the CPU, which pushes {name} as it delivers #PF (vector 14)"
        assert (link.value, link.moment) == (value, here)
    text = carry_out(bench, "who writes [esp + 4]")
    assert "by the CPU, which pushes EIP as it delivers #PF (vector 14)" in text


def test_a_watchpoint_stops_at_what_the_cpu_pushes(boot_bench: Callable[[str], Workbench]) -> None:
    bench = boot_bench("/rom/crash r")
    carry_out(bench, "until exception if vector == 14")
    frame, after = bench.machine.cpu.esp, bench.history.moment
    carry_out(bench, "back stepi")
    assert bench.machine.position.delivered == 0
    carry_out(bench, f"watch [{frame:#x}]")
    text = carry_out(bench, "continue")
    assert "by the CPU, which pushes the error code as it delivers #PF (vector 14)" in text
    assert bench.history.moment == after
