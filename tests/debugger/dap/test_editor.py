"""`callgate debug --dap` with a client that is not ours: every message has to be one of the protocol."""

from base64 import b64decode, b64encode
from pathlib import Path

import callgate.asm
import pytest
from callgate.kernel.system import System, SystemOptions
from callgate.tools.recording import written

ASM = Path(callgate.asm.__path__[0])
SHELL = 12
SERVER = 10
IN_SERVER = {"name": "ipc.load", "condition": f"op == FREE_SPACE and thread == {SERVER}"}


@pytest.fixture
def serving(editor):
    """An editor that stands where the server of the first partition loads a request's registers."""
    one = editor()
    one.begin(commands=["df"])
    one.ask("setFunctionBreakpoints", breakpoints=[IN_SERVER])
    assert one.enter()["reason"] == "entry"
    assert one.move("continue")["reason"] == "function breakpoint"
    return one


def names(one, thread):
    frames = one.ask("stackTrace", threadId=thread)["stackFrames"]
    return [frame["name"].partition("+")[0] for frame in frames], frames


def variables(one, frame, scope):
    scopes = one.ask("scopes", frameId=frame)["scopes"]
    found = next(item for item in scopes if item["name"].startswith(scope))
    return found["variablesReference"], {
        item["name"]: item["value"]
        for item in one.ask("variables", variablesReference=found["variablesReference"])["variables"]
    }


def test_an_editor_follows_a_request_through_the_gate_into_its_client_and_back_in_time(serving):
    threads = {thread["id"]: thread["name"] for thread in serving.ask("threads")["threads"]}
    assert threads[SHELL] == "shell: waits for REPLY"
    assert threads[SERVER] == "hosted:d0p1: running, ring 3"
    stack, frames = names(serving, SHELL)
    kernel = ["post_and_wait", "ipc_request", "run_coroutine", "system_policy"]
    assert stack == [*kernel, "command_df", "run_line", "start"]  # as gdb shows it from the same CFI
    assert {Path(frame["source"]["path"]).parts[-3] for frame in frames} >= {"kernel", "shell"}
    _, (top, *_) = names(serving, SERVER)
    assert (top["source"]["path"], top["line"]) == (str(ASM / "user/servers/hosted.asm"), 80)
    _, message = variables(serving, top["id"], "Message")
    assert message["operation"].startswith("FREE_SPACE")
    _, endpoint = variables(serving, top["id"], "Endpoint d0p1")
    assert "SERVED, client 12 'shell'" in endpoint["slot 0"]
    here = serving.where()
    assert serving.move("callgate/phase")["description"].startswith("event ipc.call")
    assert serving.move("callgate/backPhase")["description"].startswith("stop 1: event ipc.load")
    assert serving.where() == here
    assert serving.move("stepBack", granularity="instruction")["reason"] == "step"
    assert serving.where() != here
    serving.move("stepIn", granularity="instruction")
    assert serving.where() == here
    assert serving.move("reverseContinue")["reason"] == "entry"
    assert serving.evaluate("retired", "hover").startswith("0x0")
    assert serving.close() == 0


@pytest.mark.thorough(only=True)
def test_a_system_that_has_ended_can_be_gone_back_in_and_ends_the_session_when_it_is_continued(editor):
    one = editor()
    one.begin(commands=["echo hello", "exit 3"], stopOnEntry=False)
    assert one.enter()["description"] == "the system has ended with status 3"
    assert "hello" in one.output
    assert one.move("stepBack", granularity="instruction")["reason"] == "step"
    assert one.move("continue")["description"] == "the system has ended with status 3"
    one.ask("continue", threadId=1)
    assert one.until("exited") == {"exitCode": 3}
    one.until("terminated")
    assert one.output.count("hello") == 1
    assert one.close() == 0


@pytest.mark.thorough(only=True)
def test_breakpoints_in_a_file_of_a_program_hold_when_it_starts_later(editor):
    one = editor()
    one.begin(commands=["df"])
    path = ASM / "user/shell/commands/shell_volumes.asm"
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if text.startswith("command_df:"))
    (point,) = one.ask("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": line}])["breakpoints"]
    assert (point["verified"], point["message"]) == (False, "no program that runs now has an instruction there")
    kernel = ASM / "kernel/ipc/slots.asm"
    first = next(n for n, text in enumerate(kernel.read_text().splitlines(), 1) if text.startswith("take_slot:"))
    (taken,) = one.ask(
        "setBreakpoints", source={"path": str(kernel)}, breakpoints=[{"line": first, "condition": "thread == 99"}]
    )["breakpoints"]
    assert taken["verified"]
    assert taken["line"] > first  # the line of the label has no instruction
    one.enter()
    stop = one.move("continue")
    assert (stop["reason"], stop["hitBreakpointIds"]) == ("breakpoint", [point["id"]])
    assert "<command_df>" in one.where()


