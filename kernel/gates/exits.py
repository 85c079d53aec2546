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
        """`shell_ended` has the machine stop, now or soon: with the shell the system ends."""
        self.tasks = tasks
        self.scheduler = scheduler
        self.threads = threads
        self.processes = processes
        self.servers = servers
        self.hosted = hosted
        self.shell_ended = shell_ended

    def host_exit_thread(self, _value: int) -> None:
        """EXIT_THREAD: end the current thread; with the last one its process is cleaned up.

        Nothing here waits: whatever servers do, a killed thread is gone when this has been answered.
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
        """Forget ended processes that nobody will wait for; the shell's end is the system's."""
        for number in list(self.tasks.finished):
            process = self.tasks.processes[number]
            if number == self.tasks.shell:
                self.tasks.exit_code = process.exit_code or 0
                self.shell_ended()
            elif process.parent == 0 and not process.threads and process is not self.scheduler.current.process:
                self.processes.reap(process)
