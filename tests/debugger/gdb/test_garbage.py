"""Whatever a client sends, the machine runs as if nothing had been sent."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import cycle
from random import Random

import pytest
from callgate.kernel.system import System
from callgate.tools.debugger.debuggee import Debuggee
from callgate.tools.debugger.gdb.context import Context
from callgate.tools.debugger.gdb.protocol.packets import Decoder, Packet, frame
from callgate.tools.debugger.gdb.stub import Stub

Boot = Callable[[str], System]
#: Packets that change nothing by themselves, one or more of each kind that there is.
VALID = (
    b"?", b"!", b"Hgp1.1", b"Hc-1", b"Tp1.2", b"g", b"p08", b"p29", b"mc0101000,40", b"xc0101000,40", b"m0,10",
    b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+;xmlRegisters=i386", b"qC", b"qfThreadInfo",
    b"qsThreadInfo", b"qThreadExtraInfo,p1.1", b"qAttached:1", b"qOffsets", b"qSymbol::", b"vMustReplyEmpty",
    b"qTStatus", b"qXfer:features:read:target.xml:0,fff", b"qXfer:threads:read::0,1000",
    b"qXfer:memory-map:read::0,100",
    b"qXfer:exec-file:read:1:0,100", b"qXfer:libraries:read::0,100", b"qXfer:osdata:read:processes:0,1000",
    b"qSearch:memory:c0101000;1000;\x90\x90", b"qCRC:c0101000,100", b"QStartNoAckMode", b"QThreadEvents:1",
    b"QCatchSyscalls:1", b"QCatchSyscalls:1;d;10007", b"QCatchSyscalls:0",
    b"Qqemu.PhyMemMode:1", b"Qqemu.PhyMemMode:0",
    b"Z0,c0101000,1", b"z0,c0101000,1", b"Z1,400000,1", b"z1,400000,1", b"Z2,c0101000,4", b"z2,c0101000,4",
    b"Z3,c0101000,4", b"z3,c0101000,4", b"Z4,400000,2", b"z4,400000,2", b"Z0,c0101001,1;X5,2200012727",
    b"vCont?", b"vCont;s:p1.-1", b"vCont;r0,1:p1.-1", b"vFile:setfs:0",
    b"vFile:open:2f63616c6c676174652f6b65726e656c2e656c66,0,0",
    b"vFile:pread:3,100,0", b"vFile:fstat:3", b"vFile:close:3", b"vFile:readlink:2f", b"bs", b"bc", b"R00", b"F0",
    b"qRcmd,696e666f20726567697374657273", b"qRcmd,696e666f20706963", b"qRcmd,78702f34787720307838303030", b"s",
    b"qemu.sstepbits", b"qqemu.PhyMemMode", b"jThreadsInfo", b"vAttach;1", b"vRun;", b"t", b"i", b"a",
)  # fmt: skip
CHANGES = b"MXGPkD"  # packets that are meant to change memory, registers or the connection


def digest(system: System) -> str:
    return sha256(system.machine.ram.low).hexdigest() + str(system.machine.regs)


def changes(payload: bytes) -> bool:
    """Whether a packet is one that changes the machine, and rightly."""
    return payload[:1] in (bytes((byte,)) for byte in CHANGES) or payload.startswith((b"vKill", b"qRcmd"))


def mutated(random: Random) -> bytes:
    """Return a valid packet with one to four bytes changed, removed, inserted or repeated."""
    data = bytearray(random.choice(VALID))
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(4)
        if kind == 0:
            data[at : at + 1] = bytes((random.randrange(256),))
        elif kind == 1:
            del data[at : at + random.randrange(1, 4)]
        elif kind == 2:
            data[at:at] = bytes(random.choices(b"0123456789abcdef,;:p.-", k=random.randrange(1, 20)))
        else:
            data += data[at:]
    return bytes(data)


@pytest.mark.parametrize("kind", ["garbage", "mutated"])
def test_a_thousand_packets_leave_the_machine_as_it_was(
    boot_demo: Boot, kind: str, some_of: Callable[[range, int], list[int]]
) -> None:
    plain, system = boot_demo("dir"), boot_demo("dir")
    events: tuple[list[str], list[str]] = [], []
    for machine, lines in zip((plain, system), events, strict=True):
        machine.trace(lambda event, lines=lines: lines.append(event.line()))  # type: ignore[misc]
    random = Random(f"15 {kind}")
    debuggee = Debuggee(system)
    point = debuggee.breakpoints.add(system.kernel.image.address("take_slot"))
    told: list[bytes] = []
    asked = 0
    turns = cycle((True, False, False))
    for _ in range(3):  # before the first instruction, and at two requests
        stub = Stub(Context(debuggee, told.append), lambda: next(turns))
        decoder = Decoder()
        for _ in some_of(range(334), 3):
            asked += 1
            payload = mutated(random) if kind == "mutated" else random.randbytes(random.randrange(1, 60))
            stream = frame(payload) if kind == "mutated" or random.random() < 0.5 else payload + b"#00"
            for item in decoder.feed(stream):
                if isinstance(item, Packet) and not changes(item.payload):
                    answer = stub.answer(item.payload)
                    assert answer is None or isinstance(answer, bytes)
        stub.close()
        debuggee.run()
    assert asked >= len(some_of(range(1000), 3))
    debuggee.breakpoints.remove(point)
    debuggee.run()
    plain.run()
    assert events[0] == events[1]
    assert digest(plain) == digest(system)


def test_each_packet_of_the_list_has_an_answer_of_the_protocols_form(boot_demo: Boot) -> None:
    stub = Stub(Context(Debuggee(boot_demo("dir")), lambda _: None), lambda: True)
    answers = {payload: stub.answer(payload) for payload in VALID}
    assert [payload for payload, answer in answers.items() if answer is None] == []
    assert [payload for payload, answer in answers.items() if {*b"$#"} & {*(answer or b"")}] == []
