"""Frames, page tables, descriptors, pins, user memory and windows, each alone.

Tables are read back by a walk and descriptors of this file, after Intel SDM vol. 3.
"""

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import HIGH_MEMORY, USER_FILES, USER_HEAP, USER_METADATA, USER_STACK_TOP
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.records import Endpoints, EndpointState, Pin, Process, Window
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.frames import FramePool, OutOfMemory
from callgate.kernel.memory.page_tables import KERNEL_CODE, USER_CODE, USER_DATA, USER_READ, KernelSpace, PageTables
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.pins import Pins
from callgate.kernel.memory.user_memory import BadAddress, UserMemory
from callgate.kernel.memory.windows import Source, Windows
from plain_guest import PlainRam, plain_guest

PAGE = 4096
FIRST = 0x10_0000


def walk(ram: PlainRam, pointers: int, linear: int) -> tuple[int, bool, bool, bool] | None:
    """Return (physical, user, writable, executable) as a CPU with PAE and NX translates; None if not present."""
    entry = ram.u64(pointers + (linear >> 30) * 8)
    user = writable = executable = True
    for shift in (21, 12):
        if not entry & 1:
            return None
        entry = ram.u64((entry & 0xF_FFFF_FFFF_F000) + (linear >> shift & 0x1FF) * 8)
        user, writable = user and bool(entry & 4), writable and bool(entry & 2)
        executable = executable and not entry >> 63
        if shift == 21 and entry & 0x80:
            return (entry & 0xF_FFFF_FFE0_0000) + (linear & 0x1F_FFFF), user, writable, executable
    return ((entry & 0xF_FFFF_FFFF_F000) + (linear & 0xFFF), user, writable, executable) if entry & 1 else None


class UserSpace:
    """Page tables in plain memory, an empty user space, and the number of entries written."""

    def __init__(self, frames: int = 64) -> None:
        self.guest = plain_guest()
        self.ram = self.guest.ram
        self.pool = FramePool(FIRST, FIRST + frames * PAGE)
        self.written = 0
        self.tables = PageTables(self.guest.quads, self.pool, self.count)
        self.kernel = KernelSpace(self.tables.new_table())
        self.pointers, made = self.tables.new_space(self.kernel)
        self.process = Process(1, "program", self.pointers, tables=made)

    def count(self, entries: int) -> None:
        self.written += entries

    def at(self, linear: int) -> tuple[int, bool, bool, bool] | None:
        return walk(self.ram, self.pointers, linear)


def test_frames_are_allocated_lowest_first_then_the_one_freed_last() -> None:
    pool = FramePool(FIRST, FIRST + 3 * PAGE)
    assert pool.allocate_several(3) == [FIRST, FIRST + PAGE, FIRST + 2 * PAGE]
    pool.release(FIRST)
    pool.release(FIRST + 2 * PAGE)
    assert (pool.allocate(), pool.allocate()) == (FIRST + 2 * PAGE, FIRST)


def test_a_frame_with_two_holders_is_freed_by_the_last_one() -> None:
    pool = FramePool(FIRST, FIRST + PAGE)
    frame = pool.allocate()
    pool.hold(frame)
    assert (pool.release(frame), pool.available, pool.used) == (False, 0, 1)
    assert (pool.release(frame), pool.available, pool.used) == (True, 1, 0)
    for function in (pool.release, pool.hold):
        with pytest.raises(KeyError):
            function(frame)


@pytest.mark.parametrize("frame", [FIRST - PAGE, FIRST + PAGE, FIRST + 3 * PAGE, HIGH_MEMORY])
def test_a_frame_that_a_pool_has_not_given_out_is_neither_held_nor_released(frame: int) -> None:
    pool = FramePool(FIRST, FIRST + 2 * PAGE)
    pool.allocate()
    for change in (pool.hold, pool.release):
        with pytest.raises(KeyError):
            change(frame)
    assert (pool.holders, pool.free) == ({FIRST: 1}, [])


def test_several_frames_are_allocated_together_or_not_at_all() -> None:
    pool = FramePool(FIRST, FIRST + 3 * PAGE)
    with pytest.raises(OutOfMemory) as refused:
        pool.allocate_several(4)
    assert (refused.value.code, pool.available, pool.total) == (ErrorCode.NO_MEMORY, 3, 3)


def test_frames_in_the_order_of_memory_are_those_freed_last_and_then_new_ones_or_none_at_all() -> None:
    pool = FramePool(FIRST, FIRST + 8 * PAGE)
    frames = pool.allocate_several(6)
    for index in (4, 0, 3, 1):
        pool.release(frames[index])
    assert pool.allocate_ascending(2) == [frames[1], frames[3]]
    assert pool.allocate_ascending(3) == [frames[0], frames[4], FIRST + 6 * PAGE]
    assert (pool.available, pool.used) == (1, 7)
    with pytest.raises(OutOfMemory):
        pool.allocate_ascending(2)
    assert pool.allocate_ascending(0) == []
    assert pool.allocate() == FIRST + 7 * PAGE


