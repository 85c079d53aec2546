"""The adapter: takes requests one after the other; `pause` and a client that goes away end what runs."""

from __future__ import annotations

import signal
from codecs import getincrementaldecoder
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, get_ident
from typing import IO, TYPE_CHECKING, Any, Final

from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.dap.points import Numbers, filters
from callgate.tools.debugger.dap.protocol import Arguments, EndOfStream, Malformed, RequestError, Sender, read_message
from callgate.tools.debugger.dap.session import Move, Session
from callgate.tools.debugger.workbench.workbench import PHASES

if TYPE_CHECKING:
    from callgate.tools.debugger.history import History
    from callgate.tools.debugger.target import Subject

Message = dict[str, Any]
Launch = Callable[[Arguments, Callable[[bytes], None]], "tuple[Subject, History]"]
"""Makes a system of the arguments of `launch`, with what takes the guest's output; RequestError."""
ABLE: Final = (
    *("StepBack", "SteppingGranularity", "DisassembleRequest", "ReadMemoryRequest", "WriteMemoryRequest"),
    *("SetVariable", "InstructionBreakpoints", "DataBreakpoints", "ConditionalBreakpoints", "FunctionBreakpoints"),
    *("EvaluateForHovers", "CompletionsRequest", "RestartRequest", "TerminateRequest", "CancelRequest"),
    *("ConfigurationDoneRequest", "ExceptionFilterOptions", "LoadedSourcesRequest"),
)
ENDING: Final = ("pause", "cancel", "terminate", "disconnect", "restart")
"""Requests that do not wait for the end of what runs."""
LEAVING: Final = ("terminate", "disconnect", "restart")
"""Requests after which a client wants to know no more where the system stands."""
SETTERS: Final = {
    "setBreakpoints": "lines",
    "setFunctionBreakpoints": "functions",
    "setInstructionBreakpoints": "instructions",
    "setExceptionBreakpoints": "events",
    "setDataBreakpoints": "data",
}


