"""The screen: its layout, its keys, and what passes between it and the worker's thread."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from callgate.tools.debugger.commands import moving
from callgate.tools.debugger.commands.completing import completions
from callgate.tools.debugger.commands.language import find
from callgate.tools.debugger.screen.keys import COMMANDS, FOOT
from callgate.tools.debugger.screen.messages import Drawn, Failed, Printed, Rested, Said
from callgate.tools.debugger.screen.panes.command_line import CommandLine
from callgate.tools.debugger.screen.panes.help_screen import HelpScreen
from callgate.tools.debugger.screen.panes.ipc import IpcPane
from callgate.tools.debugger.screen.panes.output import OutputPane
from callgate.tools.debugger.screen.panes.rows import clean
from callgate.tools.debugger.screen.panes.simple import CodePane, Pane, PrintPane, RegisterPane, ThreadPane, ViewPane
from callgate.tools.debugger.screen.panes.tabs import TAB_NAMES, TabBar
from callgate.tools.debugger.screen.panes.times import TimesPane
from callgate.tools.debugger.screen.picture import TABLES, Picture, Wanted
from callgate.tools.debugger.screen.session import Session
from callgate.tools.debugger.screen.style import CSS, NEEDED, WIDE
from callgate.tools.debugger.screen.worker import Worker
from callgate.tools.debugger.workbench.failure import CommandError
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.filter import LineFilter, NoColor
from textual.message import Message
from textual.widgets import Input, Label, Static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from callgate.tools.debugger.workbench.workbench import Workbench
    from textual import events

BEAT: Final = 0.2  # seconds between two looks at how far a run has come
WHERE: Final = ("instruction ", "  ")  # how lines begin that say where the system stands: the panes show it


class DebuggerApp(App[None]):
    """The debugger's screen over a workbench, which belongs to the worker's thread while this runs."""

    CSS = CSS
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(keys, f"command('{line}')", show=False) for keys, line in COMMANDS.items()),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("q,ctrl+q", "quit", show=False),
        Binding("question_mark,f1", "help", show=False),
        Binding("colon", "entry", show=False, priority=True),  # what is typed after it is for the command line
        Binding("escape", "code", show=False, priority=True),
        Binding("f9", "mark", show=False),
        Binding("u", "until", show=False),
        Binding("d", "source", show=False),
        Binding("e", "endpoint", show=False),
        Binding("t", "table", show=False),
        Binding("a", "address", show=False),
        Binding("z", "zoom", show=False),
        Binding("comma", "scrub(-1)", show=False),
        Binding("full_stop", "scrub(1)", show=False),
        Binding("ctrl+z", "suspend_process", show=False),
        *(Binding(str(number), f"tab('{name}')", show=False) for number, name in enumerate(TAB_NAMES, 1)),
    ]

    def __init__(self, bench: Workbench, title: str) -> None:
        """`title` names what is debugged."""
        super().__init__()
        self.bench = bench
        self.named = title
        self.failure: BaseException | None = None
        self.unseen = bytearray()  # what the guest has printed
        self.printing = threading.Lock()
        self.worker = Worker(
            bench.history.interrupts, lambda: self._post(Rested()), lambda error: self._post(Failed(error))
        )
        self.session = Session(
            bench, lambda line, role: self._post(Said(line, role)), lambda picture: self._post(Drawn(picture))
        )
        self.wanted = Wanted(pane="ipc")
        self.picture: Picture | None = None

    def _post(self, message: Message) -> None:
        """Tell the screen something from the worker's thread: to post a message is what Textual lets threads do."""
        self.post_message(message)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return what changes lines as they are drawn: with NO_COLOR there is no colour, where Textual leaves greys."""
        return [*super().get_line_filters(), NoColor()] if self.no_color else super().get_line_filters()

    def print_from_guest(self, data: bytes) -> None:
        """Show what the guest prints; called on the worker's thread.

        What it prints before the screen has shown what came before is shown at once: a guest prints faster.
        """
        with self.printing:
            first = not self.unseen
            self.unseen += data
        if first:
            self._post(Printed())

    # Layout.

    def compose(self) -> ComposeResult:
        """Make the panes."""
        yield Static("", id="small", markup=False)
        yield Static("", id="status", markup=False)
        with Horizontal(id="upper"):
            yield CodePane(id="code")
            with Vertical(id="side"):
                yield RegisterPane(id="registers")
                yield ThreadPane(id="side-threads")
            yield IpcPane(id="side-ipc")
        yield TabBar(id="tabs")
        with Vertical(id="lower"):
            yield from self._tabs()
        yield TimesPane(id="times")
        yield Static("", id="said", markup=False)
        with Horizontal(id="entry"):
            yield Label(": ")
            yield CommandLine(self._completions, id="command")
        yield Static(foot(), id="keys")

    def _tabs(self) -> ComposeResult:
        yield IpcPane(id="ipc")
        yield ThreadPane(id="threads")
        for name in ("memory", "walk"):
            with Vertical(id=name):
                with Horizontal(classes="address-row"):
                    yield Label("address: ")
                    yield Input(getattr(self.wanted, name), compact=True, classes="address", name=name)
                yield ViewPane(name=name)
        yield ViewPane(id="tables", name="tables")
        yield ViewPane(id="disk", name="disk")
        with Vertical(id="console"):
            yield PrintPane("the guest has printed nothing yet", id="printed")
            with Horizontal(classes="address-row"):
                yield Label("to guest: ")
                yield CommandLine(id="typing", classes="address")
        yield OutputPane("what commands say comes here", id="output")

    def _completions(self, text: str, line: str) -> list[str]:
        return completions(text, line, self.bench)

    def on_mount(self) -> None:
        """Let the worker begin."""
        self.screen.set_class(self.no_color, "-nocolor")
        self.worker.start()
        self._open("memory" if self.screen.has_class("-wide") else "ipc")
        self.query_one("#code").focus()
        self.set_interval(BEAT, self._beat)

    def on_unmount(self) -> None:
        """End what the worker does."""
        self.worker.stop()

    def on_resize(self, event: events.Resize) -> None:
        """Lay the panes out for this size; say what is needed where it is too small."""
        width, height = event.size
        small = width < NEEDED[0] or height < NEEDED[1]
        panes = self.screen_stack[0]  # which help may cover
        if small and self.screen is not panes:
            self.pop_screen()
        panes.set_class(small, "-small")
        wide = width >= WIDE[0] and height >= WIDE[1]
        if wide and not panes.has_class("-wide") and self.wanted.pane == "ipc":
            self._open("memory")  # a wide screen has the IPC pane at its side
        panes.set_class(wide, "-wide")
        panes.set_class(height >= WIDE[1], "-tall")
        needed, here = f"{NEEDED[0]} x {NEEDED[1]}", f"{width} x {height}"
        panes.query_one("#small", Static).update(f"needs {needed}, this is {here}: enlarge it, or q and --plain")

    # The worker.

    def _give(self, line: str, carry_out: Callable[[str], None]) -> None:
        """Let the worker carry a line out."""
        self._put(f"(callgate) {line}", "dim")
        self._say("said", "")
        self.worker.give(lambda: carry_out(line))
        self._beat()

    def _look(self) -> None:
        """Let the worker collect a picture of what is wanted now."""
        wanted = self.wanted

        def look() -> None:
            self.session.wanted = wanted
            self.session.draw()

        self.worker.give(look)

    def _beat(self) -> None:
        """Show where the system stands, or how far its run has come."""
        picture, text = self.picture, ""
        if self.worker.busy:
            share = self.session.share
            done = (
                f"instruction {int(self.bench.machine.state.count):,}"
                if share is None
                else f"{share:.0%} looked through"
            )
            text = f"{self.named}: at work, {done}; Ctrl-C ends it"
        elif picture is not None:
            past = ", in the past" if picture.past else ""
            text = f"{picture.position}{past} | {picture.thread}, ring {picture.ring} | {picture.place}"
        self._say("status", f" {text}")

    def _say(self, row: str, text: str) -> None:
        """Show a text in a row, unless the screen is being left: the worker may tell of things until it has ended."""
        for shown in self.query(f"#{row}").results(Static):
            shown.update(clean(text))

    def _put(self, line: str, role: str = "") -> None:
        for pane in self.query("#output").results(PrintPane):
            pane.add(line, role)

    def on_drawn(self, event: Drawn) -> None:
        """Draw the panes."""
        self.picture = event.picture
        for pane in self.query(Pane):
            pane.take(event.picture)
        if self.session.ended:
            self.exit()

    def on_rested(self) -> None:
        """Show where the system stands."""
        self._beat()

    def on_said(self, event: Said) -> None:
        """Keep a line; show it in the row above the command line unless it says where the system stands."""
        self._put(event.line, event.role)
        if not event.line.startswith(WHERE):
            self._say("said", event.line)

    def on_printed(self, _event: Printed) -> None:
        """Show what the guest has printed."""
        with self.printing:
            data = bytes(self.unseen)
            self.unseen.clear()
        for pane in self.query("#printed").results(PrintPane):
            pane.write(data)

    def on_failed(self, event: Failed) -> None:
        """End; the error is raised when the terminal has been restored."""
        self.failure = event.error
        self.exit()

    # Lines.

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take a line: a command, a line to the guest, or an address of a pane."""
        if event.input.id == "command":
            self._entered(self.query_one("#command", CommandLine).take())
        elif event.input.id == "typing":
            self.session.typing.append(self.query_one("#typing", CommandLine).take())
            self.worker.give(self.session.type_in)
        elif event.input.name == "memory":
            self.wanted = replace(self.wanted, memory=event.value or "esp")
            self._look()
        else:
            self.wanted = replace(self.wanted, walk=event.value or "eip")
            self._look()

    def on_command_line_offered(self, event: CommandLine.Offered) -> None:
        """Show what Tab could complete to."""
        self._say("said", event.words)

    def _entered(self, line: str) -> None:
        """Carry a typed command out; what one says that does not move is seen in its tab.

        A colon before it is left out: a command that follows another one may begin as the first one did.
        """
        line = line.lstrip().removeprefix(":")
        self._give(line, self.session.line)
        try:
            shows = bool(line.strip()) and find(line)[0].action.__module__ != moving.__name__
        except CommandError:
            return
        if shows:
            self.action_tab("output")

    # Messages of panes.

    def on_code_pane_toggled(self, event: CodePane.Toggled) -> None:
        """Set or remove a breakpoint."""
        self.worker.give(lambda: self.session.toggle(event.address))

    def on_times_pane_scrubbed(self, event: TimesPane.Scrubbed) -> None:
        """Go there; where the worker has not begun to go to an earlier aim, it goes to this one."""
        self.session.aim(event.retired)
        self.worker.give(self.session.scrub)

    def on_tab_bar_opened(self, event: TabBar.Opened) -> None:
        """Open a tab."""
        self.action_tab(event.tab)

    # Keys.

    def action_command(self, line: str) -> None:
        """Carry a command out, unless another one is under way: keys that repeat must not pile up."""
        if not self.worker.busy:
            self._give(line, self.session.key)

    def action_interrupt(self) -> None:
        """Ctrl-C."""
        self.worker.interrupt()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen())

    def action_entry(self) -> None:
        """Go to the command line at once: focus() would let the next keys still go to where they went before."""
        self.screen.set_focus(self.query_one("#command"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether an action can be taken now: a colon that is typed into a line is one of its characters."""
        return action != "entry" or (not isinstance(self.focused, Input) and not isinstance(self.screen, HelpScreen))

    def action_code(self) -> None:
        """Go to the code; close the help."""
        if isinstance(self.screen, HelpScreen):
            self.screen.dismiss()
        else:
            self.query_one("#code").focus()

    def action_mark(self) -> None:
        """Set or remove a breakpoint at the cursor."""
        self.query_one("#code", CodePane).action_mark()

    def action_until(self) -> None:
        """Run until the cursor."""
        address = self.query_one("#code", CodePane).address
        if address is not None:
            self.action_command(f"until {address:#x}")

    def action_source(self) -> None:
        """Show source, or instructions."""
        self.wanted = replace(self.wanted, source=not self.wanted.source)
        self._look()

    def action_endpoint(self) -> None:
        """Show the next endpoint."""
        for pane in self.query(IpcPane):
            pane.choose_next()

    def action_table(self) -> None:
        """Show the next table."""
        table = self.wanted.table
        if self.wanted.pane == "tables":
            table = TABLES[(TABLES.index(table) + 1) % len(TABLES)]
        self.wanted = replace(self.wanted, table=table)
        self.action_tab("tables")

    def action_scrub(self, count: int) -> None:
        """Go to the next event, or the one before."""
        self.query_one("#times", TimesPane).action_scrub(count)

    def action_tab(self, name: str) -> None:
        """Open a tab and go to it."""
        self._open(name)
        pane = self.query_one(f"#{name}")
        target = pane if pane.can_focus else pane.query("CommandLine, ViewPane").last()
        self.screen.set_focus(target)

    def action_address(self) -> None:
        """Go to the address of the memory pane or the walk."""
        for address in self.query(f"#{self.wanted.pane} > .address-row > Input"):
            address.focus()

    def _open(self, name: str) -> None:
        for pane in self.query("#lower > *"):
            pane.set_class(pane.id == name, "-open")
        self.query_one("#tabs", TabBar).show(name)
        self.wanted = replace(self.wanted, pane=name)
        self._look()

    def action_zoom(self) -> None:
        """Give the pane in focus all of the screen, or take it back."""
        code = self.focused is not None and self.focused.id in ("code", "registers", "side-threads", "side-ipc")
        zoomed = self.screen.has_class("-zoomed") or self.screen.has_class("-zoomed-code")
        self.screen.set_class(not zoomed and not code, "-zoomed")
        self.screen.set_class(not zoomed and code, "-zoomed-code")


def foot() -> Content:
    """Return the keys that are always shown, each to be clicked."""
    return Content.from_markup(" ".join(f"[@click=app.{action}][b]{key}[/b] {words}[/]" for key, words, action in FOOT))
