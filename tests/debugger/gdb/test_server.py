"""The server over its socket, spoken to by a client that shares no code with it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.gdb import server
from elftools.elf.elffile import ELFFile

Boot = Callable[[str], System]
Serve = Callable[[System], Any]
Connect = Callable[[Any], Any]
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+;no-resumed+"
LOOP = b"ebfe"  # jmp to itself
INTO_LOOP = 1_000_000  # instructions, by which the system call before the loop is over
SHELL = 4  # its process number: 5 for gdb


@pytest.fixture
def client(boot_demo: Boot, serve: Serve, connect: Connect) -> Any:
    """A client at a system that has not run yet, after qSupported."""
    serving = serve(boot_demo("dir; cat README.TXT"))
    client = connect(serving)
    client.serving = serving
    assert b"PacketSize=1fffc" in client.ask(HELLO)
    return client


def run_to(client: Any, name: str) -> bytes:
    """Run to a label of the kernel in the shell, past the events by which processes are introduced."""
    address = client.serving.system.kernel.image.address(name)
    assert client.ask(b"Z0,%x,1" % address) == b"OK"
    while True:
        reply: bytes = client.ask(b"vCont;c:p1.-1")
        if (thread := re.search(rb"thread:p(\w+)\.\w+;library", reply)) is not None:
            assert client.ask(b"Hgp%s.-1" % thread[1]) == b"OK"
            assert client.ask(b"Z0,%x,1" % address) == b"OK"
        elif b"thread:p5." in reply:
            return reply


def test_a_client_that_goes_within_a_packet_leaves_the_machine_stopped_for_the_next(
    client: Any, connect: Connect
) -> None:
    serving = client.serving
    reply = run_to(client, "take_slot")
    assert re.search(rb"^T05.*thread:p5\.\w+;swbreak:;$", reply)
    client.socket.sendall(b"$m0,4")
    client.close()
    second = connect(serving)
    assert second.ask(HELLO)
    assert second.ask(b"qC").startswith(b"QCp5.")
    assert second.ask(b"vMustReplyEmpty") == b""
    assert re.search(r"the machine is stopped at 0xc01\w+ <\w+.*> and waits for the next gdb", serving.said[-1])


def looping(client: Any) -> tuple[int, bytes]:
    """Make the shell loop on the spot in ring 3; return where, and the bytes that were there."""
    run_to(client, "system_gate")
    esp = int.from_bytes(bytes.fromhex(client.ask(b"p4").decode()), "little")
    eip = int.from_bytes(bytes.fromhex(client.ask(b"m%x,4" % esp).decode()), "little")
    before: bytes = client.ask(b"m%x,2" % eip)
    assert client.ask(b"M%x,2:%s" % (eip, LOOP)) == b"OK"
    for process in range(1, 6):
        client.ask(b"Hgp%x.-1" % process)
        client.ask(b"z0,%x,1" % client.serving.system.kernel.image.address("system_gate"))
    return eip, before


def test_ctrl_c_stops_a_guest_that_loops_and_written_code_is_the_code_that_runs(client: Any) -> None:
    eip, before = looping(client)
    client.send(b"vCont;c:p5.-1")
    client.serving.passes(INTO_LOOP)
    client.socket.sendall(b"\x03")
    reply = client.receive()
    assert reply.startswith(b"T02")
    assert b"08:" + eip.to_bytes(4, "little").hex().encode() in reply
    assert client.ask(b"M%x,2:%s" % (eip, before)) == b"OK"
    assert client.ask(b"vCont;c:p5.-1") == b"W00;process:1"
    assert b"the guest has ended" in bytes.fromhex(client.ask(b"vCont;c:p5.-1")[1:].decode())
    assert client.receive().startswith(b"T05"), "process 1 does not end twice"


def test_a_client_that_goes_during_a_run_leaves_the_machine_stopped_at_an_instruction(
    client: Any, connect: Connect
) -> None:
    eip, before = looping(client)
    client.send(b"vCont;c:p5.-1")
    client.serving.passes(INTO_LOOP)
    client.close()
    second = connect(client.serving)
    assert second.ask(HELLO)
    assert bytes.fromhex(second.ask(b"p8").decode()) == eip.to_bytes(4, "little")
    assert second.ask(b"M%x,2:%s" % (eip, before)) == b"OK"


def test_packets_are_acknowledged_repeated_and_sent_without_once_both_agree(client: Any) -> None:
    first = client.ask(b"qC")
    client.socket.sendall(b"-")
    assert client.receive() == first
    client.socket.sendall(b"$qC#00")
    assert client.socket.recv(100) == b"-"
    assert client.ask(b"qC") == first
    assert client.data == b""
    assert client.ask(b"QStartNoAckMode") == b"OK"
    client.send(b"qC")
    assert client.receive() == first


def test_a_packet_that_a_client_has_repeated_for_want_of_an_acknowledgement_is_answered_once(client: Any) -> None:
    client.socket.sendall(b"$qC#b4" * 3)
    assert client.receive().startswith(b"QC")
    assert client.ask(b"vMustReplyEmpty") == b""
    client.socket.sendall(b"$qC#b4$vMustReplyEmpty#3a")
    assert [client.receive()[:2], client.receive()] == [b"QC", b""]


def crc(data: bytes) -> int:
    """The CRC of gdb's remote protocol, bit by bit as its manual gives it."""
    value = 0xFFFF_FFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C1_1DB7 if value >> 31 else value << 1) & 0xFFFF_FFFF
    return value


