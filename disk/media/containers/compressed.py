"""Compressed images: unpacked into a temporary file, since none of these formats can be read from the middle."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Final, Protocol

from callgate.disk.media.containers.magic import COMPRESSED, goes_on
from callgate.disk.media.containers.zstandard import INSTALL, find_zstd
from callgate.disk.media.image_file import RawFile
from callgate.disk.media.medium import ImageError
from callgate.disk.media.spool import spool

_COMMANDS: Final = {"gzip": "gzip -d", "xz": "xz -d", "bzip2": "bzip2 -d", "zstd": "zstd -d"}
_CHUNK: Final = 1 << 20
_XZ_MEMORY: Final = 512 << 20  # bytes; xz -9 needs 65 MiB


class _Decompressor(Protocol):
    """One stream of packed bytes, as `bz2`, `lzma` and the modules for Zstandard have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """The same over zlib."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


def _new(kind: str) -> _Decompressor:
    if kind == "gzip":
        return _Gzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    decompressor: _Decompressor = find_zstd().ZstdDecompressor()
    return decompressor


def _errors(kind: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that a decompressor raises when its data are damaged."""
    if kind == "zstd":
        return (find_zstd().ZstdError,)
    return {"gzip": (zlib.error,), "bzip2": (OSError, ValueError), "xz": (lzma.LZMAError,)}[kind]


class Unpacker:
    """The bytes that a compressed file gives; several streams one after another are one, as for the tools."""

    def __init__(self, file: RawFile, kind: str) -> None:
        self.file = file
        self.kind = kind
        self.errors = _errors(kind)
        self.position = 0  # in the file, of the next read
        self.given = 0
        self.ignored = 0  # bytes after the last stream that are not a stream

    def chunks(self) -> Iterator[bytes]:
        """Yield the content of the file, at most 1 MiB at once; ImageError if it is damaged or cut short."""
        rest = self._more()
        while True:
            stream: _Decompressor = _new(self.kind)
            yield from self._stream(stream, rest)
            rest = self._after(stream.unused_data)
            if not goes_on(self.kind, rest):
                self.ignored = len(rest) + self.file.size - self.position if rest else 0
                return

    def _more(self) -> bytes:
        data = self.file.read(self.position, _CHUNK)
        self.position += len(data)
        return data

    def _after(self, rest: bytes) -> bytes:
        """Return the bytes after a stream, zeros left out: the beginning of the next one, or something else."""
        while True:
            rest = rest.lstrip(b"\0")
            if len(rest) >= len(COMPRESSED[self.kind]):
                return rest
            more = self._more()
            if not more:
                return rest
            rest += more

    def _stream(self, stream: _Decompressor, data: bytes) -> Iterator[bytes]:
        while not stream.eof:
            if stream.needs_input and not data:
                data = self._more()
                if not data:
                    reason = f"its {self.kind} data end after {self.given} bytes of the image"
                    raise self._refused(f"is cut short: {reason}")
            unpacked = self._decompress(stream, data)
            data = b""
            self.given += len(unpacked)
            if unpacked:
                yield unpacked

    def _decompress(self, stream: _Decompressor, data: bytes) -> bytes:
        try:
            return stream.decompress(data, _CHUNK)
        except self.errors as error:
            raise self._refused(f"is damaged: its {self.kind} data {_reason(error)}") from None

    def _refused(self, reason: str) -> ImageError:
        return ImageError(self.file.path, reason, f"try {_COMMANDS[self.kind]}")


def _reason(error: Exception) -> str:
    if "emory" in str(error):
        return f"need more than {_XZ_MEMORY >> 20} MiB of memory to unpack"
    return f"are wrong ({error})"


def unpack(file: RawFile, kind: str) -> tuple[RawFile, list[str]]:
    """Unpack an image into a temporary file; return that, and warnings.  Closes `file`; ImageError, OSError."""
    hint = f"unpack it: {_COMMANDS[kind]}"
    try:
        if kind == "zstd" and find_zstd() is None:
            raise ImageError(
                file.path, "is compressed by zstd, which this Python cannot unpack", f"{hint}, or {INSTALL}"
            )
        unpacker = Unpacker(file, kind)
        spooled = spool(file.path, unpacker.chunks(), hint)
        spooled.host_files = file.host_files
    finally:
        file.close()
    warnings = []
    if unpacker.ignored:
        warnings.append(
            f"{file.path}: {unpacker.ignored} bytes after the {kind} data are no {kind} data and are ignored"
        )
    return spooled, warnings