def test_frames_side_by_side_are_a_range_whether_they_have_been_freed_or_are_new() -> None:
    pool = FramePool(FIRST, FIRST + 4 * PAGE)
    frames = range(FIRST, FIRST + 4 * PAGE, PAGE)
    assert pool.allocate_ascending(3) == frames[:3]
    assert (pool.holders, pool.holds_all(frames[:3])) == (dict.fromkeys(frames[:3], 1), True)
    pool.release(frames[1])
    pool.release(frames[0])
    assert [pool.holds_all(each) for each in (frames[:1], frames[1:3], frames[2:3])] == [False, False, True]
    assert pool.allocate_ascending(2) == frames[:2]
    assert not pool.holds_all(frames), "the last was never given out"
    assert not pool.holds_all(range(FIRST - PAGE, FIRST + PAGE, PAGE)), "the first is none of the pool"


def test_a_mapped_page_is_found_by_the_cpus_walk_with_its_rights() -> None:
    space, made = UserSpace(), []
    for linear, flags, rights in (
        (USER_HEAP, USER_DATA, (True, True, False)),
        (USER_HEAP + PAGE, USER_READ, (True, False, False)),
        (0x40_0000, USER_CODE, (True, False, True)),
        (0xBFFF_E000, USER_DATA, (True, True, False)),
    ):
        space.tables.map(space.pointers, linear, HIGH_MEMORY + 0x5000, flags, made)
        assert space.at(linear + 0x123) == (HIGH_MEMORY + 0x5123, *rights)
    assert space.at(USER_HEAP + 2 * PAGE) is None
    assert len(made) == 3  # one table for each 2 MiB in use


def test_a_run_over_the_end_of_a_table_is_mapped_and_unmapped_like_single_pages() -> None:
    space, made = UserSpace(), []
    frames = [HIGH_MEMORY + index * PAGE for index in range(3)]
    start = USER_FILES + 511 * PAGE
    before = space.written
    space.tables.map_run(space.pointers, start, frames, USER_READ, made)
    assert space.written - before == 3 + 2  # pages, and the two tables that were made
    assert [space.at(start + index * PAGE)[0] for index in range(3)] == frames
    space.tables.unmap_run(space.pointers, start + PAGE, 1)
    assert [space.at(start + index * PAGE) is None for index in range(3)] == [False, True, False]
    space.tables.unmap_run(space.pointers, USER_FILES - PAGE, 3 * 512)  # some of them never had a table
    assert [space.at(start + index * PAGE) for index in range(3)] == [None] * 3


def test_unmapping_returns_the_entry_and_counts_only_present_ones() -> None:
    space = UserSpace()
    space.tables.map(space.pointers, USER_HEAP, FIRST, USER_DATA, [])
    space.tables.mark_dirty(space.pointers, USER_HEAP)
    before = space.written
    assert space.tables.unmap(space.pointers, USER_HEAP) == FIRST | USER_DATA | 0x60  # accessed and dirty
    assert space.tables.unmap(space.pointers, USER_HEAP) == 0
    assert space.tables.unmap(space.pointers, USER_FILES) == 0
    assert space.written - before == 1


def test_the_kernels_half_is_the_same_in_every_space_and_only_its_sections_are_code() -> None:
    space = UserSpace()
    image = [(0xC010_0000, 2 * PAGE, KERNEL_CODE), (0xC010_2800, PAGE, KERNEL_CODE)]
    space.kernel = KernelSpace(0)
    space.tables.make_kernel_space(space.kernel, image, 8 << 20)
    for pointers in (space.tables.new_space(space.kernel)[0], space.tables.new_space(space.kernel)[0]):
        assert walk(space.ram, pointers, 0xC010_1FFF) == (0x10_1FFF, False, False, True)
        assert walk(space.ram, pointers, 0xC010_3000) == (0x10_3000, False, False, True)  # begins within a page
        assert walk(space.ram, pointers, 0xC010_4000) == (0x10_4000, False, True, False)
        assert walk(space.ram, pointers, 0xC07F_FFFF) == (0x7F_FFFF, False, True, False)  # a large page
        assert walk(space.ram, pointers, 0xC080_0000) is None
        assert walk(space.ram, pointers, 0x10_0000) is None


def test_an_address_space_that_cannot_be_made_whole_keeps_no_frame() -> None:
    space = UserSpace(frames=8)  # five are in use
    with pytest.raises(OutOfMemory):
        space.tables.new_space(space.kernel)
    assert space.pool.available == 3


