"""The ends of threads, of processes without a parent, and of the system."""

from __future__ import annotations

from collections.abc import Callable

from callgate.kernel.core.records import Tasks
from callgate.kernel.servers.hosted_servers import Hosted
from callgate.kernel.servers.lifecycle import Servers
from callgate.kernel.tasks.processes import Processes
from callgate.kernel.tasks.scheduler import Scheduler
from callgate.kernel.tasks.threads import Threads


class Exits:
    """Answers to EXIT_THREAD."""

    def __init__(
        self,
        tasks: Tasks,
        scheduler: Scheduler,
        threads: Threads,
        processes: Processes,
        servers: Servers,
        hosted: Hosted,
        shell_ended: Callable[[], None],
    ) -> None:
        """`shell_ended` stops the machine, at once or soon: the system ends with the shell."""
        self.tasks = tasks
        self.scheduler = scheduler
        self.threads = threads
        self.processes = processes
        self.servers = servers
        self.hosted = hosted
        self.shell_ended = shell_ended

    def host_exit_thread(self, _value: int) -> None:
        """EXIT_THREAD: end the current thread; if it is the last of its process, clean that up too.

        This never waits: whatever servers do, a killed thread has ended when this returns.
        """
        thread = self.scheduler.current
        process = thread.process
        self.hosted.forget(thread)
        self.threads.clear_killed(thread)
        if process.endpoint >= 0:
            self.servers.thread_ended(thread, process)
        if len(process.threads) == 1:
            self.processes.clean_up(process)
        self.threads.reap()
        self.threads.finish(thread)
        self.reap_orphans()
        self.scheduler.choose()

    def reap_orphans(self) -> None:
        """Remove ended processes that no parent will wait for; if the shell has ended, end the system."""
        for number in list(self.tasks.finished):
            process = self.tasks.processes[number]
            if number == self.tasks.shell:
                self.tasks.exit_code = process.exit_code or 0
                self.shell_ended()
            elif process.parent == 0 and not process.threads and process is not self.scheduler.current.process:
                self.processes.reap(process)
