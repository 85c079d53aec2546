"""Replies of servers: checked and translated before the client sees them (CONVERT)."""

from __future__ import annotations

import struct

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES, MESSAGE_DATA_SIZE, Message, ReplyType
from callgate.kernel.abi.volume import (
    SECTOR_ENTRY_COUNT_MASK,
    SECTOR_ENTRY_COUNT_SHIFT,
    SECTOR_ENTRY_HOLE,
    SECTOR_ENTRY_MASK,
)
from callgate.kernel.common.stretches import stretches
from callgate.kernel.core.errors import PolicyError, ServerFault
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import Endpoints, EndpointState, Pin, SectorPiece
from callgate.kernel.ipc.slots import DATA, Slots, split, write_error
from callgate.kernel.memory.physical_memory import PhysicalMemory

OBJECT = struct.Struct("<II")
WHOLE_BLOCK = SECTORS_PER_PAGE - 1 << SECTOR_ENTRY_COUNT_SHIFT  # an entry, but for its first sector


class Replies:
    """Answers to CONVERT."""

    def __init__(self, state: Endpoints, memory: PhysicalMemory, slots: Slots, log: Log) -> None:
        self.state = state
        self.memory = memory
        self.slots = slots
        self.log = log

    def host_convert(self, value: int) -> None:
        """CONVERT: check and translate the reply in slot `value` & 31 for its client; a bad one becomes BAD_REPLY."""
        slot, number = split(value)
        endpoint = self.state.by_number[number]
        message = self.slots.message(endpoint, slot)
        try:
            self._convert(endpoint, slot, message)
        except PolicyError as error:
            self.log(f"{endpoint.name}: reply refused: {error}", endpoint)
            self.slots.block(endpoint)["bad_replies"] += 1
            self.slots.drop_pins(endpoint, slot)
            write_error(message, ErrorCode.BAD_REPLY)

    def _convert(self, endpoint: EndpointState, slot: int, message: memoryview) -> None:
        header = Message.from_buffer(message)
        match ReplyType(header.reply):
            case ReplyType.DATA:
                if header.count > MESSAGE_DATA_SIZE:
                    raise ServerFault(ErrorCode.BAD_REPLY, f"{header.count} bytes of data")
            case ReplyType.OBJECT:
                frames, pins = self.object_frames(endpoint, message)
                endpoint.pins[slot] = tuple(pins)
                struct.pack_into(f"<{len(frames)}Q", message, DATA, *frames)
                header.count = len(frames)
            case ReplyType.SECTORS:
                self.sector_pieces(endpoint, message)
                if header.operation != Operation.OPEN:
                    raise ServerFault(ErrorCode.BAD_REPLY, "sectors for a request that does not read a file")
            case ReplyType.NONE | ReplyType.REGISTERS:
                header.count = 0

    def object_frames(self, endpoint: EndpointState, message: memoryview) -> tuple[list[int], list[Pin]]:
        """Return the frames of an object reply's pages, and the pins that hold them until the client is done.

        BAD_REPLY if the object is too large or has a page that is not the server's own; then nothing is held.
        """
        base, size = OBJECT.unpack_from(message, DATA)
        pages = -(-size // PAGE_SIZE)
        if pages > MESSAGE_ADDRESSES:
            raise ServerFault(ErrorCode.BAD_REPLY, f"object of {size} bytes at {base:#x}")
        assert endpoint.process is not None
        frames = []
        for address in range(base, base + pages * PAGE_SIZE, PAGE_SIZE):
            frame = endpoint.process.pages.get(address)
            if frame is None:
                raise ServerFault(ErrorCode.BAD_REPLY, f"object page {address:#x} is not the server's own")
            frames.append(frame)
        for frame in frames:
            self.memory.low.hold(frame)
        return frames, [("frame", frame, 0) for frame in frames]

    def sector_pieces(self, endpoint: EndpointState, message: memoryview) -> list[SectorPiece]:
        """Return the pieces of a sectors reply; BAD_REPLY unless each entry is inside the partition and in one block.

        Entries for whole blocks that follow each other are one piece.
        """
        count = Message.from_buffer(message).count
        if count > MESSAGE_ADDRESSES:
            raise ServerFault(ErrorCode.BAD_REPLY, f"{count} sector entries")
        entries = struct.unpack_from(f"<{count}Q", message, DATA)
        pieces: list[SectorPiece] = []
        for begin, end in stretches(entries, SECTORS_PER_PAGE):
            first, sectors = entries[begin] - WHOLE_BLOCK, (end - begin) * SECTORS_PER_PAGE
            lba = endpoint.start + first
            if first >= 0 and first + sectors <= endpoint.sectors and not lba % SECTORS_PER_PAGE:
                pieces.append(SectorPiece(lba, 0, sectors))  # as nearly all are
            else:
                pieces += [self._check_entry(endpoint, entry) for entry in entries[begin:end]]
        return pieces

    def _check_entry(self, endpoint: EndpointState, entry: int) -> SectorPiece:
        first = entry & SECTOR_ENTRY_MASK
        sectors = (entry >> SECTOR_ENTRY_COUNT_SHIFT & SECTOR_ENTRY_COUNT_MASK) + 1
        if entry & SECTOR_ENTRY_HOLE:
            if first + sectors > SECTORS_PER_PAGE:
                raise ServerFault(ErrorCode.BAD_REPLY, f"a hole of {sectors} sectors at {first} crosses a page")
            return SectorPiece(None, first, sectors)
        lba = endpoint.start + first
        if first + sectors > endpoint.sectors:
            raise ServerFault(ErrorCode.BAD_REPLY, f"sector {first} lies outside the partition")
        if lba % SECTORS_PER_PAGE + sectors > SECTORS_PER_PAGE:
            raise ServerFault(ErrorCode.BAD_REPLY, f"{sectors} sectors at {first} cross a block")
        return SectorPiece(lba, lba % SECTORS_PER_PAGE, sectors)
