"""How the screen looks.  Nothing is told by colour alone: NO_COLOR leaves signs, and bold or reversed text."""

from typing import Final

NEEDED: Final = (80, 20)
"""Columns and rows without which the panes are not shown."""
WIDE: Final = (170, 36)
"""Columns and rows from which on the IPC pane has a place of its own; the threads need only the rows."""

CSS: Final = """
Screen { layout: vertical; background: $background; }
#status { height: 1; background: $panel; color: $foreground; text-style: bold; }
#upper { height: 9; }
#code { width: 1fr; border-right: vkey $panel-lighten-2; }
#side { width: 30; }
#registers { height: 9; }
#side-threads, #side-ipc { display: none; }
#tabs { height: 1; background: $panel; }
#lower { height: 1fr; }
#lower > * { display: none; height: 1fr; }
#lower > .-open { display: block; }
#times { height: 2; background: $panel; }
#said { height: 1; }
#entry { height: 1; }
#entry Label { width: 2; color: $text-accent; text-style: bold; }
#entry CommandLine, .address { width: 1fr; }
.address-row { height: 1; }
.address-row Label { width: 12; color: $text-muted; }
#keys { height: 1; background: $panel; color: $text-muted; link-style: none; link-color: $text-muted; }
#small { display: none; width: 100%; height: 100%; }
Rows { scrollbar-size: 0 1; background: $background; overflow-x: hidden; }
Rows:focus { background: $surface; }
#times { scrollbar-size: 0 0; overflow: hidden hidden; }
#registers { scrollbar-size: 0 0; }
#times:focus { background: $surface-lighten-1; }
.-tall #upper { height: 2fr; }
.-tall #lower { height: 3fr; }
.-tall #side { width: 44; }
.-tall #side-threads { display: block; height: 1fr; border-top: hkey $panel-lighten-2; }
.-wide #upper { height: 3fr; min-height: 22; }
.-wide #lower { height: 2fr; }
.-wide #side-ipc { display: block; width: 84; border-left: vkey $panel-lighten-2; }
.-small > * { display: none; }
.-small > #small { display: block; }
.-zoomed #upper, .-zoomed #times { display: none; }
.-zoomed-code #lower, .-zoomed-code #tabs, .-zoomed-code #times { display: none; }
.-zoomed-code #upper { height: 1fr; }
.rows--dim { color: $text-muted; text-style: dim; }
.rows--title { color: $text-accent; text-style: bold; }
.rows--here { background: $primary; color: $text; text-style: bold; }
.rows--changed { color: $text-warning; text-style: bold underline; }
.rows--lit { background: $warning-darken-2; color: $text; text-style: bold; }
.rows--passed { color: $text-success; text-style: bold; }
.rows--point { color: $text-error; text-style: bold; }
.-nocolor .rows--here, .-nocolor .rows--lit { text-style: bold reverse; }
.rows--cursor { text-style: underline; }
.rows--error { color: $text-error; text-style: bold; }
HelpScreen { align: center middle; }
HelpScreen Rows { width: 78; height: 90%; border: round $primary; padding: 0 1; }
"""
