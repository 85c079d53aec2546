"""What policy, hosted servers and devices read of memory while a part of a run is repeated.

They are Python, which no watchpoint of the CPU sees.  What they read by the functions of `Ram` is seen: the memory of
programs and servers, message pages, page tables, disk blocks, and what DMA takes.  Words of the kernel's own blocks
that policy looks at in place (`words[…]`: states of slots, thread control blocks) are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.ram import Ram

WRITERS: Final = ("write", "put_u8", "put_u16", "put_u32", "put_u64")  # they take a view, too, and read nothing
OF_SERVERS: Final = frozenset({Account.SERVER, Account.SERVER_MEMORY, Account.METADATA})

Told = Callable[[int, int, str], None]  # physical address, bytes, by whom


@contextmanager
def reads_of_policy(machine: Machine, told: Told) -> Iterator[None]:
    """Call a function with each read that does not pass through the CPU for as long as the block lasts."""
    calls: list[str] = []  # host calls under way, the innermost last
    writing: list[str] = []
    plain_view = Ram.view

    def view(ram: Ram, physical: int, length: int, account: Account | None = None) -> memoryview:
        found = plain_view(ram, physical, length, account)
        if ram is machine.ram and length and not writing and account is not Account.MACHINE:
            if account is Account.DEVICE:
                told(physical, length, "DMA")
            elif calls:
                whose = "a hosted server" if account in OF_SERVERS else "policy"
                told(physical, length, f"{whose}, in the host call {calls[-1]}")
        return found

    with _named(machine, calls), _noting_writes(writing):
        setattr(Ram, "view", view)  # noqa: B010 - a method
        try:
            yield
        finally:
            setattr(Ram, "view", plain_view)  # noqa: B010 - a method


@contextmanager
def _named(machine: Machine, calls: list[str]) -> Iterator[None]:
    """Keep the names of the host calls that are under way in `calls`."""
    functions = machine.host_calls.functions
    plain = dict(functions)

    def followed(function: Callable[[int], None], name: str, names: Mapping[int, str]) -> Callable[[int], None]:
        def call(value: int) -> None:
            calls.append(names.get(value, name))
            try:
                function(value)
            finally:
                calls.pop()

        return call

    for port, (function, name, names) in plain.items():
        functions[port] = followed(function, name, names), name, names
    try:
        yield
    finally:
        functions.update(plain)


@contextmanager
def _noting_writes(writing: list[str]) -> Iterator[None]:
    """Keep in `writing` what writes at the moment."""
    plain = {name: getattr(Ram, name) for name in WRITERS}

    def followed(name: str) -> Callable[..., Any]:
        def write(*arguments: Any) -> None:
            writing.append(name)
            try:
                plain[name](*arguments)
            finally:
                writing.pop()

        return write

    for name in WRITERS:
        setattr(Ram, name, followed(name))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(Ram, name, function)
