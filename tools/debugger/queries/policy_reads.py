"""What policy and hosted servers read of memory while a part of a run is repeated.

They are Python, which no watchpoint of the CPU sees.  What they read by the functions of `Ram` is seen: the memory of
programs and servers, message pages, page tables and disk blocks.  Words of the kernel's own blocks that policy looks at
in place (`words[…]`: states of slots, thread control blocks) are not, and neither is what a device reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.accounts import NOT_BOOKED, Account
from callgate.kernel.machine.memory.ram import Ram

READERS: Final = ("read", "u8", "u16", "u32", "u64")
WRITERS: Final = ("write", "put_u8", "put_u16", "put_u32", "put_u64")  # they take a view, too, and read nothing
OF_SERVERS: Final = frozenset({Account.SERVER, Account.SERVER_MEMORY, Account.METADATA})

Told = Callable[[int, int, str], None]  # physical address, bytes, by whom


@contextmanager
def reads_of_policy(machine: Machine, told: Told) -> Iterator[None]:
    """Call a function with each read that does not pass through the CPU for as long as the block lasts."""
    calls: list[str] = []  # host calls under way, the innermost last
    accesses: list[str] = []  # functions of `Ram` under way
    plain_view = Ram.view

    def view(ram: Ram, physical: int, length: int, account: Account | None = None) -> memoryview:
        found = plain_view(ram, physical, length, account)
        writes = bool(accesses) and accesses[-1] in WRITERS
        if ram is machine.ram and length and calls and not writes and account not in NOT_BOOKED:
            whose = "a hosted server" if account in OF_SERVERS else "policy"
            taken = "" if accesses else ", which takes a view to read or write"
            told(physical, length, f"{whose}{taken}, in the host call {calls[-1]}")
        return found

    with _named(machine, calls), _noted(accesses):
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
def _noted(accesses: list[str]) -> Iterator[None]:
    """Keep the names of the functions of `Ram` that are under way in `accesses`."""
    plain = {name: getattr(Ram, name) for name in (*READERS, *WRITERS)}

    def followed(name: str) -> Callable[..., Any]:
        def access(*arguments: Any) -> Any:
            accesses.append(name)
            try:
                return plain[name](*arguments)
            finally:
                accesses.pop()

        return access

    for name in plain:
        setattr(Ram, name, followed(name))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(Ram, name, function)
