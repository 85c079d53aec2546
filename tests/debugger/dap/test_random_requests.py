"""Requests of random arguments, and messages with random bytes changed: each is answered or ignored."""

import json
import os
import random
from itertools import pairwise

import pytest

COUNT = 1000 if os.environ.get("CALLGATE_THOROUGH") else 200
LOOKS = (
    *("threads", "stackTrace", "scopes", "variables", "source", "loadedSources", "dataBreakpointInfo", "readMemory"),
    *("disassemble", "evaluate", "completions", "initialize", "launch", "setBreakpoints", "setFunctionBreakpoints"),
    *("setInstructionBreakpoints", "setExceptionBreakpoints", "setDataBreakpoints", "writeMemory", "setVariable"),
)
NAMES = (
    *("threadId", "frameId", "variablesReference", "sourceReference", "memoryReference", "offset", "count", "data"),
    *("instructionOffset", "instructionCount", "expression", "text", "column", "source", "breakpoints", "filters"),
    *("filterOptions", "startFrame", "levels"),
)
PARTS = ("line", "name", "condition", "path", "sourceReference", "instructionReference", "dataId", "accessType")
NUMBERS = (0, 1, 2, 10, 12, 65535, -1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 70)
TEXTS = (
    *(
        "",
        "eax",
        "0x0",
        "0xc01016a5",
        "0xffffffff",
        "0x1ffffffff",
        "-5",
        "message.eax",
        "[esp]",
        "[0]",
        "endpoint[9].free",
    ),
    *("1//0", "eax ==", "ipc.reply", "take_slot", "0x40009e/4", "-1/0", "a.asm", "\ud800", "%%", "walk 5", "tss"),
)


def value(source, depth=0):
    """A value that a client might send."""
    kinds = [lambda: source.choice(NUMBERS), lambda: source.choice(TEXTS), lambda: None, lambda: 1.5, lambda: True]
    if depth < 3:
        kinds += [
            lambda: [value(source, depth + 1) for _ in range(source.randrange(3))],
            lambda: {name: value(source, depth + 1) for name in source.sample(PARTS, 4)},
        ]
    return source.choice(kinds)()


def standing(editor):
    """An editor that stands in a server."""
    one = editor()
    one.begin(commands=["df"])
    one.ask("setFunctionBreakpoints", breakpoints=[{"name": "ipc.load", "condition": "thread == 10"}])
    one.enter()
    one.move("continue")
    return one


@pytest.mark.thorough(only=True)
def test_requests_with_random_arguments_are_answered_and_harm_nothing(editor):
    source = random.Random(11)
    one = standing(editor)
    registers = one.evaluate("print eip"), one.evaluate("print retired")
    for _ in range(COUNT):
        command = source.choice(LOOKS)
        arguments = {name: value(source) for name in source.sample(NAMES, source.choice([3, 9, len(NAMES)]))}
        if command == "evaluate":
            arguments["context"] = "hover"
        if command in ("writeMemory", "setVariable"):
            arguments.pop("data", None)  # without what is to be written they are refused
        one.client.send_request(command, arguments)
        number = one.flush()
        answer = one.plain_response(number)
        assert answer["success"] or answer["message"], answer
    assert (one.evaluate("print eip"), one.evaluate("print retired")) == registers
    assert one.close() == 0


@pytest.mark.thorough(only=True)
def test_messages_with_changed_bytes_are_answered_or_ignored(editor):
    source = random.Random(12)
    one = standing(editor)
    registers = one.evaluate("print eip"), one.evaluate("print retired")
    for number in range(200):  # the answers have to fit into the pipe
        body = json.dumps({"seq": 10_000 + number, "command": "threads", "arguments": {"a": [1, {}]}}).encode()
        changed = bytearray(body)
        for _ in range(source.randrange(1, 4)):
            changed[source.randrange(len(changed))] = source.randrange(256)
        one.write(b"Content-Length: %d\r\n\r\n" % len(changed) + bytes(changed))
    one.client.send_request("threads", {})
    one.plain_response(one.flush())
    assert (one.evaluate("print eip"), one.evaluate("print retired")) == registers
    assert one.close() == 0


def test_the_numbers_of_messages_follow_each_other(editor):
    one = standing(editor)
    numbers = [one.request("threads")["seq"] for _ in range(5)]
    assert all(after == before + 1 for before, after in pairwise(numbers))
