"""The keys of the screen: each is a command of the debugger, or moves among the panes."""

from __future__ import annotations

from typing import Final

COMMANDS: Final = {
    "s,f11": "step",
    "i": "stepi",
    "n,f10": "next",
    "x": "nexti",
    "f,shift+f11": "finish",
    "c,f5": "continue",
    "p": "step phase",
    "r": "step request",
    "S": "back step",
    "I": "reverse-stepi",
    "N": "back next",
    "X": "reverse-nexti",
    "F": "back out",
    "C": "back continue",
    "P": "back phase",
    "R": "back request",
}
FOOT: Final = (  # key, what it does in a word or two, the action
    ("s", "step", "command('step')"),
    ("n", "next", "command('next')"),
    ("c", "cont", "command('continue')"),
    ("p", "phase", "command('step phase')"),
    ("r", "req", "command('step request')"),
    ("SHIFT", "back", "help"),
    (",.", "event", "scrub(1)"),
    (":", "command", "entry"),
    ("?", "help", "help"),
    ("q", "quit", "quit"),
)
HELP: Final = """\
Moving                                        the same, backward
  s  F11        step, into calls              S   back step
  n  F10        next: calls run through       N   back next
  i, x          the same by one instruction   I, X
  f  Shift-F11  finish this routine           F   back out
  c  F5         continue to the next stop     C   back continue
  p             to the request's next phase   P   back phase
  r             to the next request           R   back request
  ,  .          to the event before, the next one; with the time line in
                focus: arrows, Shift or Page for ten, Home, End
  Ctrl-C        ends what runs, at an instruction; nothing is lost

Code
  up, down      move the cursor; Home goes to the next instruction
  b  F9         set or remove a breakpoint at the cursor (Enter, Space);
                click the margin, or twice on the line
  u             run until the cursor
  d             source, or instructions

Panes
  1 … 9         open a tab; Tab and Shift-Tab go from pane to pane
  z             give the pane all of the screen, and back
  e             IPC: the next endpoint, or follow the requests
  t             tables: GDT, LDT, IDT, TSS
  a             Memory, Walk: type an expression, evaluated at each stop
  Console: type a line to the guest; one that waits for it runs on

Commands
  :             type a command; Tab completes, up and down recall
                an empty line does the last step again
  help          lists them all, help COMMAND shows examples
  Esc           back to the code

Signs
  =>  next instruction    ●  breakpoint      *  has changed
  [load]  the phase the request is in        ◆ ◁ ▷  head and tail
  time line, one column an event: t take, f fill, p post, f fetch,
  m map, l load, c call, s save, r reply, u unmap, w wake, r reload;
  D disk, g system call, F file ready, ! exception, $ line typed

q leaves the debugger.
"""
