"""Zstandard, where Python has it: in its library from 3.14 on, before by the package backports.zstd."""

from functools import cache
from importlib import import_module
from typing import Any, Final

INSTALL: Final = "install backports.zstd (pip install 'callgate[zstd]')"


@cache
def find_zstd() -> Any:
    """Return the module that unpacks Zstandard, None if there is none."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def unpack_zstd(data: bytes, size: int) -> bytes:
    """Return at most `size` bytes of one frame; ValueError if it is damaged."""
    module = find_zstd()
    try:
        unpacked: bytes = module.ZstdDecompressor().decompress(data, size)
    except module.ZstdError as error:
        raise ValueError(str(error)) from None
    return unpacked