def test_segment_descriptors_are_those_of_the_manual() -> None:
    guest = plain_guest()
    table = GlobalTable(guest.ram, 0x2000)
    table.put_fixed(0xC030_0000, 103, 0xC010_0000, 0xC010_0020)
    assert [guest.ram.u64(0x2000 + at) for at in (0x08, 0x10, 0x18, 0x20)] == [
        0x00CF_9A00_0000_FFFF,
        0x00CF_9200_0000_FFFF,
        0x00CF_FA00_0000_FFFF,
        0x00CF_F200_0000_FFFF,
    ]
    assert guest.ram.u64(0x2000 + 0x28) == 0xC000_8930_0000_0067
    assert guest.ram.u64(0x2000 + 0x30) == 0xC010_EC00_0008_0000
    table.put_data(0x203, 0xC020_1000, 0xFFF)  # the low three bits of a selector do not name the entry
    assert guest.ram.u64(0x2000 + 0x200) == 0xC040_9220_1000_0FFF
    table.put_server_table(0xC000_5000, 0x5000, 0xC010_0040)
    assert guest.ram.u64(0x2000 + 0x40) == 0xC000_8200_5000_000F
    assert (guest.ram.u64(0x5008), guest.ram.u64(0x5000)) == (0xC010_EC00_0008_0040, 0)
    table.clear(0x200)
    assert guest.ram.u64(0x2200) == 0


def test_the_page_of_zeros_is_made_once_and_cleared_frames_are_zero() -> None:
    guest = plain_guest()
    pool = FramePool(FIRST, FIRST + 2 * PAGE)
    memory = PhysicalMemory(guest, pool, FramePool(HIGH_MEMORY, HIGH_MEMORY), KernelSpace(0))
    guest.ram.write(FIRST, b"\xff" * 2 * PAGE)
    assert memory.zero_frame() == memory.zero_frame()
    frame = memory.cleared()
    assert guest.ram.read(frame, PAGE) == guest.ram.read(memory.zero_frame(), PAGE) == bytes(PAGE)
    with pytest.raises(OutOfMemory):
        memory.cleared()


def test_unpinning_releases_one_holder_of_a_frame_or_one_lock_of_a_block() -> None:
    pool = FramePool(FIRST, FIRST + PAGE)
    unlocked: list[tuple[int, int]] = []
    frame = pool.allocate()
    pool.hold(frame)
    pins = Pins(pool, unlocked.extend)
    pins.release([("frame", frame, 0), ("block", 0x103, 7), ("block", 0x103, 7)])
    assert (pool.used, unlocked) == (1, [(0x103, 7), (0x103, 7)])
    pins.release([("frame", frame, 0)])
    assert pool.used == 0


def user_memory(space: UserSpace, provided: list[int] | None = None) -> UserMemory:
    def provide(process: Process, address: int) -> bool:
        if provided is None:
            return False
        provided.append(address)
        space.tables.map(process.pointers, address & -PAGE, space.pool.allocate(), USER_DATA, process.tables)
        return True

    return UserMemory(space.ram, space.tables, space.process, provide)


def test_user_memory_is_read_and_written_across_pages_that_lie_apart_and_marks_them_dirty() -> None:
    space = UserSpace()
    for index, frame in enumerate((0x30_0000, 0x20_0000)):
        space.tables.map(space.pointers, USER_HEAP + index * PAGE, frame, USER_DATA, [])
    memory = user_memory(space)
    memory.write(USER_HEAP + PAGE - 2, b"abcd")
    assert (space.ram.read(0x30_0FFE, 2), space.ram.read(0x20_0000, 2)) == (b"ab", b"cd")
    assert memory.read(USER_HEAP + PAGE - 2, 4) == b"abcd"
    assert space.tables.entry(space.pointers, USER_HEAP + PAGE) & 0x60 == 0x60


@pytest.mark.parametrize("address", [0, USER_HEAP + PAGE, 0xC000_0000, 0xFFFF_FFFF, -1])
def test_policy_reads_only_user_memory_that_the_process_could_read(address: int) -> None:
    space = UserSpace()
    space.tables.map(space.pointers, USER_HEAP, 0x30_0000, USER_DATA, [])
    with pytest.raises(BadAddress) as refused:
        user_memory(space).read(address, 1)
    assert (refused.value.code, refused.value.address) == (ErrorCode.BAD_ADDRESS, address)


def test_a_write_that_one_page_refuses_writes_nothing() -> None:
    space = UserSpace()
    space.tables.map(space.pointers, USER_HEAP, 0x30_0000, USER_DATA, [])
    space.tables.map(space.pointers, USER_HEAP + PAGE, 0x31_0000, USER_READ, [])
    with pytest.raises(BadAddress) as refused:
        user_memory(space).write(USER_HEAP + PAGE - 1, b"ab")
    assert (refused.value.address, refused.value.write) == (USER_HEAP + PAGE, True)
    assert space.ram.read(0x30_0FFF, 1) == b"\0"


