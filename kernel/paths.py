"""Paths of programs: absolute ones, and those that begin in a current directory."""


def absolute(directory: bytes, path: bytes) -> bytes:
    """Return a path that begins at a directory: no `.` is left in it, and `..` has taken the name before it away."""
    names: list[bytes] = []
    for name in (directory + b"/" + path).split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name not in {b"", b"."}:
            names.append(name)
    return b"/" + b"/".join(names) + b"/" * (path.endswith(b"/") and bool(names))
