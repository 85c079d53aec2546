"""Paths as requests carry them: UTF-8, components separated by ``/``, relative to the volume's root."""

from typing import NamedTuple


class Path(NamedTuple):
    """A path taken apart; ``directory`` is True where the spelling asks for a directory ("a/")."""

    components: tuple[str, ...]
    directory: bool

    def __str__(self) -> str:
        return "/" + "/".join(self.components)


def parse_path(text: str) -> Path:
    """Take ``text`` apart: empty components and ``.`` vanish, ``..`` removes the one before it.

    This is done by spelling alone, so a damaged ``..`` entry on the disk has no effect; the root's
    ``..`` is the root.
    """
    components: list[str] = []
    parts = text.split("/")
    for part in parts:
        if part == "..":
            del components[-1:]
        elif part not in {"", "."}:
            components.append(part)
    return Path(tuple(components), not components or parts[-1] in {"", ".", ".."})
