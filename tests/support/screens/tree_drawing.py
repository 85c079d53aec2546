"""The drawing of a directory of the host that `tree` should make."""

from pathlib import Path


def rendering(folder: Path) -> list[str]:
    """Return the lines of tree for the content of a directory of the host."""
    everything = list(folder.rglob("*"))
    directories = sum(path.is_dir() and not path.is_symlink() for path in everything)
    files = len(everything) - directories
    words = ("directory" if directories == 1 else "directories", "file" if files == 1 else "files")
    return [*_lines(folder), "", f"{directories} {words[0]}, {files} {words[1]}"]


def _lines(directory: Path) -> list[str]:
    # The shell's own order is that of bytes, with ASCII letters in any case.
    entries = sorted(directory.iterdir(), key=lambda path: path.name.encode().lower())
    found = []
    for entry in entries:
        last = entry is entries[-1]
        mark = "@" if entry.is_symlink() else "/" if entry.is_dir() else ""
        found.append(f"{'`-- ' if last else '|-- '}{entry.name}{mark}")
        if entry.is_dir() and not entry.is_symlink():
            found += [f"{'    ' if last else '|   '}{line}" for line in _lines(entry)]
    return found
