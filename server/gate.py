"""Calls that a hosted handler awaits, and that the server's own ring-3 thread makes for it.

A handler is a coroutine without an event loop: awaiting a `GateCall` suspends it and hands the call to the
stub of its thread, which makes it through the system gate or the server gate; the registers that come
back resume the coroutine as a `GateResult` (docs/writing-a-server.md).
"""

from collections.abc import Coroutine, Generator
from typing import Any, Final, NamedTuple, TypeVar

from callgate.kernel.abi.calls import ServerCall, SystemCall
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.limits import LOCK_BLOCKS_SECTORS
from callgate.kernel.abi.thread import HostedGate
from callgate.kernel.common.coroutines import run_at_once
from callgate.server.errors import FileSystemError

T = TypeVar("T")

CARRY_FLAG: Final = 1
LOW_DWORD: Final = 0xFFFF_FFFF


class GateResult(NamedTuple):
    """Registers as the gate left them."""

    eax: int
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0
    eflags: int = 0

    @property
    def failed(self) -> bool:
        """True when CF is set; EAX is then an ErrorCode."""
        return bool(self.eflags & CARRY_FLAG)


class GateCall(NamedTuple):
    """One call through a gate of the server; await it for its `GateResult`.

    Registers are 32 bits, unsigned; EAX is the function (`SystemCall` or `ServerCall`).
    """

    gate: HostedGate
    eax: int
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0

    def __await__(self) -> Generator["GateCall", GateResult, GateResult]:
        return (yield self)


async def lock_blocks(sector: int, count: int) -> int:
    """Lock ``count`` sectors from ``sector`` of the partition in the disk cache; return their address.

    The sectors then stand in the server's memory, read-only and consecutive, until `unlock_blocks`.
    ``count`` is 1 to LOCK_BLOCKS_SECTORS.  Raises FileSystemError with the kernel's error.
    """
    if not 0 < count <= LOCK_BLOCKS_SECTORS or sector < 0:
        raise FileSystemError(ErrorCode.BAD_ARGUMENT, f"cannot lock {count} sectors from sector {sector}")
    result = await GateCall(
        HostedGate.SERVER, ServerCall.LOCK_BLOCKS, ecx=count, edx=sector >> 32, esi=sector & LOW_DWORD
    )
    return checked(result, f"reading sectors {sector} to {sector + count - 1}").eax


async def unlock_blocks(address: int) -> None:
    """Unlock blocks that `lock_blocks` returned; their memory is unmapped."""
    result = await GateCall(HostedGate.SERVER, ServerCall.UNLOCK_BLOCKS, ebx=address)
    checked(result, f"unlocking the blocks at {address:#x}")


async def allocate(size: int) -> int:
    """Allocate ``size`` bytes of the server's own memory: page-aligned, zero-filled, writable."""
    result = await GateCall(HostedGate.SYSTEM, SystemCall.ALLOCATE, ecx=size)
    return checked(result, f"allocating {size} bytes").eax


async def free(address: int) -> None:
    """Free memory that `allocate` returned."""
    result = await GateCall(HostedGate.SYSTEM, SystemCall.FREE, ebx=address)
    checked(result, f"freeing the memory at {address:#x}")


async def directory_changed(version: int) -> None:
    """Tell the kernel that this version of a directory is no longer current: the next client asks again."""
    result = await GateCall(HostedGate.SERVER, ServerCall.DIRECTORY_CHANGED, ebx=version)
    checked(result, f"retiring version {version} of a directory")


def checked(result: GateResult, doing: str) -> GateResult:
    """Return ``result``, or raise FileSystemError naming what was being done."""
    if not result.failed:
        return result
    try:
        code = ErrorCode(result.eax)
    except ValueError:
        raise FileSystemError(ErrorCode.IO_ERROR, f"{doing}: unknown error {result.eax:#x}") from None
    raise FileSystemError(code, f"{doing}: {ERROR_TEXT[code]}")


def complete(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, such as a reader's over an open image file; return its result.

    This is how tools use the readers of file systems without a machine.  RuntimeError if it does suspend.
    """
    return run_at_once(coroutine, "the coroutine awaits a gate call; run it on a server's thread")
