"""QThreadEvents: a client that asks for it is told of each thread that begins and each that ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import host_programs
import pytest
from callgate.kernel.core.records import Thread
from callgate.kernel.programs.images import kernel_image
from callgate.kernel.system import System
from capstone import CS_ARCH_X86, CS_MODE_32, Cs

FIRST_THAT_ASKS = 14
HELLO = b"qSupported:multiprocess+;swbreak+;hwbreak+;error-message+"
Boot = Callable[[str], System]
Serve = Callable[[System], Any]


def test_a_client_is_told_of_every_thread_that_begins_or_ends_and_does_not_see_those_that_have_ended(
    boot_demo: Boot, serve: Serve, connect: Callable[[Any], Any]
) -> None:
    plain, system = boot_demo("/rom/hello"), boot_demo("/rom/hello")
    expected: list[tuple[str, int]] = []
    processes: set[int] = {0}

    def made(thread: Thread) -> None:
        if thread.process.number in processes:
            expected.append(("create", thread.number))
        processes.add(thread.process.number)  # the first thread of a process comes with the process

    plain.kernel.threads.observer = made
    plain.kernel.threads.end_observer = lambda thread: expected.append(("exit", thread.number))
    plain.run()
    client = connect(serve(system))
    client.ask(HELLO)
    assert client.ask(b"QThreadEvents:yes").startswith(b"E.'yes' is neither 0 nor 1")
    assert client.ask(b"QThreadEvents:1") == b"OK"
    told: list[tuple[str, int]] = []
    while not (answer := client.ask(b"vCont;c")).startswith(b"W"):
        if found := re.search(rb"thread:p\w+\.(\w+);create:;$", answer):
            told.append(("create", int(found[1], 16)))
        elif found := re.fullmatch(rb"w00;p\w+\.(\w+)", answer):
            told.append(("exit", int(found[1], 16)))
            threads = client.ask(b"qfThreadInfo") + b","
            assert b"." + found[1] + b"," not in threads
    assert told == expected
    assert {kind for kind, _ in told} == {"create", "exit"}


def test_a_step_over_a_breakpoint_at_the_instruction_that_ends_a_thread_leaves_gdb_able_to_go_on(
    gdb: Callable[..., str],
) -> None:
    """Newer gdbs ask for the events for the length of such a step, and wait for the thread's end."""
    version = int(host_programs.run("gdb", "--version").splitlines()[0].split()[-1].split(".")[0].rstrip(")"))
    if version < FIRST_THAT_ASKS:
        pytest.skip(f"gdb {version} does not ask for thread events; {FIRST_THAT_ASKS} does")
    image = kernel_image()
    begin, end = image.address("exit_thread"), image.address("policy_end")
    text = next(section for section in image.sections if section.name == ".text")
    code = text.data[begin - text.address : end - text.address]
    found = Cs(CS_ARCH_X86, CS_MODE_32).disasm(code, begin)
    (out_instruction,) = (instruction.address for instruction in found if instruction.mnemonic == "out")
    out = gdb(f"break *{out_instruction}\ncontinue\ncontinue\ncontinue\ndelete\ncontinue\n", "/rom/hello")
    assert len(re.findall(r"hit Breakpoint 1", out)) == 3, out
    assert "[Inferior 1 (process 1) exited normally]" in out