def test_memory_is_read_written_searched_and_summed(client: Any) -> None:
    run_to(client, "take_slot")
    machine = client.serving.system.machine
    address = client.serving.system.kernel.image.address("take_slot")
    code = machine.read(address, 300)
    assert bytes.fromhex(client.ask(b"m%x,12c" % address).decode()) == code
    assert client.ask(b"qCRC:%x,12c" % address) == b"C%x" % crc(code)
    at = code.index(code[200:208])
    assert client.ask(b"qSearch:memory:%x;12c;" % address + code[200:208]) == b"1,%x" % (address + at)
    assert client.ask(b"qSearch:memory:%x;8;not there" % address) == b"0"
    assert client.ask(b"mf0000000,4") == b"E.0xf0000000 is not mapped"
    assert len(client.ask(b"mc3fffff0,20")) == 32, "up to the first byte that is not mapped"
    assert client.ask(b"X%x,2:\x90\x90" % address) == b"OK"
    assert machine.read(address, 4) == b"\x90\x90" + code[2:4]
    assert client.ask(b"M%x,2:%s" % (address, code[:2].hex().encode())) == b"OK"


def test_memory_is_read_and_written_by_physical_address_after_qemus_packet(client: Any) -> None:
    run_to(client, "take_slot")
    machine = client.serving.system.machine
    address = client.serving.system.kernel.image.address("take_slot")
    physical = machine.paging.walk(address).physical
    assert physical != address
    code = client.ask(b"m%x,10" % address)
    assert client.ask(b"qqemu.PhyMemMode") == b"0"
    assert client.ask(b"Qqemu.PhyMemMode:1") == b"OK"
    assert client.ask(b"qqemu.PhyMemMode") == b"1"
    assert client.ask(b"m%x,10" % physical) == code
    assert client.ask(b"m%x,4" % address).startswith(b"E.")
    end = machine.ram.low_size
    assert len(client.ask(b"m%x,20" % (end - 8))) == 16, "up to the first byte that is not RAM"
    assert client.ask(b"M%x,4:01020304" % (end - 2)).startswith(b"E.")
    assert client.ask(b"M%x,4:01020304" % (end - 4)) == b"OK"
    assert machine.ram.read(end - 4, 4) == b"\1\2\3\4"
    assert client.ask(b"qSearch:memory:%x;8;\2\3" % (end - 8)) == b"1,%x" % (end - 3)
    assert client.ask(b"Qqemu.PhyMemMode:0") == b"OK"
    assert client.ask(b"m%x,10" % address) == code


