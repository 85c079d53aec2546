"""Backtraces by .debug_frame against calls that were watched, at every instruction that a workload executes."""

import random

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.memory import KERNEL_BASE, USER_PROGRAM
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.programs.images import debug_image, kernel_image, program_image
from callgate.kernel.system import System, SystemOptions
from shadow_stack import GENERAL, Call, ShadowStack
from unwinding import NAMES, Frame, NoFrame, Tables, frames

COMMANDS = "ls /rom; ls -l; cat README.TXT; crc README.TXT; hexdump README.TXT; ps; ipc; df; /rom/hello; nosuch"
FEW = "ls /rom; cat README.TXT; ipc; /rom/hello; nosuch"  # each call costs time, wherever frames are compared
PER_INSTRUCTION = 2
FUEL = 60_000_000
THREADS = ("policy_thread", "watch_thread", "release_thread", "ageing_thread", "idle")
# Registers that a gate returns results in may change on the stack while the call lasts.
KEPT_BY_GATES = ("esp", "ebp")


class Comparison:
    """Compares the frames at one instant after another."""

    def __init__(self, system: System) -> None:
        self.machine = system.machine
        self.threads = system.kernel.state.tasks.threads
        self.programs = {name: program_image(name) for name in ("shell", "hosted", "rom", "hello")}
        self.tables = {name: Tables(debug_image(name)) for name in self.programs}
        self.kernel = Tables(debug_image("kernel"))
        self.shadow = ShadowStack(self.machine, kernel_image(), list(self.programs.values()))
        self.visits: dict[int, int] = {}
        self.instants = self.excepted = 0
        self.wrong: dict[str, list[str]] = {}

    def at(self, address: int) -> None:
        """Compare whenever an instruction is executed, the first times."""

        def reached() -> None:
            seen = self.visits[address] = self.visits.get(address, 0) + 1
            if seen <= PER_INSTRUCTION:
                self.compare()

        self.machine.probe(address, reached)

    def compare(self) -> None:
        """Compare the present instant."""
        cpu = self.machine.cpu
        self.instants += 1
        registers = {number: getattr(cpu, name) for number, name in enumerate(NAMES)}
        start = Frame(registers)
        expected = list(self.shadow.open_calls())
        found: list[Frame] = []
        problem = ""
        try:
            found.extend(frames(start, self.tables_for, self.shadow.word))
        except (NoFrame, PageFault) as error:
            problem = f"no frame: {error}"
        if self._not_begun(expected, found) or self._boots() or self._between_spaces():
            self.excepted += 1
            return
        if problem or [call.eip for call in expected] != [frame.eip for frame in found[1:]]:
            self._note(problem or "another chain", expected, found)
            return
        for call, frame in zip(expected, found[1:], strict=True):
            names = GENERAL if call.stack is None else KEPT_BY_GATES
            for number, name in enumerate(GENERAL):
                if name in names and frame.registers.get(number, call.registers[name]) != call.registers[name]:
                    self._note(f"{name} is {call.registers[name]:#x}", expected, found)
                    return

    def _not_begun(self, expected: list[Call], found: list[Frame]) -> bool:
        """Whether the thread has not executed its first instruction, which no call precedes."""
        begins = {program.entry for program in self.programs.values()}
        begins |= {kernel_image().address(name) for name in THREADS}
        return any(frame.eip in begins for frame in found[len(expected) + 1 :])

    def _boots(self) -> bool:
        """Whether this is the switch to the first thread, from the boot stack."""
        begin, end = (kernel_image().address(name) for name in ("boot_stack", "boot_stack_top"))
        place = kernel_image().symbol_at(self.machine.cpu.eip)
        return begin < self.machine.cpu.esp <= end and place.startswith("switch")

    def _between_spaces(self) -> bool:
        """Whether a direct switch stands between a thread's stack and its page tables: ring 3 is another's."""
        cpu = self.machine.cpu
        place = kernel_image().symbol_at(cpu.eip)
        if not place.startswith(("ipc_gate", "server_gate", "hand_over_request")):
            return False
        owner = min((each for each in self.threads.values() if each.stack >= cpu.esp), key=lambda each: each.stack)
        return cpu.cr3 != owner.process.pointers

    def tables_for(self, address: int) -> Tables:
        """Return the tables of the code at an address of the present address space."""
        if address >= KERNEL_BASE:
            return self.kernel
        place = max(address - 1, USER_PROGRAM)
        code = self.machine.read(place, 6)
        for name, program in self.programs.items():
            if program.code_at(place, 6) == code:
                return self.tables[name]
        raise NoFrame(f"no program at {address:#x}")

    def _note(self, what: str, expected: list[Call], found: list[Frame]) -> None:
        name = kernel_image().symbol_at(self.machine.cpu.eip)
        if name.startswith("0x"):
            name = self.programs["shell"].symbol_at(self.machine.cpu.eip)
        calls = " ".join(f"{call.eip:x}" for call in expected)
        eips = " ".join(f"{frame.eip:x}" for frame in found)
        self.wrong.setdefault(name.split("+")[0], []).append(f"{name}: {what}; calls {calls}; found {eips}")


@pytest.mark.parametrize(
    ("share", "commands"), [(0.1, FEW), pytest.param(1, COMMANDS, marks=pytest.mark.thorough(only=True))]
)
def test_a_backtrace_names_every_call_that_has_not_returned(share: float, commands: str) -> None:
    options = SystemOptions(commands=commands)
    with System([ImageFile(demo_image(cache_directory()))], options) as system:
        comparison = Comparison(system)
        addresses = [line.address for image in (kernel_image(), program_image("shell")) for line in image.lines]
        for address in sorted(random.Random(15).sample(addresses, int(share * len(addresses)))):
            comparison.at(address)
        comparison.shadow.watch_calls()
        assert system.run(fuel=FUEL).reason == "exit"
        wrong = {name: notes[0] for name, notes in comparison.wrong.items()}
        assert wrong == {}
        assert comparison.instants > 3000 * share
        assert comparison.excepted < 80