def test_registers_and_memory_are_changed_and_data_breakpoints_see_it(serving):
    _, (top, *_) = names(serving, SERVER)
    number, registers = variables(serving, top["id"], "Registers")
    esi = registers["esi"]
    changed = serving.ask("setVariable", variablesReference=number, name="ebx", value="0x1234")
    assert changed["value"].startswith("0x1234")
    assert not serving.request("setVariable", variablesReference=number, name="cs", value="8")["success"]
    data = serving.ask("readMemory", memoryReference=esi, count=16)["data"]
    written = b64encode(b"\x07\x00\x00\x00").decode()
    assert serving.ask("writeMemory", memoryReference=esi, offset=16, data=written) == {"bytesWritten": 4}
    assert serving.evaluate("message.eax", "watch").startswith("0x7")
    assert "goes another way" not in serving.output  # it is the present: nothing is forgotten
    assert b64decode(serving.ask("readMemory", memoryReference=esi, count=16)["data"]) == b64decode(data)
    place = serving.ask("dataBreakpointInfo", name="message.edx")
    assert place["accessTypes"] == ["read", "write", "readWrite"]
    (point,) = serving.ask("setDataBreakpoints", breakpoints=[{"dataId": place["dataId"], "accessType": "write"}])[
        "breakpoints"
    ]
    stop = serving.move("continue")
    assert (stop["reason"], stop["hitBreakpointIds"]) == ("data breakpoint", [point["id"]])
    assert not serving.request("writeMemory", memoryReference="0x10", data=written)["success"]
    assert not serving.request("writeMemory", memoryReference=esi, data="%%")["success"]


def test_a_change_in_the_past_says_that_what_came_after_it_is_forgotten(serving):
    serving.move("stepBack", granularity="instruction")
    _, (top, *_) = names(serving, SERVER)
    number, _ = variables(serving, top["id"], "Registers")
    serving.ask("setVariable", variablesReference=number, name="edi", value="1")
    assert "on the run goes another way: what came after it is forgotten" in serving.output


@pytest.mark.thorough(only=True)
def test_the_phases_of_requests_are_filters_of_exceptions(editor):
    one = editor()
    filters = {item["filter"] for item in one.initialized["body"]["exceptionBreakpointFilters"]}
    assert {"exception", "ipc.take", "ipc.post", "ipc.reply", "ipc.load"} <= filters
    one.begin(commands=["df"])
    one.ask(
        "setExceptionBreakpoints",
        filters=[],
        filterOptions=[{"filterId": "ipc.reply", "condition": "op == FREE_SPACE"}],
    )
    one.enter()
    stop = one.move("continue")
    assert stop["reason"] == "exception"
    assert "event ipc.reply" in stop["text"]
    assert one.evaluate("op", "hover").startswith("FREE_SPACE")


def test_instructions_before_and_after_an_address_are_as_many_as_were_asked_for(serving):
    address = serving.evaluate("print eip").split()[0]
    found = serving.ask("disassemble", memoryReference=address, instructionOffset=-4, instructionCount=9)[
        "instructions"
    ]
    assert len(found) == 9
    assert found[4]["address"] == address
    assert int(found[3]["address"], 16) + len(bytes.fromhex(found[3]["instructionBytes"])) == int(address, 16)
    nothing = serving.ask("disassemble", memoryReference="0x10", instructionOffset=-1, instructionCount=3)[
        "instructions"
    ]
    assert [item["instruction"] for item in nothing] == ["??"] * 3


def test_an_endless_run_is_paused_and_a_restart_keeps_the_breakpoints(serving):
    serving.evaluate("set word[eip] = 0xfeeb")  # a jump to itself
    serving.ask("setFunctionBreakpoints", breakpoints=[])
    begin = int(serving.evaluate("print retired").split()[0], 16)
    serving.ask("continue", threadId=SERVER)
    serving.process.computes(0.05)
    serving.ask("pause", threadId=SERVER)
    assert serving.until("stopped")["reason"] == "pause"
    assert int(serving.evaluate("print retired").split()[0], 16) > begin
    (point,) = serving.ask("setFunctionBreakpoints", breakpoints=[{"name": "take_slot"}])["breakpoints"]
    serving.ask("restart")
    assert serving.until("stopped")["reason"] == "entry"
    stop = serving.move("continue")
    assert (stop["reason"], stop["hitBreakpointIds"]) == ("function breakpoint", [point["id"]])
    assert "<take_slot>" in serving.where()
    serving.evaluate("set word[eip] = 0xfeeb")
    serving.ask("setFunctionBreakpoints", breakpoints=[])
    serving.ask("continue", threadId=SERVER)
    serving.raw.clear()
    serving.request("disconnect")
    assert "stopped" not in [message.get("event") for message in serving.raw], "it is no longer asked"


