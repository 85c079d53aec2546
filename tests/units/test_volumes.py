"""Volumes alone: the server of a partition, its mount, its log lines; disks that are plugged and removed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from callgate.disk.partitioning.layout import DiskLayout, Partition
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import Overdue, error_of_reply
from callgate.kernel.core.records import EndpointState
from callgate.kernel.servers.disk_changes import DiskChanges, DiskChangesState
from callgate.kernel.servers.mounting import MOUNT_DEADLINE, Report
from callgate.kernel.servers.volumes import Volumes
from callgate.kernel.storage.disks import Disks
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE
from callgate.server.hosted import HostedServer, VolumeGeometry
from plain_guest import Tasks, drive
from plain_servers import Handler, System

# Volumes.


class Fat(Handler):
    name = kind = "fat"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "fat16" if first.startswith(b"FAT") else None


class Other(Fat):
    name = "other"


class Mounts(System):
    """Volumes over a disk whose content the test gives; servers that are started are a list, and may be refused."""

    def __init__(self, disk: bytes) -> None:
        super().__init__()
        self.disk = disk
        self.key = self.put_disk(0, sectors=len(disk) // 512)
        self.started: list[tuple[str, int, int]] = []
        self.errors: dict[str, ErrorCode] = {}
        self.killed: list[str] = []
        servers = SimpleNamespace(
            endpoints=self.endpoints, kill=lambda _process, reason: self.killed.append(reason), hosted=self.hosted,
            lifetimes=self.servers, processes=self.processes, start_hosted=self.start_hosted,
        )  # fmt: skip
        requests = SimpleNamespace(make_until=self.make_until)
        reader = SimpleNamespace(reader=self.reader)
        self.volumes = Volumes(self.guest, Disks(self.guest), reader, requests, servers, self.mounting)
        self.volumes.installed = [Fat, Other]
        self.mounting.state.in_order = False

    def reader(self, _disk: int, start: int = 0) -> object:
        async def read(sector: int, count: int) -> bytes:
            return self.disk[(start + sector) * 512 : (start + sector + count) * 512]

        return read

    def start_hosted(self, server: type[HostedServer], geometry: VolumeGeometry, disk: int) -> EndpointState:
        self.started.append((server.name, geometry.start, geometry.sectors))
        process = self.new_process(f"hosted:{geometry.name}")
        self.endpoint.process, self.endpoint.name = process, geometry.name
        self.endpoint.disk = disk
        return self.endpoint

    async def make_until(self, deadline: int, endpoint: EndpointState, _operation: int) -> object:
        assert (deadline, endpoint.mounting) == (MOUNT_DEADLINE, True)
        code = self.errors.pop(self.started[-1][0], None)
        if code is ErrorCode.INTERRUPTED:
            raise Overdue
        if code is not None:
            raise error_of_reply(code)

        async def take_data() -> bytes:
            return b"LABEL"

        return SimpleNamespace(take_data=take_data)

    def mount(self) -> None:
        self.mounting.start(Report(0, 0, "d0"), lambda report: self.volumes.mount_disk(self.key, report))
        while self.threads.jobs:
            self.do()


VOLUME = b"FAT".ljust(64 * 512, b"\0")


def mbr(*partitions: tuple[int, int]) -> bytes:
    entries = b"".join(
        b"\0\0\0\0\x06\0\0\0" + first.to_bytes(4, "little") + count.to_bytes(4, "little") for first, count in partitions
    )
    return (bytes(446) + entries.ljust(64, b"\0") + b"\x55\xaa").ljust(8 * 512, b"\0")


def test_each_partition_is_mounted_by_the_server_that_recognises_it_and_others_are_named() -> None:
    mounts = Mounts(mbr((8, 64), (72, 64)) + VOLUME + bytes(len(VOLUME)))
    mounts.mount()
    assert mounts.started == [("fat", 8, 64)]
    assert mounts.lines == [
        "d0: 136 sectors, DISK",
        "/d0p1: fat16, label LABEL",
        "d0p2: no file system that a server knows, skipped",
    ]
    assert not mounts.endpoint.mounting
    assert mounts.mounting.state.first_at == 0


def test_a_server_that_cannot_mount_is_ended_and_the_next_that_recognises_the_volume_is_tried() -> None:
    mounts = Mounts(VOLUME)
    mounts.errors = {"fat": ErrorCode.CORRUPT}
    mounts.mount()
    assert [name for name, _, _ in mounts.started] == ["fat", "other"]
    assert mounts.killed == ["it did not mount: the file system is damaged"]
    assert mounts.lines[1:] == [
        "d0: not mounted: the file system is damaged",
        "d0: a server also knows it as fat16, which is tried",
        "/d0: fat16, label LABEL",
    ]


def test_a_mount_that_no_other_server_could_do_better_is_not_repeated() -> None:
    mounts = Mounts(VOLUME)
    mounts.errors = {"fat": ErrorCode.NO_MEMORY}
    mounts.mount()
    assert [name for name, _, _ in mounts.started] == ["fat"]


def test_a_server_that_does_not_answer_in_time_is_ended_with_its_deadline_named() -> None:
    mounts = Mounts(VOLUME)
    mounts.errors = {"fat": ErrorCode.INTERRUPTED, "other": ErrorCode.NO_MEMORY}
    mounts.mount()
    assert mounts.lines[1] == "d0: not mounted: it did not mount within 2000 ms of virtual time (--mount-deadline)"
    assert mounts.endpoint.dead
    assert mounts.killed == [], "once is enough: its death has ended it"


def test_a_server_that_does_not_say_what_it_has_found_serves_what_its_probe_said() -> None:
    mounts = Mounts(VOLUME)
    made = mounts.start_hosted

    def start_hosted(server: type[HostedServer], geometry: VolumeGeometry, disk: int) -> EndpointState:
        endpoint = made(server, geometry, disk)
        assert endpoint.process is not None
        mounts.hosted.servers[endpoint.process.number] = SimpleNamespace(kind="")
        return endpoint

    mounts.volumes.servers.start_hosted = start_hosted
    mounts.mount()
    assert mounts.lines[-1] == "/d0: fat16, label LABEL"


def test_the_volume_that_covers_the_disk_is_tried_if_no_partition_can_be_mounted() -> None:
    mounts = Mounts(VOLUME)
    otherwise = DiskLayout("none", [Partition(1, 0, 64, "volume")], ["read as one volume"])
    layout = DiskLayout("mbr", [Partition(1, 9, 20, "06"), Partition(2, 30, 20, "06")], [], otherwise)
    mounts.mounting.start(Report(0, 0, "d0"), lambda report: mounts.volumes.mount_layout(mounts.key, layout, report))
    while mounts.threads.jobs:
        mounts.do()
    assert mounts.started == [("fat", 0, 64)]
    assert mounts.lines[-2:] == ["d0: read as one volume", "/d0: fat16, label LABEL"]


@pytest.mark.parametrize("gone", [False, True])
def test_a_table_is_not_read_in_another_way_if_a_partition_is_mounted_or_the_disk_is_gone(*, gone: bool) -> None:
    mounts = Mounts(bytes(9 * 512) + VOLUME)
    otherwise = DiskLayout("none", [Partition(1, 0, 64, "volume")], ["read as one volume"])
    layout = DiskLayout("mbr", [Partition(1, 9, 20, "06"), Partition(2, 30, 20, "06")], [], otherwise)
    mounts.mounting.start(Report(0, 0, "d0"), lambda report: mounts.volumes.mount_layout(mounts.key, layout, report))
    mounts.do()
    if gone:
        mounts.put_disk(0, present=False)
    while mounts.threads.jobs:
        mounts.do()
    assert "d0: read as one volume" not in mounts.lines
    assert bool(mounts.started) is not gone


# Disks that are plugged and unplugged.


class DiskChangesRig:
    """Changes of disks over the driver's table; mounts, calls of the cache and deaths are noted in lists."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks = tasks
        self.calls: list[tuple[str, int]] = []
        self.blocks: dict[tuple[int, int], None] = {}
        self.jobs: list[tuple[Report, object]] = []
        self.mounted: list[int] = []
        self.dead: list[tuple[str, ErrorCode]] = []
        servers = SimpleNamespace(
            endpoints=tasks.endpoints,
            lifetimes=SimpleNamespace(die=lambda endpoint, code: self.dead.append((endpoint.name, code))),
            processes=tasks.processes,
        )
        mounting = SimpleNamespace(scheduler=tasks.scheduler, start=self.start)
        volumes = SimpleNamespace(servers=servers, mounting=mounting, log=tasks.log, mount_disk=self.mount_disk)
        cache = SimpleNamespace(
            state=SimpleNamespace(blocks=self.blocks), drop_disk=lambda disk: self.calls.append(("drop", disk))
        )
        changed = SimpleNamespace(lose=lambda disk: self.calls.append(("lose", disk)) or 3)
        self.disk_changes = DiskChanges(DiskChangesState(), Disks(tasks.guest), cache, changed, volumes)

    def start(self, report: Report, work: object) -> bool:
        self.jobs.append((report, work))
        return True

    async def mount_disk(self, disk: int, _report: Report) -> None:
        self.mounted.append(disk)
        if disk == 0x105:
            self.tasks.put_disk(5, generation=2)  # replaced during the call


