"""What a thread does that is woken, interrupted or overtaken within a few instructions, on a bare CPU."""

import bare_kernel
import pytest
from bare_kernel import ENDPOINT, FRAME, THREAD, ended_at, meanwhile
from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT, HostCall
from callgate.kernel.abi.message import Endpoint, ReplyType, SlotState
from callgate.kernel.abi.thread import ThreadControlBlock, ThreadFlags

PAGE, TABLE = 0x1_4000, 0x1_6000
KERNEL_CODE = 0x8
CLIENT = 0x123
EMPTY_CELL = 0xE0  # of the lap before the first


@pytest.fixture
def kernel(bare_cpu):
    return bare_kernel.load(bare_cpu)


def test_a_killed_thread_that_was_interrupted_within_the_kernel_goes_on_there(kernel):
    """It ends where the kernel tests for it, with nothing in its hands; `block` stands for any place in the kernel."""
    kernel.place(ThreadControlBlock, THREAD, flags=ThreadFlags.KILLED)
    kernel.place("TrapFrame", FRAME, cs=KERNEL_CODE, eip=kernel.program.address("block"))
    with meanwhile(kernel, "trap_return", "", lambda: kernel.write(FRAME, bytes(4))):  # the return address of the call
        ended_at(kernel, "trap_return", "block")


@pytest.mark.parametrize("place", ["ipc_gate.leaving", "server_gate.leaving", "leave_tested", "ring 3"])
def test_a_killed_thread_that_was_interrupted_after_its_last_look_ends(kernel, place):
    kernel.place(ThreadControlBlock, THREAD, flags=ThreadFlags.KILLED)
    if place == "ring 3":
        kernel.place("TrapFrame", FRAME, cs=0x1B, eip=0x40_0000)
    else:
        kernel.place("TrapFrame", FRAME, cs=KERNEL_CODE, eip=kernel.program.address(place))
    ended_at(kernel, "trap_return", "exit_thread")


@pytest.mark.parametrize("higher", [0, 1])
def test_a_thread_that_wakes_one_of_higher_priority_gives_the_cpu_away(kernel, higher):
    yields = []
    kernel.on_host_call(HostCall.WAKE, lambda _: kernel.place("KernelWords", "kernel_words", preempt=higher))
    kernel.on_host_call(HostCall.YIELD, yields.append)
    kernel.call("wake", eax=CLIENT)
    assert len(yields) == higher


def test_a_thread_that_wakes_another_has_the_timer_run_for_it(kernel):
    """Two threads can run then, where one could before, so the time slice has to end."""
    kernel.on_host_call(HostCall.WAKE, lambda _: kernel.place("KernelWords", "kernel_words", arm_timer=1000))
    kernel.call("wake", eax=CLIENT)
    assert kernel.machine.timer.state.reload == 1000


def test_a_server_thread_whose_request_another_one_has_fetched_sleeps(kernel):
    """Between the look at the ring, after it has announced its sleep, and the fetch."""
    kernel.on_host_call(HostCall.SCHEDULE, lambda _: None)
    kernel.place(ThreadControlBlock, THREAD, server_index=2)
    kernel.place(Endpoint, ENDPOINT, **{"ring[1]": EMPTY_CELL})

    def post():
        kernel.place(Endpoint, ENDPOINT, tail=1)

    def fetch():
        kernel.place(Endpoint, ENDPOINT, head=1)

    with (
        meanwhile(kernel, "next_request.empty", "lock bts", post),
        meanwhile(kernel, "next_request.look", "call", fetch),
    ):
        ended_at(kernel, "next_request", "block", ebx=0)
    assert kernel.field(Endpoint, ENDPOINT, "idle") == 1 << 2


def test_a_reply_of_registers_is_not_converted_whether_the_server_waits_or_not(kernel):
    """CONVERT has no answer here."""
    woken = []
    kernel.on_host_call(HostCall.WAKE, woken.append)
    page = kernel.segment("es", PAGE)
    kernel.place(Endpoint, ENDPOINT, window_table=TABLE, **{"slots[3].selector": page, "slots[3].client": CLIENT})
    kernel.place("GateFrame", FRAME, eax=ReplyType.REGISTERS | SERVER_CALL_NO_WAIT)
    ended_at(kernel, "reply", "leave_gate", ecx=3, eax=ReplyType.REGISTERS | SERVER_CALL_NO_WAIT)
    assert woken == [CLIENT]
    assert kernel.read(ENDPOINT + Endpoint.state.offset + 3, 1)[0] == SlotState.DONE