def test_registers_are_changed_one_by_one_and_a_refusal_says_why(client: Any) -> None:
    cpu = client.serving.system.machine.cpu
    assert client.ask(b"P3=44332211") == b"OK"
    assert cpu.ebx == 0x1122_3344
    assert client.ask(b"Pf=f8ff0000").startswith(b"E.gs: 0xfff8: entry 8191 lies beyond the table's limit")
    assert client.ask(b"P9=02000200").startswith(b"E.eflags: the machine has no virtual-8086 mode")
    assert client.ask(b"P999=00").startswith(b"E.register")
    values = client.ask(b"g")
    assert values[24:32] == b"44332211"
    assert client.ask(b"G" + values) == b"OK"


def test_a_step_of_a_thread_that_waits_ends_in_that_thread(client: Any) -> None:
    run_to(client, "take_slot")
    for process in range(1, 6):
        client.ask(b"Hgp%x.-1" % process)
        client.ask(b"z0,%x,1" % client.serving.system.kernel.image.address("take_slot"))
    assert client.ask(b"Hgp3.-1") == b"OK"
    thread = client.ask(b"qC").removeprefix(b"QC")
    reply = client.ask(b"vCont;s:%s;c" % thread)
    assert b"thread:%s;" % thread in reply
    now = int.from_bytes(bytes.fromhex(re.search(rb"08:(\w{8});", reply)[1].decode()), "little")  # type: ignore[index]
    address = client.serving.system.kernel.image.address
    assert address("ipc_gate.arrived") < now < address("ipc_gate.leaving"), "it goes on by a direct switch"


def test_a_range_is_stepped_until_it_is_left(client: Any) -> None:
    run_to(client, "take_slot")
    address = client.serving.system.kernel.image.address("take_slot")
    reply = client.ask(b"vCont;r%x,%x:p5.-1;c" % (address, address + 16))
    now = int.from_bytes(bytes.fromhex(re.search(rb"08:(\w{8});", reply)[1].decode()), "little")  # type: ignore[index]
    assert now >= address + 16


def test_programs_and_sources_are_read_through_the_connection(client: Any) -> None:
    def read(path: str) -> bytes:
        opened = client.ask(b"vFile:open:%s,0,0" % path.encode().hex().encode())
        assert opened.startswith(b"F")
        data = b""
        while True:
            answer = client.ask(b"vFile:pread:%s,400,%x" % (opened[1:], len(data)))
            size, _, piece = answer.partition(b";")
            piece = re.sub(rb"}(.)", lambda match: bytes((match[1][0] ^ 0x20,)), piece, flags=re.DOTALL)
            assert len(piece) == int(size[1:], 16)
            if not piece:
                return data
            data += piece

    elf = ELFFile(io.BytesIO(read("/callgate/rom.elf")))
    assert elf.get_section_by_name(".debug_line") is not None
    assert client.ask(b"vFile:open:%s,0,0" % b"/etc/passwd".hex().encode()) == b"F-1,2"
    assert client.ask(b"vFile:open:%s,1,0" % b"/callgate/rom.elf".hex().encode()) == b"F-1,1e"


def monitor(client: Any, line: str) -> str:
    return bytes.fromhex(client.ask(b"qRcmd," + line.encode().hex().encode()).decode()).decode()