def test_a_search_backward_that_is_paused_ends_where_it_began(serving):
    serving.ask("setFunctionBreakpoints", breakpoints=[])
    serving.move("stepIn", granularity="instruction")  # from where an event is told of
    serving.evaluate("set word[eip] = 0xfeeb")  # a jump to itself
    serving.ask("continue", threadId=SERVER)
    serving.process.computes(0.4)
    serving.ask("pause", threadId=SERVER)
    assert serving.until("stopped")["reason"] == "pause"
    serving.ask("setFunctionBreakpoints", breakpoints=[{"name": "trap_8"}])  # it never comes to that
    here = serving.evaluate("print retired"), serving.evaluate("registers")
    serving.ask("reverseContinue", threadId=SERVER)
    serving.process.computes(0.05)  # to search everything would take what the run has taken
    serving.ask("pause", threadId=SERVER)
    stop = serving.until("stopped")
    assert stop["reason"] == "pause"
    assert stop["description"] == "the search was interrupted; the system stands where it stood"
    assert (serving.evaluate("print retired"), serving.evaluate("registers")) == here
    serving.evaluate("back stepi 3")
    assert serving.until("stopped")["description"] == "back stepi 3"


def test_the_console_has_the_debuggers_commands_and_completes_them(serving):
    assert "endpoint 1 d0p1, fat16" in serving.evaluate("slots d0p1")
    answer = serving.request("evaluate", expression="brake", context="repl")
    assert not answer["success"]
    assert "did you mean" in answer["message"]
    labels = {item["label"] for item in serving.ask("completions", text="back ph", column=8)["targets"]}
    assert labels == {"phase"}
    assert serving.evaluate("back phase") != ""
    assert serving.until("stopped")["description"] == "back phase"


@pytest.mark.thorough(only=True)
def test_a_recording_is_opened_where_commands_of_the_launch_lead(editor, tmp_path):
    file = tmp_path / "run.cgr"
    with System([], SystemOptions(32 << 20, 8 << 20, commands="exit 3")) as system:
        system.run()
        file.write_text(written(system, [], []))
        end = system.machine.position.retired
    one = editor()
    one.begin(program=str(file), execute=["goto end", "back step"])
    one.enter()
    assert one.evaluate("where").startswith(f"instruction {end - 1:,}, in the past")
    other = editor()
    answer = other.request("launch", program=str(file), commands=["df"])
    assert "a recording has its own" in answer["message"]
    assert "no-such.img: there is no such file" in other.request("launch", program="no-such.img")["message"]
    assert other.request("launch", program=5)["message"] == "program must be a text"
    assert other.request("launch", commands="df")["message"] == "commands must be a list"
    assert other.request("launch", commands=[5])["message"] == "commands must be a list of texts"
    assert other.request("launch", execute=[5])["message"] == "execute must be a list of texts"
    assert other.request("launch", stopOnEntry="no")["message"] == "stopOnEntry must be true or false"
    other.begin(program=str(file))  # a launch that was refused leaves nothing behind


NONSENSE = [
    b"Content-Length: 5\r\n\r\n{]}[(",
    b"Content-Length: 2\r\n\r\n[]",
    b"Content-Length: 2\r\n\r\n{}",
    b"rubbish\r\nContent-Length: 4\r\n\r\nnull",
    b'Content-Length: 27\r\n\r\n{"seq": "x", "command": "y"}'[:49],
]


def test_a_malformed_message_is_ignored_and_harms_nothing(serving):
    before = serving.evaluate("registers")
    for message in NONSENSE:
        serving.write(message)
    for command, arguments in [
        ("stackTrace", {}),
        ("stackTrace", {"threadId": "one"}),
        ("scopes", {"frameId": 99}),
        ("variables", {"variablesReference": -1}),
        ("readMemory", {"memoryReference": "there", "count": 4}),
        ("readMemory", {"memoryReference": "0x0", "count": 1 << 40}),
        ("disassemble", {"memoryReference": "0x0", "instructionCount": 1 << 40}),
        ("setBreakpoints", {"source": 5, "breakpoints": "all"}),
        ("setDataBreakpoints", {"breakpoints": [{"dataId": "x"}]}),
        ("source", {"sourceReference": 7}),
        ("no such request", {}),
    ]:
        answer = serving.request(command, **arguments)
        assert not answer["success"], command
        assert answer["message"]
    assert serving.evaluate("registers").replace("*", " ") == before.replace("*", " ")
    assert serving.output.count("a message was ignored") == len(NONSENSE)


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize(
    "rest", [b"", b"Content-Le", b"Content-Length: 99\r\n\r\n{", b"Content-Length: 99999999999\r\n\r\n"]
)
def test_a_client_that_goes_away_in_the_middle_of_a_run_ends_the_adapter(serving, rest):
    serving.evaluate("set word[eip] = 0xfeeb")
    serving.ask("setFunctionBreakpoints", breakpoints=[])
    serving.ask("continue", threadId=SERVER)
    serving.write(rest)
    serving.process.stdin.close()
    assert serving.process.wait(20) == 0