class Adapter:
    """One session with a client.  `serve` returns when the client has gone, or said that it ends."""

    def __init__(self, source: IO[bytes], output: IO[bytes], launch: Launch) -> None:
        self.source = source
        self.sender = Sender(output)
        self.launch_system = launch
        self.session: Session | None = None
        self.launched: Arguments | None = None
        self.asked: dict[str, Arguments] = {}  # breakpoints as they were last set: a restart sets them again
        self.numbers: Numbers = {}
        self.queue: SimpleQueue[Message | None] = SimpleQueue()
        self.lock = Lock()
        self.busy = False
        self.taking = False  # a message, which Ctrl-C may end
        self.ended = False
        self.main = get_ident()
        self.decoder = getincrementaldecoder("utf-8")("replace")  # output may end within a character

    # Reading, on a thread of its own.

    def _read(self) -> None:
        while True:
            try:
                message = read_message(self.source)
            except Malformed as error:
                self._complain(f"a message was ignored: {error}")
                continue
            except (EndOfStream, OSError, ValueError):
                break
            if not isinstance(message.get("seq"), int) or not isinstance(message.get("command"), str):
                self._complain("a message was ignored: it is no request")
                continue
            self.queue.put(message)
            if message["command"] in LEAVING:
                self.sender.stops = False  # what it interrupts has no place that the client still wants to know
            if message["command"] in ENDING:
                self._interrupt()
            if message["command"] == "disconnect":
                return
        self.queue.put(None)
        self._interrupt()

    def _complain(self, text: str) -> None:
        self.sender.event("output", category="console", output=f"callgate: {text}\n")

    def _interrupt(self) -> None:
        """End what runs, as Ctrl-C does, once: a second one would end the way back to where a search began."""
        with self.lock:
            if self.busy:
                self.busy = False
                signal.pthread_kill(self.main, signal.SIGINT)

    # Serving, on the main thread.

    def serve(self) -> None:
        """Serve the client."""
        before = signal.signal(signal.SIGINT, self._ctrl_c)
        Thread(target=self._read, daemon=True).start()
        try:
            while not self.ended:
                with suppress(KeyboardInterrupt):  # it came too late for what ran
                    self.taking = False
                    message = self.queue.get()
                    if message is None:
                        break
                    self.taking = True
                    self._take(message)
        finally:
            signal.signal(signal.SIGINT, before)
            if self.session is not None:
                self.session.close()

    def _ctrl_c(self, _number: int, _frame: object) -> None:
        """End what a message has begun.  Between two there is nothing to end, and the next one must not be lost."""
        if self.taking:
            raise KeyboardInterrupt

    def _take(self, message: Message) -> None:
        try:
            with self.lock:
                self.busy = message["command"] not in ENDING
            self._carry_out(message)
            if self.session is not None:
                self.session.say(self.session.lines.take())
        except RequestError as error:
            self.sender.refuse(message, str(error))
        except KeyboardInterrupt:  # between two runs: the client waits for a response, or for the end of a move
            if self.sender.answered != message["seq"]:
                self.sender.refuse(message, "interrupted")
            elif message["command"] in MOVES and self.session is not None:
                self.session.stopped("pause")
        finally:
            with suppress(KeyboardInterrupt), self.lock:
                self.busy = False

    def _carry_out(self, message: Message) -> None:
        command, arguments = message["command"], Arguments(message.get("arguments"))
        if command in SETTERS:
            self._set(message, arguments)
            return
        if command in MOVES:
            session = self._present()
            move, why = MOVES[command](session, arguments.text("granularity", "statement"))
            self.sender.respond(message, {"allThreadsContinued": True} if command == "continue" else {})
            session.move(move, why)
            return
        handler = HANDLERS.get(command)
        if handler is None:
            raise RequestError(f"this adapter does not know the request {command!r}")
        then = handler(self, message, arguments)
        if then is not None:
            then()

    def _present(self) -> Session:
        if self.session is None:
            raise RequestError("nothing has been launched")
        return self.session

    def _set(self, message: Message, arguments: Arguments) -> None:
        command = message["command"]
        source = arguments.within("source")
        key = f"{command} {source.text('path', '')} {source.number('sourceReference', 0)}"
        answers = getattr(self._present().points, SETTERS[command])(arguments)
        self.asked[key] = arguments
        self.sender.respond(message, {"breakpoints": answers})

    def initialize(self, message: Message, _arguments: Arguments) -> None:
        """Say what this adapter can do."""
        body: Message = {f"supports{name}": True for name in ABLE}
        self.sender.respond(message, body | {"exceptionBreakpointFilters": filters()})

    def launch(self, message: Message, arguments: Arguments) -> None:
        """Make the system."""
        if self.session is not None:
            raise RequestError("a system has been launched: restart it, or begin another session")
        self._begin(arguments)
        self.sender.respond(message)
        self.sender.event("initialized")

    def _begin(self, arguments: Arguments) -> None:
        arguments.texts("execute")  # which `_enter` carries out: too late to refuse them
        arguments.flag("stopOnEntry")
        system, history = self.launch_system(arguments, self._printed)
        self.launched, self.session = arguments, Session(self.sender, system, history, self.numbers)

    def _printed(self, data: bytes) -> None:
        text = self.decoder.decode(data)
        if text:
            self.sender.event("output", category="stdout", output=text)

    def configured(self, message: Message, _arguments: Arguments) -> Callable[[], None]:
        """Begin: stop at the entry, or run on."""
        session = self._present()
        self.sender.respond(message)
        return lambda: self._enter(session)

    def _enter(self, session: Session) -> None:
        assert self.launched is not None
        for line in self.launched.texts("execute"):
            try:
                said = session.console(line, quietly=True)
            except RequestError as error:
                said = f"{line}: {error}"
            session.say(said)
        if self.launched.flag("stopOnEntry", default=True):
            session.stopped("entry")
        else:
            session.move(session.go)

    def restart(self, message: Message, arguments: Arguments) -> Callable[[], None]:
        """Begin again with a system as it was launched."""
        self.sender.stops = True  # what this request has interrupted has ended
        session = self._present()
        assert self.launched is not None
        newer = arguments.within("arguments")
        session.close()
        self.session = None
        self._begin(newer if newer.values else self.launched)
        for key, asked in self.asked.items():
            getattr(self._present().points, SETTERS[key.split()[0]])(asked)
        self.sender.respond(message)
        return lambda: self._enter(self._present())

    def pause(self, message: Message, _arguments: Arguments) -> None:
        """What ran has ended before this request is taken."""
        self.sender.respond(message)

    def terminate(self, message: Message, _arguments: Arguments) -> None:
        """End the system; the client disconnects then."""
        self.sender.respond(message)
        self.sender.event("terminated")

    def disconnect(self, message: Message, _arguments: Arguments) -> None:
        """End the session."""
        self.sender.respond(message)
        self.ended = True

    def evaluate(self, message: Message, arguments: Arguments) -> None:
        """In the console a command, elsewhere an expression."""
        session, text = self._present(), arguments.text("expression")
        if arguments.text("context", "repl") == "repl":
            result = session.console(text)
        else:
            result = session.views.evaluated(text)
        self.sender.respond(message, {"result": result, "variablesReference": 0})
        if session.prompt.desk.ended:
            self.sender.event("terminated")

    def complete(self, message: Message, arguments: Arguments) -> None:
        """Complete a command."""
        session = self._present()
        line = arguments.text("text")[: max(arguments.number("column") - 1, 0)]
        word = line.split(" ")[-1]
        found = completions(word, line, session.bench)
        targets = [{"label": item.strip(), "start": len(line) - len(word), "length": len(word)} for item in found]
        self.sender.respond(message, {"targets": targets})

    def set_variable(self, message: Message, arguments: Arguments) -> None:
        """Change a register, or a field of the message."""
        session = self._present()
        name = session.views.settable(arguments.number("variablesReference"), arguments.text("name"))
        self.sender.respond(message, {"value": session.set_register(name, arguments.text("value"))})


