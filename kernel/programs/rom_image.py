"""Building the ROM image: files and ready-made directory pages, each on its own pages."""

from collections.abc import Mapping

from callgate.kernel.abi.directory import FileAttributes, ListedFile, build_pages
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.rom import ROM_MAGIC, RomEntry, RomHeader

EXECUTABLE = FileAttributes.READ_ONLY | FileAttributes.EXECUTABLE
DIRECTORY = FileAttributes.READ_ONLY | FileAttributes.DIRECTORY


def build_rom(files: Mapping[str, bytes]) -> bytes:
    """Return the image of a read-only volume; keys are paths without a leading slash."""
    directories = directory_names(files)
    contents: dict[str, tuple[int, bytes, int]] = {}
    for name in sorted(directories):
        listed = children(name, directories, files)
        contents[name] = (DIRECTORY, build_pages(listed, 1), len(listed))
    for name, data in sorted(files.items()):
        contents[name] = (EXECUTABLE, data, 0)
    return lay_out(contents)


def directory_names(files: Mapping[str, bytes]) -> set[str]:
    """Return every directory that the files lie in, the root as the empty name."""
    names = {""}
    for path in files:
        parts = path.split("/")[:-1]
        names.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return names


def children(name: str, directories: set[str], files: Mapping[str, bytes]) -> list[ListedFile]:
    """Return a directory's entries, sorted by name and numbered in that order."""
    prefix = f"{name}/" if name else ""
    listed: list[ListedFile] = []
    for path in sorted({*directories, *files} - {""}):
        rest = path.removeprefix(prefix)
        if path.startswith(prefix) and "/" not in rest:
            attributes, size = (DIRECTORY, 0) if path in directories else (EXECUTABLE, len(files[path]))
            listed.append(ListedFile(rest, attributes, size, identifier=len(listed) + 1))
    return listed


def lay_out(contents: Mapping[str, tuple[int, bytes, int]]) -> bytes:
    """Return header, entries, paths, then every content on pages of its own."""
    paths = b""
    offset = size_of(RomHeader) + len(contents) * size_of(RomEntry)
    path_at: dict[str, int] = {}
    for name in contents:
        path_at[name] = offset + len(paths)
        paths += name.encode()
    position = align(offset + len(paths))
    entries = b""
    data = b""
    for name, (attributes, content, items) in contents.items():
        entry = RomEntry(path_at[name], len(name.encode()), attributes, position + len(data), len(content), items)
        entries += bytes(entry)
        data += content.ljust(align(len(content)), b"\0")
    head = (bytes(RomHeader(ROM_MAGIC, len(contents), position + len(data), 0)) + entries + paths).ljust(
        position, b"\0"
    )
    return head + data


def align(size: int) -> int:
    """Round up to whole pages."""
    return -(-size // PAGE_SIZE) * PAGE_SIZE
