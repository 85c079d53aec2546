"""`callgate asm`: assemble a source file into an ELF executable, with a listing if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from callgate.tools.outputs import is_elf, is_symbol_file, refuse_foreign

if TYPE_CHECKING:
    from callgate.asm.assembler import Program

STANDARD_OUTPUT: Final = Path("-")
TOP: Final = 1 << 32
EPILOG = """\b
Examples:
  callgate asm hello.asm                    writes hello.elf
  callgate asm hello.asm -o hello --listing prints the listing, too
  callgate asm hello.asm -o - > hello       writes to standard output
  callgate asm shell.asm -I lib             finds what lies in lib

.include looks beside the file that names it, in the folders of -I, then among the sources that come with callgate:
system.inc has the system calls, file.asm reads files (docs/writing-a-program.md). A program at the default origin runs
in ring 3: put it on a disk and type its name.
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="ELF file to write [SOURCE with .elf].")
@click.option("-I", "--include", type=click.Path(path_type=Path), multiple=True, help="A folder for .include.")
@click.option("--origin", default="0x400000", show_default=True, help="Linear address of the first section.")
@click.option("--entry", default="start", show_default=True, help="Label where the program starts.")
@click.option("--listing", is_flag=True, help="Print addresses, bytes and lines to standard output.")
@click.option("--symbols", type=click.Path(path_type=Path), help="Write a symbol file, as nm prints it.")
def asm(
    source: Path,
    output: Path | None,
    include: tuple[Path, ...],
    origin: str,
    entry: str,
    listing: bool,
    symbols: Path | None,
) -> int:
    """Assemble SOURCE (Intel syntax; docs/assembler.md) into an ELF32 file with symbols and line table."""
    from callgate.asm.assembler import AsmErrors, assemble
    from callgate.tools.asmtest.programs import shipped_folders

    target = output or (source.with_suffix(".elf") if source.name else source)
    _check_outputs(target, symbols, listing=listing)
    folders = [_folder(path) for path in include] + shipped_folders()
    try:
        program = assemble(source, origin=_address(origin), entry=entry, include_dirs=folders)
    except AsmErrors as errors:
        click.echo(str(errors), err=True)
        return 1
    except OSError as error:
        raise click.FileError(str(source), error.strerror or str(error)) from None
    _write(program, target, symbols)
    if listing:
        click.echo(program.listing(), nl=False)
    return 0


def _address(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number", param_hint="--origin") from None
    if not 0 <= value < TOP:
        raise click.BadParameter(f"{text} is no 32-bit address; write 0 to 0xffffffff", param_hint="--origin")
    return value


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise click.BadParameter(f"{path} is no folder", param_hint="-I")
    return path


def _check_outputs(target: Path, symbols: Path | None, *, listing: bool) -> None:
    """Refuse two things in one place."""
    if symbols is not None and _same(symbols, target):
        raise click.UsageError(f"the program and its symbols cannot both be written to {target}")
    if listing and STANDARD_OUTPUT in (target, symbols):
        raise click.UsageError("the listing goes to standard output; write the other to a file")


def _write(program: Program, target: Path, symbols: Path | None) -> None:
    """Write what is wanted; never over a source."""
    for path in (target, symbols):
        if path is not None and any(_same(path, name) for name in program.sources):
            raise click.UsageError(f"{path} is a source of the program; give another name with -o")
    refuse_foreign(target, is_elf, "ELF file")
    if symbols is not None:
        refuse_foreign(symbols, is_symbol_file, "symbol file")
    try:
        _write_file(target, program.elf())
        if symbols is not None:
            _write_file(symbols, program.symbol_file().encode())
    except OSError as error:
        raise click.FileError(str(error.filename), error.strerror or str(error)) from None


def _same(path: Path, other: Path | str) -> bool:
    """Whether two names mean one file."""
    try:
        return path.samefile(other)
    except OSError:
        return path.absolute() == Path(other).absolute()


def _write_file(path: Path, data: bytes) -> None:
    if path == STANDARD_OUTPUT:
        click.echo(data, nl=False)
    else:
        path.write_bytes(data)
