"""Page tables as the CPU walks them, without disturbing it (Intel SDM vol. 3, 4.4, 4.6 and 4.7).

Unicorn's own translation functions change CR2 and set accessed and dirty bits.  Debuggers, loaders and
the delivery of exceptions need a walk that does not, or that sets them on purpose.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from callgate.kernel.abi import memory as layout
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.memory.ram import Ram

PF_PRESENT: Final = 1
PF_WRITE: Final = 2
PF_USER: Final = 4
PF_RESERVED: Final = 8
PF_FETCH: Final = 16

CR0_PG: Final = 1 << 31
CR0_WP: Final = 1 << 16
CR4_TSD: Final = 1 << 2
CR4_PAE: Final = 1 << 5
CR4_SMEP: Final = 1 << 20
MAXPHYADDR: Final = 40  # what CPUID leaf 80000008h of the emulated CPU says
ADDRESS: Final = (1 << MAXPHYADDR) - 1 & ~0xFFF
RESERVED: Final = (1 << 63) - (1 << MAXPHYADDR)  # bits 62 to MAXPHYADDR of any entry
RESERVED_LARGE: Final = 0x1F_E000  # bits 20 to 13 of a 2 MiB entry
NX: Final = 1 << 63
WORD: Final = 0xFFFF_FFFF


class PageFault(Exception):
    """A linear address that may not be accessed in this way: the address and the error code that a CPU would push."""

    def __init__(self, address: int, error_code: int) -> None:
        super().__init__(f"page fault at {address:#010x}, error code {error_code:#x}")
        self.address = address
        self.error_code = error_code


class Mode(NamedTuple):
    """The bits that decide how linear addresses are translated."""

    paging: bool
    cr3: int
    write_protect: bool
    no_execute: bool
    smep: bool = False


class Walk(NamedTuple):
    """One translation: physical address of each entry, entries, result and combined rights.

    `physical` is None where an entry is not present or has reserved bits set; `page_size` is 0 then.
    """

    linear: int
    entries: tuple[tuple[int, int], ...]  # (physical address, value), PDPTE first
    physical: int | None
    user: bool
    writable: bool
    executable: bool
    page_size: int
    reserved: bool = False


class Paging:
    """The page tables of a machine; `mode` tells what the CPU uses now."""

    def __init__(self, ram: Ram, mode: Callable[[], Mode]) -> None:
        self.ram = ram
        self.quads = ram.low.cast("Q")
        self.mode = mode

    def walk(self, linear: int, cr3: int | None = None, *, no_execute: bool = True) -> Walk:
        """Translate through the tables at `cr3` (the CPU's own if None), without side effects.

        `no_execute` is EFER.NXE: without it, bit 63 of an entry is reserved.
        """
        linear &= WORD
        if cr3 is None:
            mode = self.mode()
            if not mode.paging:
                return Walk(linear, (), linear, True, True, True, 0)
            cr3, no_execute = mode.cr3, mode.no_execute
        table = cr3 & 0xFFFF_FFE0
        reserved = RESERVED if no_execute else RESERVED | NX
        user = writable = executable = True
        entries: list[tuple[int, int]] = []
        for level, shift in enumerate((30, 21, 12)):
            address = table + (linear >> shift & (0x1FF if level else 3)) * 8
            entry = self._entry(address)
            entries.append((address, entry))
            large = level == 1 and bool(entry & layout.PTE_LARGE)
            if not entry & layout.PTE_PRESENT:
                return Walk(linear, tuple(entries), None, user, writable, executable, 0)
            if level:
                user = user and bool(entry & layout.PTE_USER)
                writable = writable and bool(entry & layout.PTE_WRITABLE)
                executable = executable and not entry & NX
                if entry & (reserved | RESERVED_LARGE if large else reserved):
                    return Walk(linear, tuple(entries), None, user, writable, executable, 0, reserved=True)
            if large or level == 2:
                size = 1 << shift
                physical = entry & ADDRESS & -size | linear & size - 1
                return Walk(linear, tuple(entries), physical, user, writable, executable, size)
            table = entry & ADDRESS
        raise AssertionError("three levels end a walk")

    def _entry(self, address: int) -> int:
        """Read an entry; where there is no RAM, the bus floats high."""
        try:
            return self.ram.u64(address, Account.MACHINE)
        except DmaError:
            return (1 << 64) - 1

    def translate(
        self,
        linear: int,
        *,
        user: bool,
        write: bool,
        fetch: bool = False,
        cr3: int | None = None,
        mark: bool = False,
        mode: Mode | None = None,
    ) -> int:
        """Return the physical address, or raise PageFault with the CPU's error code.

        `mark` sets accessed and dirty bits as an access by the CPU would; `mode` saves asking for it.
        """
        mode = mode or self.mode()
        linear &= WORD
        if cr3 is None:
            if not mode.paging:
                return linear
            cr3 = mode.cr3
        if not (fetch and mode.smep):
            physical = self._quick(linear, cr3, mode, user=user, write=write, fetch=fetch, mark=mark)
            if physical is not None:
                return physical
        walk = self.walk(linear, cr3, no_execute=mode.no_execute)
        error = refusal(walk, mode, user=user, write=write, fetch=fetch)
        if error is not None:
            raise PageFault(linear, error)
        assert walk.physical is not None
        if mark:
            self._mark(walk, write=write)
        return walk.physical

    def _quick(
        self, linear: int, cr3: int, mode: Mode, *, user: bool, write: bool, fetch: bool, mark: bool
    ) -> int | None:
        """Return the physical address if nothing is out of the ordinary: the path of every delivery."""
        need = layout.PTE_PRESENT
        if user:
            need |= layout.PTE_USER
        if write and (user or mode.write_protect):
            need |= layout.PTE_WRITABLE
        if mark:
            need |= layout.PTE_ACCESSED
        last = need | layout.PTE_DIRTY if mark and write else need
        bad = RESERVED if mode.no_execute and not fetch else RESERVED | NX
        quads = self.quads
        try:
            entry = quads[((cr3 & 0xFFFF_FFE0) >> 3) + (linear >> 30)]
            if not entry & layout.PTE_PRESENT:
                return None
            entry = quads[((entry & ADDRESS) >> 3) + (linear >> 21 & 0x1FF)]
            if entry & layout.PTE_LARGE:
                if entry & last != last or entry & (bad | RESERVED_LARGE):
                    return None
                return entry & ADDRESS & -layout.LARGE_PAGE_SIZE | linear & layout.LARGE_PAGE_SIZE - 1
            if entry & need != need or entry & bad:
                return None
            entry = quads[((entry & ADDRESS) >> 3) + (linear >> 12 & 0x1FF)]
        except IndexError:  # a table above low RAM
            return None
        if entry & last != last or entry & bad:
            return None
        return entry & ADDRESS | linear & layout.PAGE_SIZE - 1

    def close(self) -> None:
        """Release RAM."""
        self.quads.release()

    def _mark(self, walk: Walk, *, write: bool) -> None:
        """Set A in the entries used, D in the last entry of a write.  A PDPTE of PAE has neither bit."""
        last = len(walk.entries) - 1
        for index, (address, entry) in enumerate(walk.entries[1:], 1):
            bits = layout.PTE_ACCESSED
            if write and index == last:
                bits |= layout.PTE_DIRTY
            if entry & bits != bits:
                self.ram.put_u64(address, entry | bits, Account.MACHINE)

    def read_linear(
        self,
        linear: int,
        length: int,
        *,
        user: bool = False,
        cr3: int | None = None,
        account: Account = Account.MACHINE,
    ) -> bytes:
        """Return bytes of linear memory; PageFault names the first address that may not be read."""
        return b"".join(
            self.ram.read(physical, size, account)
            for physical, size in self._pieces(linear, length, user=user, write=False, cr3=cr3)
        )

    def write_linear(self, linear: int, data: bytes, *, user: bool = False, cr3: int | None = None) -> None:
        """Write linear memory; PageFault before anything is written if a page refuses."""
        for physical, piece in self.split(linear, data, user=user, cr3=cr3):
            self.ram.write(physical, piece, Account.MACHINE)

    def split(self, linear: int, data: bytes, *, user: bool = False, cr3: int | None = None) -> list[tuple[int, bytes]]:
        """Return where a write to linear memory ends up: physical address and bytes for each page; PageFault."""
        done, pieces = 0, []
        for physical, size in self._pieces(linear, len(data), user=user, write=True, cr3=cr3):
            pieces.append((physical, data[done : done + size]))
            done += size
        return pieces

    def _pieces(
        self, linear: int, length: int, *, user: bool, write: bool, cr3: int | None
    ) -> Iterator[tuple[int, int]]:
        mode = self.mode()
        while length > 0:
            size = min(length, layout.PAGE_SIZE - linear % layout.PAGE_SIZE)
            yield self.translate(linear, user=user, write=write, cr3=cr3, mode=mode), size
            linear = linear + size & WORD
            length -= size


def refusal(walk: Walk, mode: Mode, *, user: bool, write: bool, fetch: bool) -> int | None:
    """Return the error code of the page fault that an access raises, None if it is allowed.

    SDM vol. 3, 4.6.1 (rights) and 4.7 (error code).  Bit 4 is set only where no-execute or SMEP is on.
    """
    code = PF_USER if user else 0
    if write:
        code |= PF_WRITE
    if fetch and (mode.no_execute or mode.smep):
        code |= PF_FETCH
    if walk.physical is None:
        return code | PF_PRESENT | PF_RESERVED if walk.reserved else code
    wrong_ring = user and not walk.user
    read_only = write and not walk.writable and (user or mode.write_protect)
    no_fetch = fetch and ((mode.no_execute and not walk.executable) or (mode.smep and not user and walk.user))
    return code | PF_PRESENT if wrong_ring or read_only or no_fetch else None
