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
        """The handlers of these calls by number."""
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
        """EXIT: end the whole process with the exit code in EBX."""
        self.processes.kill(thread.process, frame["ebx"])

    def yield_(self, _thread: Thread, _frame: ControlBlock) -> None:
        """YIELD: let other threads of the same priority run."""
        self.scheduler.request_yield()

    async def start_process(self, thread: Thread, frame: ControlBlock) -> None:
        """START_PROCESS: start the program at a path; EDI is the address of its command line, or 0; EAX its number.

        The errors of `Programs.load`.
        """
        path, address = self.caller.path(thread, frame)
        arguments = await self.caller.string(thread.process, frame["edi"], PAGE_SIZE) if frame["edi"] else b""
        process = await self.programs.load(path, address, arguments, parent=thread.process.number)
        frame["eax"] = process.number

    def wait_process(self, thread: Thread, frame: ControlBlock) -> None:
        """WAIT_PROCESS: wait until child EBX has ended; return its exit code.  NO_CHILD if it is not the caller's."""
        child = self.tasks.processes.get(frame["ebx"])
        if child is None or child.parent != thread.process.number:
            raise CallerError(ErrorCode.NO_CHILD)
        if child.number not in self.tasks.finished:
            child.waiter = thread.selector
            raise Park(WaitReason.CHILD)
        frame["eax"] = self.processes.reap(child)

    def kill_process(self, thread: Thread, frame: ControlBlock) -> None:
        """KILL_PROCESS: kill process EBX, a descendant of this one; NO_CHILD if it is not one."""
        victim = self.tasks.processes.get(frame["ebx"])
        if victim is None or not self._descends(victim, thread.process):
            raise CallerError(ErrorCode.NO_CHILD)
        self.processes.kill(victim, KILLED_EXIT_CODE, "killed")

    def start_thread(self, thread: Thread, frame: ControlBlock) -> None:
        """START_THREAD: start another thread of the process at EBX with ESP = ECX and EAX = EDX; return its number.

        BAD_ADDRESS outside user memory, NO_RESOURCES and NO_MEMORY without room for a thread.
        """
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
        """SLEEP: sleep for EDX:ECX nanoseconds of virtual time."""
        if thread.wakes_at is None:
            thread.wakes_at = self.guest.now + (frame["edx"] << 32 | frame["ecx"])
            self.scheduler.sleep_until(thread, thread.wakes_at)
        if self.guest.now < thread.wakes_at:
            raise Park(WaitReason.SLEEP)
        thread.wakes_at = None

    def allocate(self, thread: Thread, frame: ControlBlock) -> None:
        """ALLOCATE: return the address of ECX bytes of zero-filled memory; the errors of `Processes.allocate`."""
        frame["eax"] = self.processes.allocate(thread.process, frame["ecx"])

    def free(self, thread: Thread, frame: ControlBlock) -> None:
        """FREE: release the memory at EBX, which `allocate` returned; BAD_ADDRESS if it did not."""
        self.processes.free(thread.process, frame["ebx"])

    def _descends(self, process: Process, ancestor: Process) -> bool:
        while process.parent != ancestor.number:
            parent = self.tasks.processes.get(process.parent)
            if parent is None or parent is process:
                return False
            process = parent
        return True
