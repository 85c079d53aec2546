"""What the decoder has said about code in earlier processes: one that asks for nothing else need not import it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from callgate.kernel.common.remembered import fingerprint
from callgate.kernel.machine.cpu import translations
from callgate.kernel.machine.engine import sites

OTHER_LIBRARY: Final = "LIBCAPSTONE_PATH"  # names another library than the package's


@contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Know what earlier processes have written into `folder`; at the end, write there what has been asked besides."""
    path = None if folder is None else path_in(folder)
    if path is None:
        yield
        return
    of_blocks = path.with_name(f"blocks-{path.name}")
    translations.answers.read(path)
    translations.block_answers.read_if_asked(of_blocks)
    try:
        yield
    finally:
        translations.answers.write(path)
        translations.block_answers.write(of_blocks)


def path_in(folder: Path) -> Path | None:
    """Return where answers of this decoder and these filters are kept; None if they cannot be told from others."""
    if os.environ.get(OTHER_LIBRARY):
        return None
    folder_of_filters = Path(__file__).parent
    shapes = folder_of_filters.parent / "blocks" / "shapes.py"  # which is not imported: few processes ask it
    sources = [*folder_of_filters.glob("*.py"), Path(translations.__file__), Path(sites.__file__), shapes]
    found = fingerprint("capstone", sources)
    return None if found is None else folder / f"code-{found}.json"