def test_a_page_of_the_stack_is_provided_when_policy_touches_it() -> None:
    space, provided = UserSpace(), []
    user_memory(space, provided).write(USER_STACK_TOP - 4, b"text")
    assert provided == [USER_STACK_TOP - 4]


def test_a_string_ends_at_its_zero_and_is_refused_without_one() -> None:
    space = UserSpace()
    space.tables.map(space.pointers, USER_HEAP, 0x30_0000, USER_DATA, [])
    memory = user_memory(space)
    memory.write(USER_HEAP, b"x" * (PAGE - 1) + b"\0")
    assert memory.read_string(USER_HEAP + PAGE - 3, PAGE) == b"xx"  # and does not touch the page after it
    with pytest.raises(PolicyError) as refused:
        memory.read_string(USER_HEAP, 100)
    assert refused.value.code is ErrorCode.BAD_ARGUMENT


def test_a_hosted_servers_accesses_are_booked_and_its_disk_blocks_are_metadata() -> None:
    space, touched = UserSpace(), []
    space.tables.map(space.pointers, USER_HEAP, 0x30_0000, USER_DATA, [])
    space.tables.map(space.pointers, USER_METADATA, HIGH_MEMORY, USER_READ, [])
    memory = UserMemory(space.ram, space.tables, space.process, lambda _process, _address: False, touched.append)
    memory.read(USER_HEAP, 10)
    memory.read(USER_METADATA, 512)
    assert touched == [10, 512]
    assert dict(space.ram.touched) == {Account.SERVER_MEMORY: 10, Account.METADATA: 512}


class WindowSpace(UserSpace):
    """Windows on a user space whose process is the server of endpoint 0."""

    def __init__(self, frames: int = 64) -> None:
        super().__init__(frames)
        self.unlocked: list[tuple[int, int]] = []
        self.endpoints = Endpoints({0: EndpointState(0, 0, None, 0, 0, 0, "d0")})
        self.process.endpoint = 0
        memory = PhysicalMemory(self.guest, self.pool, FramePool(HIGH_MEMORY, HIGH_MEMORY), self.kernel)
        self.windows = Windows(self.guest, memory, Pins(self.pool, self.unlocked.extend), self.endpoints)

    def show(self, pages: int, kind: str = "directory") -> Window:
        frames = self.pool.allocate_several(pages)
        return self.windows.open(self.process, kind, Source(frames, [("frame", frame, 0) for frame in frames]))


def test_windows_are_placed_first_fit_with_an_unmapped_page_between_them() -> None:
    space = WindowSpace()
    first, second, third = space.show(2), space.show(1), space.show(1)
    assert [window.address - USER_FILES for window in (first, second, third)] == [0, 3 * PAGE, 5 * PAGE]
    assert space.at(first.address + PAGE)[1:] == (True, False, False)
    assert space.at(first.address + 2 * PAGE) is None
    space.windows.close(space.process, second)
    assert space.show(2).address == third.address + 2 * PAGE  # the gap holds one page, and the unmapped one
    assert space.show(1).address == second.address


def test_a_closed_window_is_unmapped_and_releases_what_it_showed() -> None:
    space = WindowSpace()
    used = space.pool.used
    window = space.show(3)
    assert space.process.shown == 3
    flushes = space.guest.machine.flushes
    space.endpoints.by_number[0].locked_blocks = 7
    space.windows.close(space.process, window)
    assert space.at(window.address) is None
    assert space.endpoints.by_number[0].locked_blocks == 7  # it showed none of them
    assert (space.process.shown, space.process.windows, space.guest.machine.flushes - flushes) == (0, {}, 1)
    assert space.pool.used == used + 1  # the page table stays


def test_a_window_of_blocks_counts_its_private_copies_and_gives_its_share_back() -> None:
    space = WindowSpace()
    copy = space.pool.allocate()
    pins: list[Pin] = [("block", 0x100, 5)]
    window = space.windows.open(space.process, "blocks", Source([HIGH_MEMORY, copy], pins, [copy]))
    space.endpoints.by_number[0].locked_blocks = 2
    assert (window.address, space.process.shown) == (USER_METADATA, 1)
    space.windows.close_all(space.process)
    assert (space.unlocked, space.process.shown, space.endpoints.by_number[0].locked_blocks) == ([(0x100, 5)], 0, 0)
    assert copy not in space.pool.holders


def test_a_window_that_cannot_be_opened_drops_its_source() -> None:
    space = WindowSpace(frames=8)  # three are left: two pages, and a table for the first window
    frames = space.pool.allocate_several(3)
    with pytest.raises(OutOfMemory):
        space.windows.open(space.process, "directory", Source(frames, [("frame", frame, 0) for frame in frames]))
    assert (space.pool.available, space.process.windows) == (3, {})
