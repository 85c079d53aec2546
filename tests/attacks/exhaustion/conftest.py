"""Programs that start themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.asm.assembler.cache import assemble_cached
from callgate.disk.images.builder import create_image
from callgate.kernel.programs.images import source

PROGRAMS = Path(__file__).parents[1] / "programs"


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return an image whose BOMB is made with `THREADS` and `HEAP`, and which has a text beside it."""

    def make(**defines: int) -> Path:
        folder = tmp_path_factory.mktemp("bomb")
        tree = folder / "tree"
        tree.mkdir()
        include = [PROGRAMS, source("callgate.asm.include", "")]
        program = assemble_cached(PROGRAMS / "bomb.asm", include_dirs=include, defines=defines)
        (tree / "BOMB").write_bytes(program.elf(debug=False))
        (tree / "TEXT.TXT").write_bytes(b"still here\n")
        create_image(folder / "disk.img", tree, fs="fat16", size=8 << 20)
        return folder / "disk.img"

    return make
