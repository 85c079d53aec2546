"""The volumes of an image on the host, read through the servers that a booted system has, without a machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from callgate.disk.media import ImageError, Medium, MediumError, open_image
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode, error_of_server
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.listing import ListedFile, read_pages
from callgate.server.testing import Answer
from callgate.tools.inspection.mounting import mount_all, raised
from callgate.tools.inspection.volume_walk import READ_BYTES, VolumeWalk

NO_VOLUME: Final = "no volume that can be used"
UNKNOWN: Final = "no file system that a server knows"


class VolumeError(Exception):
    """A request of a volume that failed: its code, and the words for a person."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or ERROR_TEXT[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file from `position` on: `size` of them, `data` or, where that is None, zeros."""

    position: int
    size: int
    data: bytes | None


class Volume:
    """A volume that is mounted: `name` is "p1", or "" if the image has no partition table."""

    def __init__(self, name: str, walk: VolumeWalk, kind: str) -> None:
        self.name = name
        self.walk = walk
        self._told = 0  # of the server's reports
        self.kind = walk.rehearsal.server.kind or kind
        try:
            answer = self._request(Operation.VOLUME)
            self.label = answer.data.decode("utf-8", "replace")
            self.case_sensitive = bool(answer.registers.eax & VolumeFlags.CASE_SENSITIVE)
        except VolumeError:
            self.label, self.case_sensitive = "", True

    def take_reports(self) -> list[str]:
        """Return the server's reports since the last call."""
        self.walk.gather()
        new = self.walk.problems()[self._told :]
        self._told += len(new)
        return new

    def listing(self, path: str) -> list[ListedFile]:
        """Return the entries of a directory, by its path from the root without a leading `/`; VolumeError."""
        answer = self._request(Operation.LOCK_DIRECTORY, path)
        entries = list(read_pages(answer.memory))
        self._request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx)
        return entries

    def link_target(self, path: str) -> str:
        """Return the target of a symbolic link; VolumeError, NOT_SUPPORTED from servers that do not have it."""
        answer = self._request(Operation.READ_LINK, path)
        if not answer.data:
            raise VolumeError(ErrorCode.BAD_REPLY)
        return answer.data.decode("utf-8", "replace")

    def size(self, path: str) -> int:
        """Return the size of a file in bytes; VolumeError, IS_DIRECTORY among them."""
        with self._opened(path) as opened:
            return opened.size

    def content(self, path: str) -> Iterator[Piece]:
        """Yield a file's content in order, holes as such; VolumeError, after the bytes that could be read."""
        with self._opened(path) as opened:
            position = 0
            while position < opened.size:
                start, covered, answer = self._read(opened.number, position)
                end = min(start + covered, opened.size)
                if not start <= position < end:
                    raise VolumeError(ErrorCode.BAD_REPLY)
                yield from self._pieces(answer, start, position, end)
                position = end

    def _read(self, number: int, position: int) -> tuple[int, int, Answer]:
        """Return (first byte, bytes covered, reply) for a position of an open file."""
        answer = self._request(
            Operation.READ, ebx=number, eax=position & 0xFFFF_FFFF, edx=position >> 32, ecx=READ_BYTES
        )
        registers = answer.registers
        if registers.edi and answer.call is ServerCall.REPLY_OBJECT:
            self._request(Operation.RELEASE, eax=registers.edi)
        return registers.edx << 32 | registers.ecx, registers.eax, answer

    def _pieces(self, answer: Answer, start: int, position: int, end: int) -> Iterator[Piece]:
        """Yield the bytes `position` to `end` of a reply that begins at byte `start` of the file."""
        if answer.call is ServerCall.REPLY_OBJECT:
            if len(answer.memory) < end - start:
                raise VolumeError(ErrorCode.BAD_REPLY)
            yield Piece(position, end - position, answer.memory[position - start : end - start])
            return
        at = start
        for first, count in answer.sectors:
            low, high = max(at, position), min(at + count * SECTOR_SIZE, end)
            if low < high:
                data = None if first is None else self._sectors(first, count)[low - at : high - at]
                yield Piece(low, high - low, data)
            at += count * SECTOR_SIZE
        if at < end:
            raise VolumeError(ErrorCode.BAD_REPLY)

    def _sectors(self, first: int, count: int) -> bytes:
        """Return sectors of the partition; VolumeError if the image does not have them."""
        rehearsal = self.walk.rehearsal
        if first + count > rehearsal.geometry.sectors:
            raise VolumeError(ErrorCode.IO_ERROR)
        try:
            return rehearsal.read_sectors(first, count)
        except MediumError as error:
            raise VolumeError(ErrorCode.IO_ERROR, f"{ERROR_TEXT[ErrorCode.IO_ERROR]}: {error}") from None

    def _opened(self, path: str) -> _Opened:
        answer = self._request(Operation.OPEN, path)
        registers = answer.registers
        return _Opened(self, registers.eax, registers.edx << 32 | registers.ecx)

    def _request(self, operation: Operation, path: str | None = None, **registers: int) -> Answer:
        """Make a request; VolumeError if it fails, or if the server raises, which would end it."""
        try:
            data = None if path is None else path.encode()
            answer = self.walk.rehearsal.request(operation, data, **registers)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise VolumeError(ErrorCode.SERVER_DIED, raised(error)) from error
        if answer.error:
            raise VolumeError(error_of_server(answer.error))
        return answer


