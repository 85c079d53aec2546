"""Sound volumes to damage, one of every kind that a server reads: small, with a little of everything, always the same.

Volumes of our formatters and zipfile are made on demand; the others were made by other people's tools and are kept
(tools/fuzz/sound/make.sh).  All is the same bytes on every machine, so that a seed names a mutant.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Literal

from callgate.disk.formatters import exfat
from callgate.disk.formatters.fat import Target
from callgate.disk.images.builder import create_image
from callgate.disk.images.tree import read_host_tree
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.tools.fuzz.kinds import Kind

DATE = 1_795_435_200  # 2026-11-23 12:00 UTC, that of every file made here
FILES = {
    "README.TXT": b"fuzz me\n" * 300,
    "EMPTY.DAT": b"",
    "A rather long file name.text": bytes(range(256)) * 60,
    "docs/note.txt": b"x" * 5000,
    "docs/deeper/LAST.BIN": b"y" * 40_000,
}


def sound_image(kind: Kind) -> bytes:
    """Return the volume of a kind, in whole sectors."""
    match kind:
        case "fat12" | "fat16" | "fat32" | "exfat":
            return _formatted(kind)
        case "zip":
            return _archive()
    return gzip.decompress((files("callgate.tools.fuzz") / "sound" / f"{kind}.img.gz").read_bytes())


def _formatted(kind: Literal["fat12", "fat16", "fat32", "exfat"]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tree, out = Path(folder) / "tree", Path(folder) / "out.img"
        for name, data in FILES.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if kind == "exfat":
            return _scattered_exfat(out, tree)
        create_image(out, tree, fs=kind, date=DATE)
        return out.read_bytes()


def _scattered_exfat(out: Path, tree: Path) -> bytes:
    """Return a volume on which some files are chained in the FAT and some are not."""
    nodes, _ = read_host_tree(tree, DATE)
    geometry = exfat.plan(2048)
    with out.open("wb+") as file:
        file.truncate(geometry.sectors * SECTOR_SIZE)
        target = Target(file.fileno(), 0)
        exfat.ExfatWriter(target, geometry, "FUZZ", scattered=lambda node: len(node.name) % 2 == 0).write(nodes)
    return out.read_bytes()


def _archive() -> bytes:
    """Return an archive of stored and deflated entries, one of them with ZIP64 sizes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, (name, data) in enumerate(FILES.items()):
            entry = zipfile.ZipInfo(name, (2026, 11, 23, 12, 0, 0))
            entry.compress_type = zipfile.ZIP_STORED if number % 2 else zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=name == "docs/note.txt") as file:
                file.write(data)
        archive.comment = b"FUZZ"
    return out.getvalue().ljust(-(-out.tell() // SECTOR_SIZE) * SECTOR_SIZE, b"\0")