def test_a_removed_disk_loses_its_volumes_and_blocks_and_lost_changes_are_logged() -> None:
    tasks = Tasks()
    plugs = DiskChangesRig(tasks)
    gone, stays = tasks.new_endpoint("d0p1", disk=0x105), tasks.new_endpoint("d1", disk=0x106)
    plugs.blocks.update({(0x105, 1): None, (0x105, 2): None, (0x106, 1): None})
    tasks.put_disk(5, present=False)
    plugs.disk_changes.host_disk_changed(5)
    assert plugs.dead == [("d0p1", ErrorCode.UNPLUGGED)]
    assert plugs.calls == [("drop", 0x105), ("lose", 0x105)]
    assert (gone.process.exit_code, stays.process.exit_code) == (KILLED_EXIT_CODE, None)
    assert tasks.lines == [
        "/d0p1: gone, the disk was removed",
        "d0: 3 changed blocks of 4096 bytes were lost with the disk",
        "d0: removed",
    ]


def test_a_volume_that_has_died_already_is_not_reported_again_when_its_disk_goes() -> None:
    tasks = Tasks()
    plugs = DiskChangesRig(tasks)
    tasks.new_endpoint("d0p1", disk=0x105).dead = True
    tasks.put_disk(5, present=False)
    plugs.disk_changes.host_disk_changed(5)
    assert (plugs.dead, tasks.lines) == ([], ["d0: removed"])


def test_a_new_disk_is_mounted_once_also_if_it_is_replaced_meanwhile() -> None:
    tasks = Tasks()
    plugs = DiskChangesRig(tasks)
    tasks.put_disk(5)
    plugs.disk_changes.host_disk_changed(5)
    assert plugs.jobs == []  # disks present at boot are mounted by the first thread
    plugs.disk_changes.mount_present()
    plugs.disk_changes.host_disk_changed(5)
    ((report, work),) = plugs.jobs
    assert (report.place, report.name) == (5, "d0")
    drive(work(report))
    assert plugs.mounted == [0x105, 0x205]
    plugs.disk_changes.host_disk_changed(5)
    assert len(plugs.jobs) == 2
    assert plugs.disk_changes.name(9) == "d1"  # names are given in order of first use