def test_monitor_answers_in_qemus_formats(client: Any) -> None:
    run_to(client, "take_slot")
    registers = monitor(client, "info registers")
    for pattern in (  # those of pwndbg and gef
        r"GDT=\s+([0-9a-fA-F]+)\s+([0-9a-fA-F]+)", r"IDT=\s+([0-9a-fA-F]+)\s+([0-9a-fA-F]+)",
        r"TR =([0-9a-fA-F]+)\s+([0-9a-fA-F]+)\s+([0-9a-fA-F]+)\s+([0-9a-fA-F]+)", r"CR3=([0-9a-fA-F]+)",
    ):  # fmt: skip
        assert re.search(pattern, registers), pattern
    for line in (  # as QEMU prints segments of these kinds
        r"^CS =0008 00000000 ffffffff 00cf9[ab]00 DPL=0 CS32 \[-R[A-]\]$", r"^SS =0010 .* DPL=0 DS   \[-WA\]$",
        r"^FS =0238 .* DPL=0 DS   \[-WA\]$", r"^TR =0028 .* DPL=0 TSS32-avl$", r"^LDT=.* DPL=0 LDT$",
    ):  # fmt: skip
        assert re.search(line, registers, re.MULTILINE), registers
    machine = client.serving.system.machine
    assert f"CR3={machine.cpu.cr3:08x}" in registers
    lines = monitor(client, "info mem").splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{16} [0-9a-f]{16} [u-]r[w-]", line) for line in lines)
    kernel = next(line for line in monitor(client, "info tlb").splitlines() if line.startswith("00000000c0101000"))
    assert kernel.split()[1] == "0000000000101000"
    assert monitor(client, "gva2gpa 0xc0101000") == "gpa: 0x101000\n"
    assert monitor(client, "xp/2xw 0x101000").split()[1] == f"{machine.ram.u32(0x101000):#010x}"
    assert "irq_base=20" in monitor(client, "info pic")
    assert monitor(client, "inof") == "there is no command 'inof'; try info\n"
    assert "is none of de" in monitor(client, "catch everything")


def test_a_caught_exception_stops_the_machine_with_its_signal(boot_demo: Boot, serve: Serve, connect: Connect) -> None:
    client = connect(serve(boot_demo("/rom/crash r")))
    assert client.ask(HELLO)
    monitor(client, "catch gp,pf")
    while (reply := client.ask(b"vCont;c")).startswith(b"T05"):
        pass
    assert b"#PF at 0x4" in bytes.fromhex(reply[1:].decode())
    assert client.receive().startswith(b"T0b")


def test_killing_the_kernel_ends_the_session_and_killing_a_process_ends_the_process(client: Any) -> None:
    run_to(client, "take_slot")
    system = client.serving.system
    assert client.ask(b"vKill;5") == b"OK"
    assert system.kernel.state.tasks.processes[SHELL].fault == "killed by the debugger"
    assert client.ask(b"vKill;1") == b"OK"
    client.serving.end(by_itself=True)
    assert client.serving.stop.reason == "killed by gdb"


def test_a_client_that_has_gone_back_detaches_from_processes_that_there_are_not_yet_before_it_goes(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 1000)  # the client may be slow
    run_to(client, "take_slot")
    while b"replaylog:begin" not in (reply := client.ask(b"bc")):
        assert reply.startswith(b"T")
    known = [b"D;1", b"Hgp2.3", b"D;2", b"Hgp3.a", b"D;3", b"Hgp4.b", b"D;4", b"Hgp5.c", b"D;5"]
    answers = [client.ask(packet) for packet in known]  # gdb says as much with five processes
    assert answers[::2] == [b"OK"] * 5
    assert all(answer.startswith(b"E.") for answer in answers[1::2])
    client.close()
    client.serving.end(by_itself=True)
    assert client.serving.said[-1] == "gdb: detached; the machine goes on"


def test_a_guest_that_has_switched_paging_on_without_pae_is_looked_at_by_a_client(client: Any) -> None:
    for _ in range(4):
        assert client.ask(b"vCont;s:p1.-1").startswith(b"T05")
    assert client.ask(b"P0=00000000") == b"OK"
    assert client.ask(b"vCont;c:p1.-1").startswith(b"T05")
    assert client.ask(b"p8") == b"31001000"
    assert client.ask(b"m100031,5") == b"b83c0010c0", "mov eax, start_paged"
    assert b"p1.ffff" in client.ask(b"qfThreadInfo")
    assert client.ask(b"bs").startswith(b"T05")
    assert client.ask(b"p8") == b"2e001000"