def _answering(body: Callable[[Session, Arguments], Message]) -> Callable[..., None]:
    """Return a handler that looks at the system."""

    def handler(adapter: Adapter, message: Message, arguments: Arguments) -> None:
        adapter.sender.respond(message, body(adapter._present(), arguments))

    return handler


MOVES: Final[dict[str, Callable[[Session, str], tuple[Move, str]]]] = {
    "continue": lambda s, _: (s.go, "breakpoint"),
    "next": lambda s, unit: (s.forward(unit, s.bench.over), "step"),
    "stepIn": lambda s, unit: (s.forward(unit, s.bench.step), "step"),
    "stepOut": lambda s, _: (s.bench.out, "step"),
    "stepBack": lambda s, unit: (s.backward(unit, s.bench.back_over), "step"),
    "reverseContinue": lambda s, _: (s.bench.back, "breakpoint"),
    "callgate/phase": lambda s, _: (lambda: s.bench.to_event(PHASES), "step"),
    "callgate/backPhase": lambda s, _: (lambda: s.bench.back_to_event(PHASES), "step"),
}
HANDLERS: Final[dict[str, Callable[[Adapter, Message, Arguments], Callable[[], None] | None]]] = {
    "initialize": Adapter.initialize,
    "launch": Adapter.launch,
    "configurationDone": Adapter.configured,
    "restart": Adapter.restart,
    "pause": Adapter.pause,
    "cancel": Adapter.pause,
    "terminate": Adapter.terminate,
    "disconnect": Adapter.disconnect,
    "evaluate": Adapter.evaluate,
    "completions": Adapter.complete,
    "setVariable": Adapter.set_variable,
    "threads": _answering(lambda s, _: {"threads": s.views.threads()}),
    "stackTrace": _answering(
        lambda s, a: s.views.stack(
            a.number("threadId"), max(a.number("startFrame", 0), 0), max(a.number("levels", 0), 0)
        )
    ),
    "scopes": _answering(lambda s, a: {"scopes": s.views.scopes(a.number("frameId"))}),
    "variables": _answering(lambda s, a: {"variables": s.views.variables(a.number("variablesReference"))}),
    "source": _answering(
        lambda s, a: {"content": s.sources.text(a.number("sourceReference")), "mimeType": "text/x-asm"}
    ),
    "loadedSources": _answering(lambda s, _: {"sources": s.sources.all()}),
    "dataBreakpointInfo": _answering(lambda s, a: s.points.data_id(a.text("name"))),
    "readMemory": _answering(
        lambda s, a: s.views.memory(a.address("memoryReference") + a.number("offset", 0), a.number("count"))
    ),
    "writeMemory": _answering(
        lambda s, a: s.views.write(a.address("memoryReference") + a.number("offset", 0), a.text("data"))
    ),
    "disassemble": _answering(
        lambda s, a: {
            "instructions": s.views.disassembled(
                a.address("memoryReference") + a.number("offset", 0),
                a.number("instructionOffset", 0),
                a.number("instructionCount"),
            )
        }
    ),
}
