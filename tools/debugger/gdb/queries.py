"""q and Q: what gdb asks about the stub, threads and memory, and what it sets."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.tools.debugger.debuggee.threads import BOOT_NUMBER
from callgate.tools.debugger.gdb import tables
from callgate.tools.debugger.gdb.description import target_xml
from callgate.tools.debugger.gdb.protocol.errors import Refused, Unknown
from callgate.tools.debugger.gdb.protocol.ids import number, parse
from callgate.tools.debugger.gdb.protocol.packets import MOST, escape
from callgate.tools.debugger.gdb.vfile import exec_file

if TYPE_CHECKING:
    from callgate.tools.debugger.gdb.context import Context
    from callgate.tools.debugger.gdb.monitoring.monitor import Monitor

OK = b"OK"
FEATURES = (
    f"PacketSize={MOST - 4:x}", "QStartNoAckMode+", "multiprocess+", "exec-events+", "vContSupported+",
    "swbreak+", "hwbreak+", "ConditionalBreakpoints+", "error-message+", "binary-upload+",
    "QCatchSyscalls+", "QThreadEvents+",
    "qXfer:features:read+", "qXfer:memory-map:read+",
    "qXfer:threads:read+", "qXfer:exec-file:read+", "qXfer:libraries:read+", "qXfer:osdata:read+",
)  # fmt: skip
BACKWARDS = ("ReverseStep+", "ReverseContinue+")
MOST_SEARCHED = 64 << 20  # bytes
AT_ONCE = 1 << 20


class Queries:
    """Answers the packets that begin with q or Q."""

    def __init__(self, context: Context, monitor: Monitor) -> None:
        self.context = context
        self.monitor = monitor
        self.debuggee = context.debuggee
        self.plain: dict[str, Callable[[str], bytes]] = {
            "Supported": self._supported, "C": self._current, "fThreadInfo": self._threads,
            "sThreadInfo": lambda _: b"l", "ThreadExtraInfo": self._extra, "Attached": lambda _: b"1",
            "Symbol": lambda _: OK, "Rcmd": self._command, "CRC": self._crc, "Xfer": self._transfer,
            "qemu.sstepbits": lambda _: b"ENABLE=1,NOIRQ=2,NOTIMER=4", "qemu.sstep": lambda _: b"0x1",
            "qemu.PhyMemMode": lambda _: b"%d" % self.context.physical,
        }  # fmt: skip
        self.pieces: dict[str, bytes] = {}  # documents that are being read, so that their pieces fit together

    def query(self, text: str) -> bytes:
        """Answer `qtext`."""
        name = text.replace(",", ":").partition(":")[0]
        function = self.plain.get(name)
        if function is None:
            raise Unknown
        return function(text[len(name) + 1 :])

    def set(self, text: str) -> bytes:
        """Answer `Qtext`."""
        if text == "StartNoAckMode":
            self.context.no_acknowledgements = True
            return OK
        name, _, rest = text.partition(":")
        if name == "qemu.PhyMemMode":
            self.context.physical = switched(rest)
            return OK
        if name == "ThreadEvents":
            self.context.thread_events = switched(rest)
            self.debuggee.thread_changes.clear()
            return OK
        if name == "CatchSyscalls":
            return self._catch_syscalls(rest)
        raise Unknown

    def _catch_syscalls(self, text: str) -> bytes:
        """Answer `QCatchSyscalls:0` and `QCatchSyscalls:1[;number]…`."""
        first, *numbers = text.split(";")
        on, calls = switched(first), [number(each) for each in numbers]
        self.debuggee.gates.catch(calls if on else None)
        self.context.catches_syscalls = on
        return OK

    def _supported(self, text: str) -> bytes:
        self.context.client = {feature.removesuffix("+") for feature in text.split(";") if feature.endswith("+")}
        backwards = BACKWARDS if self.context.history is not None else ()
        return ";".join((*FEATURES, *backwards)).encode()

    def _current(self, _text: str) -> bytes:
        return b"QC" + self.context.id_of(self.context.thread).encode()

    def _threads(self, _text: str) -> bytes:
        ids = ",".join(self.context.id_of(thread) for thread in self.context.visible_threads())
        return b"m" + ids.encode() if ids else b"l"

    def _extra(self, text: str) -> bytes:
        thread = self.context.find(parse(text))
        state = (
            "the CPU, before the first switch" if thread.number == BOOT_NUMBER else self.debuggee.threads.state(thread)
        )
        return f"{thread.name}: {state}".encode().hex().encode()

    def _command(self, text: str) -> bytes:
        """Answer `monitor …`."""
        try:
            line = bytes.fromhex(text).decode("utf-8", "replace")
        except ValueError:
            raise Refused("the command is not hexadecimal") from None
        output = self.monitor.run(line, self.context.thread)
        return output.encode("utf-8", "replace").hex().encode() or OK

    def _crc(self, text: str) -> bytes:
        """Answer with the CRC-32 of memory as gdb computes it: most significant bit first, not inverted."""
        start, size = span(text)
        value = 0xFFFF_FFFF
        for at in range(start, start + size, AT_ONCE):
            wanted = min(AT_ONCE, start + size - at)
            data = self.context.read(at, wanted)
            if len(data) < wanted:
                raise Refused(f"{at + len(data):#x} is not mapped")
            value = crc(value, data)
        return b"C%x" % value

    def search(self, payload: bytes) -> bytes:
        """Answer `qSearch:memory:address;length;pattern`."""
        parts = payload.split(b";", 2)
        if len(parts) != 3 or not parts[2]:
            raise Refused("address;length;pattern")
        start, size, pattern = number(parts[0].decode("latin-1")), number(parts[1].decode("latin-1")), parts[2]
        if start < 0 or not 0 <= size <= MOST_SEARCHED:
            raise Refused(f"at most {MOST_SEARCHED} bytes are searched")
        before, at = b"", start
        while at < start + size:
            data = self.context.read(at, min(AT_ONCE, start + size - at))
            found = (before + data).find(pattern)
            if found >= 0:
                return b"1,%x" % (at - len(before) + found)
            if not data:
                break
            before, at = (before + data)[-(len(pattern) - 1) :] if len(pattern) > 1 else b"", at + len(data)
        return b"0"

    def _transfer(self, text: str) -> bytes:
        """Answer `qXfer:object:read:annex:offset,length`."""
        parts = text.split(":")
        if len(parts) != 4 or parts[1] != "read":
            raise Unknown
        kind, _, annex, place = parts
        start, size = span(place)
        key = f"{kind}:{annex}"
        if start == 0 or key not in self.pieces:
            self.pieces = {key: self._document(kind, annex).encode()}
        data = self.pieces[key][start : start + min(size, MOST // 2 - 16)]
        return (b"m" if start + len(data) < len(self.pieces[key]) else b"l") + escape(data)

    def _document(self, kind: str, annex: str) -> str:
        context = self.context
        if kind == "features":
            if annex != "target.xml":
                raise Refused(f"there is no {annex[:40]}, only target.xml")
            return target_xml()
        if kind == "threads":
            return tables.threads(context)
        if kind == "memory-map":
            return tables.memory_map(self.debuggee)
        if kind == "libraries":
            return tables.libraries(context.thread.process)
        if kind == "exec-file":
            process = context.process(number(annex)) if annex else context.thread.process
            return exec_file(self.debuggee, process)
        if kind == "osdata":
            document = tables.osdata(self.debuggee, annex)
            if document is None:
                raise Refused(f"there is no table {annex[:40]!r}: {', '.join(tables.TITLES)}")
            return document
        raise Unknown


def switched(text: str) -> bool:
    """Read `0` or `1`; Refused."""
    if text not in ("0", "1"):
        raise Refused(f"{text[:20]!r} is neither 0 nor 1")
    return text == "1"


def span(text: str) -> tuple[int, int]:
    """Read `start,length`, neither negative; Refused."""
    start, comma, size = text.partition(",")
    values = number(start), number(size) if comma else -1
    if min(values) < 0 or values[1] > 1 << 32:
        raise Refused(f"{text[:40]!r} is not start,length")
    return values


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc(value: int, data: bytes) -> int:
    """Continue a CRC-32 with the most significant bit first, by zlib, which has the least significant one first."""
    mirrored = int(f"{value:032b}"[::-1], 2)
    result = zlib.crc32(data.translate(REVERSED), mirrored ^ 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{result:032b}"[::-1], 2)
