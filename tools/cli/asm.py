"""`callgate asm`: assemble a source into an ELF executable or a flat binary, with a listing if wanted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.asm.assembler.output.debug.dwarf import Debugging

STANDARD_INPUT: Final = Path("-")
STANDARD_OUTPUT: Final = Path("-")
ALIGNMENTS: Final = {"elf": 4096, "binary": 16}  # of sections, in bytes
TOP: Final = 1 << 32
EPILOG = """\b
Examples:
  callgate asm hello.asm                    writes hello.elf
  callgate asm hello.asm -o hello --listing prints the listing, too
  callgate asm hello.asm -o - > hello       writes to standard output
  callgate asm shell.asm -I lib             finds what lies in lib
  gcc -S -masm=intel -m32 -o - f.c | callgate asm - -o f.elf
  callgate asm boot.asm --format binary --origin 0x7c00

.include looks beside the file that names it, in the folders of -I, then among the sources that come with callgate:
system.inc has the system calls, file.asm reads files (docs/writing-a-program.md). A program at the default origin runs
in ring 3: put it on a disk and type its name.

What does not come from a file (-, /dev/stdin, a pipe) goes to standard output, unless -o names a file.
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write [SOURCE with .elf or .bin].")
@click.option(
    "--format",
    "kind",
    type=click.Choice(tuple(ALIGNMENTS)),
    default="elf",
    show_default=True,
    help="elf: an executable with symbols and lines; binary: the bytes of memory from the first section on.",
)
@click.option("-I", "--include", type=click.Path(path_type=Path), multiple=True, help="A folder for .include.")
@click.option("--origin", default="0x400000", show_default=True, help="Linear address of the first section.")
@click.option("--entry", default="start", show_default=True, help="Label where the program starts.")
@click.option("--listing", is_flag=True, help="Print addresses, bytes and lines to standard output.")
@click.option("--symbols", type=click.Path(path_type=Path), help="Write a symbol file, as nm prints it.")
def asm(
    source: Path,
    output: Path | None,
    kind: str,
    include: tuple[Path, ...],
    origin: str,
    entry: str,
    listing: bool,
    symbols: Path | None,
) -> int:
    """Assemble SOURCE (Intel syntax; docs/assembler.md; - is standard input) into an ELF32 file or a flat binary."""
    from callgate.asm.assembler import AsmErrors

    target = output or _default_output(source, kind)
    _check_outputs(target, symbols, listing=listing)
    try:
        align = ALIGNMENTS[kind]
        program = _assemble(source, _address(origin, align), entry, [_folder(path) for path in include], align)
        data = program.elf(debug=_debugging()) if kind == "elf" else program.binary()
    except AsmErrors as errors:
        click.echo(str(errors), err=True)
        return 1
    except OSError as error:
        raise click.FileError(str(source), error.strerror or str(error)) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    _write(program, data, target, symbols)
    if listing:
        click.echo(program.listing(), nl=False)
    return 0


def _debugging() -> Debugging:
    """Return what debuggers are to know beside the program: the ABI's structures."""
    from callgate.asm.assembler.output.debug.dwarf import Debugging
    from callgate.kernel.programs.images import abi_types

    return Debugging(abi_types())


def _assemble(source: Path, origin: int, entry: str, include: list[Path], align: int) -> Program:
    """Assemble a file or standard input; AsmErrors, OSError."""
    from callgate.asm.assembler import assemble, assemble_text
    from callgate.asm.assembler.language.source import decode
    from callgate.tools.asmtest.board.programs import shipped_folders

    folders = include + shipped_folders()
    if source != STANDARD_INPUT:
        return assemble(source, origin=origin, entry=entry, include_dirs=folders, align=align)
    text = decode(sys.stdin.buffer.read())
    here = [Path(), *folders]
    return assemble_text(text, name="<stdin>", origin=origin, entry=entry, include_dirs=here, align=align)


def _default_output(source: Path, kind: str) -> Path:
    """Return the default of -o: a name beside the source file, else standard output."""
    top = source.absolute().parts[1:3]
    stream = source == STANDARD_INPUT or (top[:1] in (("dev",), ("proc",)) and top != ("dev", "shm"))
    if not stream and (source.is_file() or not source.exists()):
        suffix = ".elf" if kind == "elf" else ".bin"
        return source.with_suffix(suffix) if source.name else source
    if source.is_dir():
        return source  # told when it is read
    if sys.stdout.isatty():
        raise click.UsageError(f"the program made of {source} would go to the terminal; name a file with -o")
    return STANDARD_OUTPUT


def _address(text: str, align: int) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number", param_hint="--origin") from None
    if not 0 <= value < TOP:
        raise click.BadParameter(f"{text} is not a 32-bit address; write 0 to 0xffffffff", param_hint="--origin")
    if value % align:
        below, above = value // align * align, -(-value // align) * align
        hint = f"sections begin at multiples of {align}; write {below:#x} or {above:#x}"
        raise click.BadParameter(f"{text} is not an address of a section here; {hint}", param_hint="--origin")
    return value


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise click.BadParameter(f"{path} is not a folder", param_hint="-I")
    return path


def _check_outputs(target: Path, symbols: Path | None, *, listing: bool) -> None:
    """Refuse two outputs in one file."""
    if symbols is not None and _same(symbols, target):
        raise click.UsageError(f"the program and its symbols cannot both be written to {target}")
    if listing and STANDARD_OUTPUT in (target, symbols):
        raise click.UsageError("the listing goes to standard output; write the other to a file")


def _write(program: Program, data: bytes, target: Path, symbols: Path | None) -> None:
    """Write the requested outputs; never over a source."""
    from callgate.tools.session.outputs import is_elf, is_symbol_file, may_be_flat, refuse_foreign

    for path in (target, symbols):
        if path is not None and any(_same(path, name) for name in program.sources):
            raise click.UsageError(f"{path} is a source of the program; give another name with -o")
    if is_elf(data):
        refuse_foreign(target, is_elf, "ELF file")
    else:
        refuse_foreign(target, may_be_flat, "flat binary")
        _refuse_image(target)
    if symbols is not None:
        refuse_foreign(symbols, is_symbol_file, "symbol file")
    _write_file(target, data)
    if symbols is not None:
        _write_file(symbols, program.symbol_file().encode())


def _refuse_image(path: Path) -> None:
    """Refuse to write a flat binary over an image with a file system: they cannot be distinguished otherwise."""
    if not path.is_file():
        return
    from callgate.disk.media import ImageError
    from callgate.tools.inspection.volumes import ImageVolumes

    try:
        with ImageVolumes(path):
            pass
    except (ImageError, OSError):
        return
    raise click.UsageError(f"{path} is a disk image with files; give another name, or remove it")


def _same(path: Path, other: Path | str) -> bool:
    """Whether two names mean one file."""
    try:
        return path.samefile(other)
    except OSError:
        return path.absolute() == Path(other).absolute()


def _write_file(path: Path, data: bytes) -> None:
    try:
        if path == STANDARD_OUTPUT:
            click.echo(data, nl=False)
        else:
            path.write_bytes(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if path == STANDARD_OUTPUT else str(path)
        raise click.FileError(name, error.strerror or str(error)) from None
