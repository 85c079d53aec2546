"""Several events from outside in one run: kills of clients and servers, Ctrl-C, disks that go and come, stray wake-ups.

Each is tried at every instruction elsewhere, alone.  Here up to eight of them come at random instants of one workload,
while what the one before has begun is still under way.  CALLGATE_MIXED says for how many seeds.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.system import System, SystemOptions

SEEDS = int(os.environ.get("CALLGATE_MIXED", "3"))
FILES = 30
WORK = [
    "cat /d0/F*.TXT",
    "cat /d1/F001.TXT /d1/F002.TXT /d1/BIG.BIN /d0/nofile /d0/nofile",
    "ls /d0; tree /d1",
    "crc32 /d0/BIG.BIN /d1/BIG.BIN",
    "df",
    "hexdump /d1/BIG.BIN 4096 3000",
    "hello there; crash",
    "poke /d0/BIG.BIN 5000 1 2 3",
    "cat /d0/F010.TXT /d1/F010.TXT /d0/F011.TXT",
]
COMMANDS, EVENTS = 8, 8
ENDLESS = 400_000_000  # instructions
RUNS = 12


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = []
    for number, fs in enumerate(("fat16", "fat12")):
        folder = tmp_path_factory.mktemp(f"disk{number}")
        for index in range(FILES):
            (folder / f"F{index:03}.TXT").write_bytes(b"%d of disk %d\n" % (index, number) * (index % 7 * 40))
        (folder / "BIG.BIN").write_bytes(bytes(range(256)) * 250)
        made.append(folder.with_suffix(".img"))
        create_image(made[-1], folder, fs=fs, size=4 << 20 << 2 * (fs == "fat16"))
    return made


class Events:
    """What may happen to a system from outside; each returns its name, or none if it cannot happen now."""

    def __init__(self, system: System, chance: random.Random) -> None:
        self.system, self.chance = system, chance
        self.media = list(system.media)
        self.out: set[int] = set()  # disks that are not plugged in

    def kill(self) -> None:
        kernel = self.system.kernel
        processes = [one for one in kernel.state.tasks.processes.values() if one.threads and one.endpoint < 0]
        found = [one for one in processes if one.name not in ("shell", "kernel")]
        if found:
            kernel.processes.kill(self.chance.choice(found), 9, "killed by the test")
            if self.chance.random() < 0.5:
                self.system.machine.pic.lower_line(IRQ)
                self.system.machine.pic.raise_line(IRQ)

    def kill_server(self) -> None:
        endpoints = self.system.kernel.state.endpoints.by_number.values()
        found = [one.process for one in endpoints if one.disk >= 0 and one.process and one.process.threads]
        if found:
            self.system.kernel.servers.kill(self.chance.choice(found), "killed by the test")

    def ctrl_c(self) -> None:
        self.system.machine.serial.send_break()

    def unplug(self) -> None:
        disk = self.chance.randrange(2)
        if disk not in self.out:
            self.out.add(disk)
            self.system.unplug(disk)

    def plug(self) -> None:
        if self.out:
            disk = self.out.pop()
            self.system.plug(disk, self.media[disk])

    def wake(self) -> None:
        kernel = self.system.kernel
        kernel.scheduler.wake(self.chance.choice(list(kernel.state.tasks.threads.values())))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_events_of_all_kinds_in_one_run_leave_a_kernel_in_order(
    images: list[Path], find_leaks: Callable[[System], list[str]], seed: int
) -> None:
    chance = random.Random(seed)
    latency = Latency(command=chance.choice([0, 3000, 100_000]), sector=chance.choice([0, 20, 200]))
    options: dict[str, Any] = {"scratch": chance.random() < 0.5, "fast_path": chance.random() < 0.8}
    commands = "; ".join(chance.choice(WORK) for _ in range(COMMANDS))
    disks = [ImageFile(image) for image in images]
    system = System(disks, SystemOptions(commands=commands, latency=latency, **options))
    events = Events(system, chance)
    kinds = [events.kill, events.kill, events.kill_server, events.ctrl_c, events.unplug, events.plug, events.wake]
    stop = system.run(fuel=chance.choice([chance.randrange(200_000), chance.randrange(1_500_000)]))
    for _ in range(chance.randrange(1, EVENTS)):
        if stop.reason != "fuel":
            break
        chance.choice(kinds)()
        assert system.kernel.check() == []
        stop = system.run(fuel=int(10 ** chance.uniform(0, 5.3)))
    # The shell's end stops a run, and later ones may stop at once; a disk that came last is mounted meanwhile.
    reasons = [system.run(fuel=ENDLESS).reason for _ in range(RUNS)]
    assert set(reasons) <= {"exit", "halt"}
    assert find_leaks(system) == []
    assert system.kernel.check() == []
    system.close()