class _Opened:
    """An open file of a volume."""

    def __init__(self, volume: Volume, number: int, size: int) -> None:
        self.volume, self.number, self.size = volume, number, size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            self.volume._request(Operation.CLOSE, eax=self.number)
        except VolumeError:
            if kind is None:
                raise


class ImageVolumes:
    """The volumes of an image that can be mounted, by name; a context that closes the image."""

    def __init__(self, path: Path) -> None:
        """Mount the volumes; ImageError if the image cannot be used or has no such volume."""
        self.problems: list[str] = []
        self.volumes: dict[str, Volume] = {}
        self.partitioned = False
        with ExitStack() as stack:
            medium = open_image(path)
            stack.callback(medium.close)
            self.path = medium.path  # or what people call it
            self.host_files = medium.host_files
            self.problems += [warning.removeprefix(f"{self.path}: ") for warning in medium.warnings]
            self._find(medium)
            if not self.volumes:
                reason = "; ".join([NO_VOLUME, *self.problems])
                raise ImageError(self.path, reason, f"look into it: callgate disk inspect {path}")
            self._stack = stack.pop_all()

    def _find(self, medium: Medium) -> None:
        layout, mounted = mount_all(medium)
        self.problems += layout.problems
        self.partitioned = layout.scheme != "none"
        for each in mounted:
            name = f"p{each.partition.number}" if self.partitioned else ""
            said = list(each.said)
            if each.walk is not None:
                self.volumes[name] = Volume(name, each.walk, each.kind)
            elif not each.reason:
                said.append(UNKNOWN)
            self.problems += [f"{name}: {text}" if name else text for text in said]

    def split(self, path: str) -> tuple[Volume | None, str]:
        """Return the volume that a path is on and the rest of it, without a leading `/`; VolumeError.

        The first name of a path is that of the partition, as `p2` in the shell's `/d0p2`; it may be left out if there
        is only one volume.  None stands for the image itself, where all volumes are.
        """
        names = [name for name in path.split("/") if name not in {"", "."}]
        if self.partitioned and names and names[0].lower() in self.volumes:
            return self.volumes[names[0].lower()], "/".join(names[1:])
        if len(self.volumes) == 1:
            return next(iter(self.volumes.values())), "/".join(names)
        if not names:
            return None, ""
        raise VolumeError(ErrorCode.NOT_FOUND, f"the image has the volumes {', '.join(self.volumes)}; begin with one")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
