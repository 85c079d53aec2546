"""`callgate asm`: assemble a source file into an ELF executable, with a listing if wanted."""

from importlib.resources import files
from pathlib import Path

import click

LIBRARY = ("callgate.asm.include", "callgate.asm.user")  # what programs may include without saying where it is

EPILOG = """\b
Examples:
  callgate asm hello.asm                    writes hello.elf
  callgate asm hello.asm -o hello --listing prints the listing, too
  callgate asm count.asm -I library         looks for included files there as well
"""


@click.command(epilog=EPILOG)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="ELF file to write [SOURCE with .elf].")
@click.option(
    "-I", "--include", type=click.Path(path_type=Path), multiple=True, help="Folder of included files; may be repeated."
)
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
    """Assemble SOURCE (Intel syntax; docs/assembler.md) into an ELF32 file with symbols and line table.

    Included files are looked for beside SOURCE, in the folders of -I, and among those that come with callgate:
    system.inc, file.asm, output.asm, ... (docs/writing-a-program.md).
    """
    from callgate.asm.assembler import AsmErrors, assemble

    try:
        base = int(origin, 0)
    except ValueError:
        raise click.BadParameter(f"{origin!r} is not a number", param_hint="--origin") from None
    try:
        library = [Path(str(files(package))) for package in LIBRARY]
        program = assemble(source, include_dirs=[*include, *library], origin=base, entry=entry)
    except AsmErrors as errors:
        click.echo(str(errors), err=True)
        return 1
    except OSError as error:
        raise click.FileError(str(source), error.strerror or str(error)) from None
    target = output or source.with_suffix(".elf")
    try:
        target.write_bytes(program.elf())
        if symbols:
            symbols.write_text(program.symbol_file())
    except OSError as error:
        raise click.FileError(str(error.filename), error.strerror or str(error)) from None
    if listing:
        click.echo(program.listing(), nl=False)
    return 0
