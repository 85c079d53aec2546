"""One gdb at one debuggee: what each packet is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callgate.tools.debugger.debuggee import Ending, Reason
from callgate.tools.debugger.debuggee.threads import KERNEL_PROCESS
from callgate.tools.debugger.gdb import resume
from callgate.tools.debugger.gdb.context import Context
from callgate.tools.debugger.gdb.lifetimes import Lifetimes
from callgate.tools.debugger.gdb.monitoring.monitor import Monitor
from callgate.tools.debugger.gdb.monitoring.terminal_commands import BACKWARD, FORWARD
from callgate.tools.debugger.gdb.protocol.errors import Refused, Unknown
from callgate.tools.debugger.gdb.protocol.ids import ANY, ThreadId, number, parse
from callgate.tools.debugger.gdb.protocol.packets import MOST, escape
from callgate.tools.debugger.gdb.queries import Queries
from callgate.tools.debugger.gdb.stops import SIGTRAP, reply, stop_reply
from callgate.tools.debugger.gdb.vfile import Files

OK = b"OK"
MOST_READ = MOST // 2 - 16
IN_WORDS = (b"P",)  # an error of these is shown in words even by a gdb that does not say that it takes words
PLAIN = bytes.maketrans(b"$}*", b"???")  # for a text that is not escaped; # is left out: #GP is GP


class Stub:
    """Answers packets."""

    def __init__(self, context: Context, wanted: Callable[[], bool]) -> None:
        """`wanted()` says during a run that gdb wants it to end."""
        self.context = context
        self.debuggee = context.debuggee
        self.registers = context.registers
        self.points = context.points
        self.wanted = wanted
        self.files = Files(self.debuggee)
        self.lifetimes = Lifetimes(context)
        self.monitor = Monitor(self.debuggee, context.terminal, context.say, wanted)
        self.queries = Queries(context, self.monitor)
        self.last: Ending | None = None
        self.withheld = b""  # a stop that gdb is told when it goes on with the process
        self.arrived: Ending | None = None  # the end of a move of the terminal debugger that gdb is told of later
        self.interrupted: Sequence[resume.Action] = ()  # what gdb wanted when it was told of a process instead
        self.commands: dict[str, Callable[[str], bytes]] = {
            "?": self._status, "H": self._select, "T": self._alive,
            "g": lambda _: self.registers.all(self.context.thread).encode(), "G": self._put_all,
            "p": lambda text: self.registers.one(self.context.thread, number(text)).encode(), "P": self._put,
            "m": self._read, "x": self._read_binary, "M": self._write,
            "c": lambda _: self._resume([resume.Action(resume.CONTINUE, ThreadId(-1, -1))]),
            "C": lambda _: self._resume([resume.Action(resume.CONTINUE, ThreadId(-1, -1))]),
            "s": lambda _: self._resume([resume.Action(resume.STEP, ThreadId(-1, -1))]),
            "S": lambda _: self._resume([resume.Action(resume.STEP, ThreadId(-1, -1))]),
            "b": self._backwards, "Z": self._insert, "z": self._remove, "D": self.lifetimes.detach,
            "k": self.lifetimes.kill, "!": self.lifetimes.extend, "R": self._restart,
            "q": self.queries.query, "Q": self.queries.set, "v": self._named,
        }  # fmt: skip

    def close(self) -> None:
        """Take out what gdb has inserted."""
        self.points.clear()
        self.debuggee.catch.clear()
        self.debuggee.gates.catch(None)
        self.debuggee.thread_changes.clear()
        if self.context.terminal is not None:
            self.context.terminal.close()

    def answer(self, payload: bytes) -> bytes | None:
        """Return the answer to a packet; None if there is none.  Whatever comes, the machine is unharmed."""
        try:
            if payload[:1] == b"X":
                return self._write_binary(payload[1:])
            if payload.startswith(b"qSearch:memory:"):
                return self.queries.search(payload.removeprefix(b"qSearch:memory:"))
            text = payload.decode("latin-1")
            command = self.commands.get(text[:1])
            if command is None:
                raise Unknown
            return command(text[1:]) or None
        except Unknown:
            return b""
        except (Refused, LookupError, ValueError, OverflowError) as error:
            return self.error(str(error), always=payload[:1] in IN_WORDS)

    def error(self, text: str, *, always: bool = False) -> bytes:
        """Return the answer for an error: in words, if gdb takes words, or takes them `always`."""
        if always or "error-message" in self.context.client:
            return b"E." + text.encode("ascii", "replace").translate(PLAIN, b"#")
        return b"E01"

    def _status(self, _text: str) -> bytes:
        return b"W00" if self.context.off else stop_reply(self.context, self.last)

    # Threads.

    def _select(self, text: str) -> bytes:
        kind, wanted = text[:1], parse(text[1:])
        if kind == "g":
            self.context.selected = None if wanted.thread == ANY and wanted.process <= 0 else self.context.find(wanted)
        elif kind != "c":
            raise Unknown
        return OK

    def _alive(self, text: str) -> bytes:
        self.context.find(parse(text))
        return OK

    # Registers and memory.

    def _put_all(self, text: str) -> bytes:
        self.registers.put_all(self.context.thread, bytes.fromhex(text))
        return OK

    def _put(self, text: str) -> bytes:
        index, _, value = text.partition("=")
        self.registers.put(self.context.thread, number(index), bytes.fromhex(value))
        return OK

    def _memory(self, text: str) -> bytes:
        address, comma, length = text.partition(",")
        if not comma:
            raise Refused("address,length")
        start, size = number(address), number(length)
        if start < 0 or size < 0:
            raise Refused("address and length are not negative")
        data = self.context.read(start, min(size, MOST_READ))
        if size and not data:
            raise Refused(f"{start:#x} is not mapped")
        return data

    def _read(self, text: str) -> bytes:
        return self._memory(text).hex().encode()

    def _read_binary(self, text: str) -> bytes:
        return b"b" + escape(self._memory(text))

    def _put_memory(self, place: str, data: bytes) -> bytes:
        address, _, length = place.partition(",")
        start = number(address)
        if number(length) != len(data):
            raise Refused(f"{len(data)} bytes came for {length[:20]}")
        if data and not self.context.write(start, data):
            raise Refused(f"{len(data)} bytes at {start:#x} are not all mapped: nothing is written")
        return OK

    def _write(self, text: str) -> bytes:
        place, _, digits = text.partition(":")
        return self._put_memory(place, bytes.fromhex(digits))

    def _write_binary(self, payload: bytes) -> bytes:
        place, _, data = payload.partition(b":")
        return self._put_memory(place.decode("latin-1"), data)

    # Points.

    def _insert(self, text: str) -> bytes:
        self.points.insert(text, self.context.thread.process)
        return OK

    def _remove(self, text: str) -> bytes:
        self.points.remove(text, self.context.thread.process)
        return OK

    # Running.

    def _run(self, text: str) -> bytes:
        answer = self.lifetimes.run(text)
        self._begin()
        return answer

    def _restart(self, _text: str) -> bytes:
        self.lifetimes.restart()
        self._begin()
        return b""

    def _begin(self) -> None:
        """Forget what the machine's last run was about."""
        self.last, self.withheld, self.arrived, self.interrupted = None, b"", None, ()
        if self.context.terminal is not None:
            self.context.terminal.armed = None

    def _resume(self, actions: Sequence[resume.Action]) -> bytes:
        self.context.check_on()
        if self.last is not None and self.last.final:
            if self.last.reason is not Reason.EXIT:
                return stop_reply(self.context, self.last)
            # Process 1 is gone for gdb: it must not be told so twice.  (After N, gdb would wait for the others.)
            self.context.say("the guest has ended; the machine is as it was then\n")
            return reply(self.context, SIGTRAP, self.debuggee.threads.running())
        if self.withheld:
            told, self.withheld = self.withheld, b""
            return told
        resumed = actions
        actions = self.interrupted = self.interrupted or actions
        if (answer := self._introduced()) is not None:
            return answer
        moved, self.arrived = self.arrived or self._moved(actions), None
        if moved is not None and (answer := self._introduced()) is not None:
            self.arrived = moved
            return answer
        self.debuggee.report_starts = "multiprocess" in self.context.client
        self.debuggee.report_threads = self.context.thread_events
        try:
            self.last = moved or resume.carry_out(self.debuggee, actions, self.wanted)
        finally:
            self.debuggee.report_starts = self.debuggee.report_threads = False
        if self.last.process is not None:
            self.context.introductions.add(self.last.process)
            if (answer := self._introduced()) is not None:
                return answer
        self.interrupted = ()
        self._tell(self.last)
        return self._expected(stop_reply(self.context, self.last), resumed)

    def _moved(self, actions: Sequence[resume.Action]) -> Ending | None:
        """Carry out a move of the terminal debugger's that waits for `continue`; None if there is none.

        It runs through the beginnings of processes, which are introduced when it has ended.
        """
        if self.context.terminal is None:
            return None
        known = {KERNEL_PROCESS, *(process.number for process in self.debuggee.threads.processes())}
        stepping = any(action.kind in (resume.STEP, resume.RANGE) for action in actions)
        ending = self.context.terminal.move("a step" if stepping else FORWARD, self.context.say, self.wanted)
        for process in self.debuggee.threads.processes():
            if ending is not None and process.number not in known:
                self.context.introductions.add(process)
        return ending

    def _tell(self, ending: Ending) -> None:
        if self.context.terminal is not None:
            self.context.terminal.tell(ending, self.context.say)

    def _expected(self, answer: bytes, resumed: Sequence[resume.Action]) -> bytes:
        """Return an answer that gdb can take: it gives up at a stop in a process that it has not resumed.

        (An assertion of its own, skip_inline_frames.)  So it is first told of libraries of that process, which makes it
        go on with it.
        """
        thread = self.context.selected
        known = "multiprocess" in self.context.client and answer.startswith(b"T") and thread is not None
        if not known or thread is None or resume.action_of(thread, resumed) is not None:
            return answer
        self.withheld = answer
        return reply(self.context, SIGTRAP, thread, "library:;")

    def _introduced(self) -> bytes | None:
        """Return the next event by which gdb comes to know a process, None if there is none.

        After it gdb goes on by itself, but forgets that it was stepping another process's thread.
        """
        if "multiprocess" not in self.context.client:
            return None
        event = self.context.introductions.next(self.context.client)
        return None if event is None else reply(self.context, SIGTRAP, *event)

    def _backwards(self, text: str) -> bytes:
        if self.context.history is None or text not in ("s", "c"):
            raise Unknown
        self.context.check_on()
        moved = None
        if self.context.terminal is not None:
            way = BACKWARD if text == "c" else "a step"
            moved = self.context.terminal.move(way, self.context.say, self.wanted)
        self.context.told_ended.clear()
        history = self.context.history
        self.last = moved or (history.step_back() if text == "s" else history.back_to_previous(self.wanted))
        self._tell(self.last)
        return stop_reply(self.context, self.last)

    def _named(self, text: str) -> bytes:
        name, _, rest = text.partition(";")
        if name == "Cont?":
            return b"vCont;c;C;s;S;t;r"
        if name == "Cont":
            return self._resume(resume.read_actions(rest))
        if name == "Kill":
            return self.lifetimes.kill_process(rest)
        if name == "Attach":
            return self.lifetimes.attach(rest)
        if name == "Run":
            return self._run(rest)
        if text.startswith("File:"):
            operation, _, arguments = text[5:].partition(":")
            return self.files.handle(operation, arguments.split(","))
        raise Unknown
