"""System calls about processes, threads and memory."""

from __future__ import annotations

from callgate.kernel.abi.calls import SystemCall, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, USER_END
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.gates.caller import Caller
from callgate.kernel.gates.starting import Programs
from callgate.kernel.gates.system_calls import Handler, Park
from callgate.kernel.ipc.endpoint_lifetimes import EndpointLifetimes
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE, Processes


class ProcessCalls:
    """EXIT to SLEEP, ALLOCATE and FREE."""

    def __init__(
        self, caller: Caller, processes: Processes, programs: Programs, endpoint_lifetimes: EndpointLifetimes
    ) -> None:
        self.caller = caller
        self.processes = processes
        self.guest = processes.guest
        self.tasks = processes.tasks
        self.threads = processes.threads
        self.scheduler = processes.scheduler
        self.programs = programs
        self.endpoint_lifetimes = endpoint_lifetimes
        self.endpoints = endpoint_lifetimes.state

    @property
    def table(self) -> dict[int, Handler]:
        """The calls and what answers them."""
        return {
            SystemCall.EXIT: self.exit,
            SystemCall.YIELD: self.yield_,
            SystemCall.ALLOCATE: self.allocate,
            SystemCall.FREE: self.free,
            SystemCall.START_PROCESS: self.start_process,
            SystemCall.WAIT_PROCESS: self.wait_process,
            SystemCall.KILL_PROCESS: self.kill_process,
            SystemCall.START_THREAD: self.start_thread,
            SystemCall.SLEEP: self.sleep,
        }

    def exit(self, thread: Thread, frame: ControlBlock) -> None:
        """End the whole process with the exit code in EBX."""
        self.processes.kill(thread.process, frame["ebx"])

    def yield_(self, _thread: Thread, _frame: ControlBlock) -> None:
        """Let others of the same priority run."""
        self.scheduler.request_yield()

    async def start_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Start the program at a path; EDI points to its command line."""
        path, address = self.caller.path(thread, frame)
        arguments = await self.caller.string(thread.process, frame["edi"], PAGE_SIZE) if frame["edi"] else b""
        process = await self.programs.load(path, address, arguments, parent=thread.process.number)
        frame["eax"] = process.number

    def wait_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Wait until a child has ended; return its exit code."""
        child = self.tasks.processes.get(frame["ebx"])
        if child is None or child.parent != thread.process.number:
            raise CallerError(ErrorCode.NO_CHILD)
        if child.number not in self.tasks.finished:
            child.waiter = thread.selector
            raise Park(WaitReason.CHILD)
        frame["eax"] = self.processes.reap(child)

    def kill_process(self, thread: Thread, frame: ControlBlock) -> None:
        """Kill a process that this one, or a child of it, started."""
        victim = self.tasks.processes.get(frame["ebx"])
        if victim is None or not self._descends(victim, thread.process):
            raise CallerError(ErrorCode.NO_CHILD)
        self.processes.kill(victim, KILLED_EXIT_CODE, "killed")

    def start_thread(self, thread: Thread, frame: ControlBlock) -> None:
        """Start another thread of the process at EBX with ESP = ECX and EAX = EDX."""
        if frame["ebx"] >= USER_END or frame["ecx"] > USER_END:
            raise CallerError(ErrorCode.BAD_ADDRESS)
        served = self.endpoints.by_number.get(thread.process.endpoint)
        if served is not None:
            self.endpoint_lifetimes.check_room(served)
        new = self.threads.create_user(
            thread.process, thread.process.name, thread.priority, frame["ebx"], frame["ecx"], eax=frame["edx"]
        )
        if served is not None:
            self.endpoint_lifetimes.add_server(served, new)
        self.scheduler.wake(new)
        frame["eax"] = new.number

    def sleep(self, thread: Thread, frame: ControlBlock) -> None:
        """Sleep for EDX:ECX nanoseconds of virtual time."""
        if thread.wakes_at is None:
            thread.wakes_at = self.guest.now + (frame["edx"] << 32 | frame["ecx"])
            self.scheduler.sleep_until(thread, thread.wakes_at)
        if self.guest.now < thread.wakes_at:
            raise Park(WaitReason.SLEEP)
        thread.wakes_at = None

    def allocate(self, thread: Thread, frame: ControlBlock) -> None:
        """Give ECX bytes of zero-filled memory."""
        frame["eax"] = self.processes.allocate(thread.process, frame["ecx"])

    def free(self, thread: Thread, frame: ControlBlock) -> None:
        """Take back what `allocate` gave."""
        self.processes.free(thread.process, frame["ebx"])

    def _descends(self, process: Process, ancestor: Process) -> bool:
        while process.parent != ancestor.number:
            parent = self.tasks.processes.get(process.parent)
            if parent is None or parent is process:
                return False
            process = parent
        return True
