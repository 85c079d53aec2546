"""Documents that gdb reads piece by piece (qXfer): threads, memory map, libraries, tables of the operating system."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_STACKS
from callgate.kernel.programs.images import kernel_image
from callgate.tools.debugger.debuggee.programs import KERNEL, program_of
from callgate.tools.debugger.gdb.vfile import path_of

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.gdb.context import Context

HEAD = '<?xml version="1.0"?>\n'
TITLES = {
    "processes": "Processes of the guest",
    "threads": "Threads of the guest",
    "endpoints": "Where servers take requests",
}


def threads(context: Context) -> str:
    """Return the threads with their names, and their states in words."""
    debuggee = context.debuggee
    rows = "".join(
        f'<thread id={quoteattr(context.id_of(thread))} core="0" name={quoteattr(thread.name)}>'
        f"{escape(debuggee.threads.state(thread))}</thread>\n"
        for thread in context.visible_threads()
    )
    return f"{HEAD}<threads>\n{rows}</threads>\n"


def memory_map(debuggee: Debuggee) -> str:
    """Return the linear memory that is RAM where it is mapped, the same in each process.

    That is user space, the direct map, and the kernel stacks with what follows; between them lie registers of devices.
    """
    stacks = KERNEL_STACKS, (1 << 32) - KERNEL_STACKS
    runs = [(0, KERNEL_BASE), (KERNEL_BASE, debuggee.machine.ram.low_size), stacks]
    rows = "".join(f'<memory type="ram" start="{start:#x}" length="{size:#x}"/>\n' for start, size in runs)
    return f"{HEAD}<memory-map>\n{rows}</memory-map>\n"


def libraries(process: Process) -> str:
    """Return the kernel as a library of each process but its own: it is mapped in every one, and has its symbols."""
    if process.number == 0:
        return f'{HEAD}<library-list version="1.0"></library-list>\n'
    # gdb takes the address of a section for the distance that it was moved by; that of a segment for where it lies.
    sections = "".join(f'<segment address="{section.address:#x}"/>' for section in kernel_image().sections)
    name = quoteattr(path_of(KERNEL))
    return f'{HEAD}<library-list version="1.0"><library name={name}>{sections}</library></library-list>\n'


def osdata(debuggee: Debuggee, kind: str) -> str | None:
    """Return a table of `info os`; the list of tables for no name, None for one that there is not."""
    if kind == "":
        rows = [{"Type": name, "Description": title, "Title": title} for name, title in TITLES.items()]
        return table("types", rows)
    if kind == "processes":
        return table(kind, [
            {
                "pid": str(process.number + 1), "number": str(process.number), "name": process.name,
                "program": program_of(process) or "", "threads": str(len(process.threads)),
                "pages": str(len(process.pages)), "page tables": f"{process.pointers:#x}",
                "parent": str(process.parent),
            }
            for process in debuggee.threads.processes()
        ])  # fmt: skip
    if kind == "threads":
        return table(kind, [
            {
                "pid": str(thread.process.number + 1), "tid": str(thread.number), "name": thread.name,
                "state": debuggee.threads.state(thread), "selector": f"{thread.selector:#x}",
            }
            for thread in debuggee.threads
        ])  # fmt: skip
    if kind == "endpoints":
        return table(kind, [
            {
                "number": str(endpoint.number), "name": endpoint.name, "address": f"{KERNEL_BASE + endpoint.block:#x}",
                "file system": endpoint.file_system or "",
            }
            for endpoint in debuggee.kernel.state.endpoints.by_number.values()
        ])  # fmt: skip
    return None


def table(kind: str, rows: list[dict[str, str]]) -> str:
    """Return rows as gdb's osdata."""
    items = "".join(
        "<item>"
        + "".join(f"<column name={quoteattr(name)}>{escape(value)}</column>" for name, value in row.items())
        + "</item>\n"
        for row in rows
    )
    return f'{HEAD}<!DOCTYPE target SYSTEM "osdata.dtd">\n<osdata type="{kind}">\n{items}</osdata>\n'
