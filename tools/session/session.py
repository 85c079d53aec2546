"""One `callgate boot`: images, console, boot log, trace, statistics, and the resulting exit code."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from callgate.disk.media import Image, ImageError, open_image
from callgate.tools.session.ending import Ending
from callgate.tools.session.history import History, HistoryError, default_path, watch
from callgate.tools.session.options import SessionOptions
from callgate.tools.session.outputs import STANDARD_OUTPUT_NAME, OutputRefused, Report, is_report
from callgate.tools.session.terminal import HINT, Terminal

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.machine import Stop
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System
    from callgate.tools.session.observer import Observer

EXIT_GUEST, EXIT_USAGE, EXIT_FAULT, EXIT_FUEL, EXIT_IMAGE, EXIT_INTERRUPTED = 1, 2, 3, 4, 5, 130
EXITS = {"fuel": EXIT_FUEL, "interrupted": EXIT_INTERRUPTED, "triple-fault": EXIT_FAULT}
MIB = 1 << 20
POLL_SECONDS = 0.1


class Session:
    """A boot from start to exit code."""

    def __init__(
        self,
        options: SessionOptions,
        source: BinaryIO,
        output: BinaryIO,
        observers: Sequence[Observer] = (),
        output_name: str = STANDARD_OUTPUT_NAME,
    ) -> None:
        """`output` takes the guest's console; `output_name` is its name in messages."""
        self.options = options
        self.source = source
        self.output = output
        self.output_name = output_name
        self.observers = observers
        self.interactive = options.commands is None and source.isatty() and output.isatty()
        self.system: System | None = None
        self.terminal = Terminal(source, self.interactive)
        self.ending = Ending(self._leave)
        self.trace: Report | None = None
        self.stats: Report | None = None
        self.history: History | None = None
        self.lines: list[str] = []  # of the boot log that have not been written

    def say(self, text: str) -> None:
        """Write a line for people to standard error."""
        print(f"callgate: {text}", file=sys.stderr)

    def log(self, text: str) -> None:
        """Write lines of the boot log, or only keep them."""
        if self.options.quiet:
            self.lines += text.splitlines()
        else:
            self.report(text)

    def report(self, text: str) -> None:
        """Write lines that are not of the boot log alone: faults, ends of servers."""
        for line in text.splitlines():
            self.say(line)

    def run(self) -> int:
        """Boot, run to the end, report; return the exit code."""
        problem = self.options.problem()
        if problem:
            self.say(problem)
            return EXIT_USAGE
        try:
            media = self._open_images()
        except ImageError as error:
            self.say(str(error))
            return EXIT_IMAGE
        try:
            self._open_reports(media)
            self._open_history()
            with self.terminal, self.ending:
                return self._boot(media)
        except BrokenPipeError:
            return 0  # the reader of the console has gone (`| head`): not a failure, and no one is left to be told
        except LostOutput as lost:
            self.say(str(lost))
            return EXIT_GUEST
        except (OutputRefused, HistoryError) as refused:
            self.say(str(refused))
            return EXIT_USAGE
        except OSError as error:
            self.say(f"{error.filename or 'host'}: {error.strerror}")
            return EXIT_USAGE
        finally:
            for report in self._reports():
                # Data that could not be written have been reported; closing writes them again.
                with suppress(OSError):
                    report.close()
            self._save_history()
            self.ending.take_effect()

    def _open_history(self) -> None:
        """Read the history of an interactive session; HistoryError if the file that --history names cannot be used."""
        options = self.options
        if not self.interactive or not options.keep_history:
            return
        try:
            self.history = History(options.history or default_path())
        except HistoryError as error:
            if options.history is not None:
                raise
            self.say(f"history: {error}; nothing is kept")

    def _save_history(self) -> None:
        try:
            if self.history is not None:
                self.history.save()
        except HistoryError as error:
            self.say(f"history: {error}")

    def _reports(self) -> list[Report]:
        pictures = [observer.report for observer in self.observers]
        return [report for report in (self.trace, self.stats, *pictures) if report is not None]

    def _open_reports(self, media: list[Image]) -> None:
        """Open the files of --trace, --stats and observers before the run, so that no report is lost.

        All are checked before any is emptied.
        """
        options = self.options
        if options.trace:
            self.trace = Report(options.trace_option, options.trace, is_report, "trace or ledger of callgate")
            self.trace.check(media)
        if options.stats:
            self.stats = Report("--stats", options.stats, is_report, "trace or ledger of callgate")
            self.stats.check(media, [self.trace] if self.trace else [])
        for observer in self.observers:
            observer.open(media, self._reports())
        for report in self._reports():
            report.begin()

    def _open_images(self) -> list[Image]:
        paths = self.options.images
        if not paths:
            from callgate.disk.images.demo import demo_image

            folder = cache_folder()
            if folder is None:
                reason = "there is no home directory to keep it in"
                raise ImageError(Path("the demo image"), reason, "set XDG_CACHE_HOME")
            paths = [demo_image(folder)]
        media: list[Image] = []
        try:
            for path in paths:
                refuse_recording(path)
                media.append(open_image(path, self.log))
        except BaseException:
            for medium in media:
                medium.close()
            raise
        for index, medium in enumerate(media):
            if self.options.images:
                self.log(f"d{index}: image {medium.path}{f' ({medium.format})' * (medium.format != 'raw')}")
            for warning in medium.warnings:
                self.log(warning)
        return media

    def _boot(self, media: list[Image]) -> int:
        from callgate.kernel.core.errors import KernelPanic
        from callgate.kernel.machine.filters import known_code
        from callgate.kernel.system import System, SystemOptions

        options = SystemOptions(
            memory=self.options.memory,
            high_memory=self.options.high_memory,
            ide=self.options.ide,
            map_edges=self.options.map_edges,
            fast_path=self.options.fast_path,
            scratch=self.options.scratch,
            mount_deadline=self.options.mount_deadline * 1_000_000,
            commands=self.options.commands,
            interactive=self.interactive,
            columns=self.terminal.tell(),
            history=self.history.text if self.history else None,
            prepare=self._check_volumes,
            observe_operations=self.options.stats is not None,
            log=self.log,
            urgent=self.report,
            output=self._write,
            source=self._read,
        )
        with known_code.kept_in(cache_folder()), System(media, options) as system:
            self.system = system
            system.machine.on_interrupt = self._on_interrupt
            if self.ending.number:
                system.machine.control.interrupt()
            if self.trace is not None:
                self._follow(system, self.trace)
            for observer in self.observers:
                observer.begin(system)
            if self.history is not None:
                watch(system, self.history)
            for clock, disk in self.options.unplug:
                if disk >= len(media):
                    self.say(f"--unplug-at {clock}:{disk}: the last disk is {len(media) - 1}")
                    return EXIT_USAGE
                system.unplug_at(clock, disk)
            try:
                driver = self.options.driver
                stop = driver.run(system) if driver else system.run(fuel=self.options.fuel)
            except KernelPanic as panic:
                self.say(f"panic: {panic}")
                return EXIT_FAULT
            finally:
                self._write_reports(system)
            return self._conclude(system, stop)

    def _check_volumes(self, kernel: Kernel) -> None:
        """Run no command on a machine without a volume: to a script, an empty listing would look like success."""
        if not any(
            partition.disk >= 0 and not partition.dead for partition in kernel.state.endpoints.by_number.values()
        ):
            kernel.machine.request_stop("no volume")
        elif self.interactive:
            self.log(HINT)

    def _conclude(self, system: System, stop: Stop) -> int:
        if stop.reason == "exit":
            return int(stop.detail)
        if stop.reason == "no volume":
            return self._conclude_without_volume()
        from callgate.tools.session.summary import summary

        if self.interactive:
            print(file=sys.stderr)
        if stop.reason == "triple-fault":
            self.say(str(stop.detail))
        self.say(summary(system, stop, self.ending.number))
        return EXITS.get(stop.reason, EXIT_GUEST)

    def _conclude_without_volume(self) -> int:
        for line in self.lines:
            self.say(line)
        names = " ".join(str(path) for path in self.options.images) or "the demo image"
        first = self.options.images[0] if self.options.images and not self.options.unplug else None
        hint = f"; look into it: callgate disk inspect {first}" if first else ""
        self.say(f"{names}: no volume that can be used{hint}")
        return EXIT_IMAGE

    # Console.

    def _write(self, data: bytes) -> None:
        with written(self.output_name):
            for report in self._reports():
                if report.standard:
                    report.file.flush()  # earlier lines come first
            self.output.write(data)
            self.output.flush()

    def _leave(self) -> None:
        """SIGTERM or SIGHUP: end the run, as Ctrl-] does.  Called on another thread."""
        self.terminal.leaving = True
        if self.system is not None:
            self.system.machine.control.interrupt()

    def _on_interrupt(self) -> bool:
        """Ctrl-C: a break for the guest if it has a terminal, else the end."""
        return self.system is not None and self.terminal.interrupt(self.system.machine.serial.send_break)

    def _read(self, size: int) -> bytes:
        """Wait for input; the end of input is no bytes.  KeyboardInterrupt if Ctrl-C came before the wait."""
        if self.options.commands is not None:
            return b""
        fd, driver = self.source.fileno(), self.options.driver
        while True:
            ready, _, _ = select.select([fd, *(driver.waits_on() if driver else ())], [], [], POLL_SECONDS)
            if self.system is not None and self.system.machine.control.interrupted:
                raise KeyboardInterrupt
            if driver is not None and driver.speaks():
                raise KeyboardInterrupt
            if (
                self.system is not None
                and self.system.kernel.processes.shell_reads
                and (report := self.terminal.report())
            ):
                return report
            if fd in ready:
                return os.read(fd, size)

    def _follow(self, system: System, report: Report) -> None:
        """Write every event to the trace."""
        from callgate.tools.session.trace import Trace

        trace = Trace(system, self.options.trace_format)
        serial = system.machine.serial

        def write(event: Event) -> None:
            if report.standard:
                serial.flush()  # otherwise the console's output would come too late
            with written(report.name):
                report.file.write(trace.line(event))

        system.trace(write)

    def _write_reports(self, system: System) -> None:
        if self.trace is not None:
            with written(self.trace.name):
                self.trace.file.flush()
        if self.stats is not None:
            with written(self.stats.name):
                self.stats.file.write(json.dumps(system.statistics(), indent=2, sort_keys=True) + "\n")
                self.stats.file.flush()
        for observer in self.observers:
            assert observer.report is not None
            name = observer.report.name
            try:
                with written(name):
                    observer.end(system)
            except KeyboardInterrupt:
                self.say(f"{name}: interrupted while it was written; it is not complete")
                raise


def cache_folder() -> Path | None:
    """Return the folder for what one run keeps for the next; None without a home."""
    from callgate.asm.assembler.cache import cache_directory

    try:
        return cache_directory()
    except RuntimeError:
        return None


class LostOutput(Exception):
    """An output could not be written."""


@contextmanager
def written(name: str) -> Iterator[None]:
    """Raise LostOutput with the name and the reason if the block cannot write."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if name == STANDARD_OUTPUT_NAME:
            sys.stdout = None  # what it still holds would fail again when the process ends
        raise LostOutput(f"{name}: cannot be written: {error.strerror}") from None
    except OutputRefused as refused:
        raise LostOutput(f"{name}: not written: {refused}") from None


def refuse_recording(path: Path) -> None:
    """ImageError for a recording of a run: it would be taken for a disk without a file system."""
    head = b""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(64)
    if head.startswith(b"{"):
        from callgate.tools.recording import is_recording

        if is_recording(head):
            raise ImageError(path, "is a recording, not a disk image", f"step through it: callgate debug {path}")
