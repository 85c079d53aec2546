"""One case of a `test_*.asm` file, run by its name without pytest, as a recording that a debugger opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from callgate.asm.assembler import AsmError, AsmErrors
from callgate.asm.assembler.language.source import decode
from callgate.kernel.common.near_miss import nearest
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.bare.logging_run import NotRepeatable, recording_of_calls
from callgate.tools.asmtest.board.places import shown_errors, shown_file
from callgate.tools.asmtest.cases.directives import as_written, parse, with_code
from callgate.tools.asmtest.cases.runner import CaseFailure, check_cases
from callgate.tools.asmtest.cases.unit import Unit, abi_of
from callgate.tools.asmtest.cases.variants import variants
from callgate.tools.recording import RunDiffers

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.tools.asmtest.bare.convention import Convention
    from callgate.tools.asmtest.cases.directives import Case
    from callgate.tools.asmtest.objects.linking import External

BETWEEN: Final = "::"  # a file and a case, as pytest writes them
SHOWN: Final = 4  # names of cases in a message
BY_PYTEST: Final = "run pytest --asm-record, and open the recording"


class NoCase(Exception):
    """A case that cannot be run by its name: the reason, and what to do."""


class Ran(NamedTuple):
    """A case that has been run: its recording, and why it does not hold, "" if it does."""

    recording: str
    failure: str


def run_alone(file: Path, name: str, root: Path) -> Ran:
    """Run the case of a name, as pytest shows it, or the only one; NoCase, with places relative to the folder `root`.

    What pytest's ini file says (`callgate_include`, `callgate_abi`) is not known here.
    """
    path = file.absolute()
    cases: list[Case] = []
    cpu = BareCpu(root=root)
    try:
        text = decode(path.read_bytes())
        cases = parse(text, shown_file(str(path), root))
        case = chosen(file, name, cases)
        program, external = program_for(path, with_code(text, cases), case, cpu)
        return Ran(*ran(case, program, cpu, abi_of(case, "none"), external))
    except AsmError as error:
        raise NoCase(f"{shown_errors(AsmErrors([error]), root)}") from None
    except AsmErrors as errors:
        named = AsmErrors([as_written(error, str(path), cases) for error in errors.errors])
        raise NoCase(f"{shown_errors(named, root)}") from None
    except (NotRepeatable, RunDiffers) as error:
        raise NoCase(f"{error}; {BY_PYTEST}") from None
    except OSError as error:
        raise NoCase(f"{shown_file(str(error.filename), root)} cannot be read: {error.strerror}") from None
    finally:
        cpu.close()


def chosen(file: Path, name: str, cases: list[Case]) -> Case:
    """Return a case by its name, with its values of `;@ each`; NoCase lists those that there are."""
    known = {title: variant for case in cases for title, variant in variants(case)}
    if not known:
        raise NoCase("has no case; docs/testing.md says how one is written")
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    near = nearest(name, known, SHOWN) or list(known)[:SHOWN]
    listed = ", ".join(repr(f"{file}{BETWEEN}{title}") for title in near) + (", …" if len(near) < len(known) else "")
    raise NoCase(f"has no case {name!r}; there is {listed}" if name else f"has {len(known)} cases; name one: {listed}")


def program_for(path: Path, source: str, case: Case, cpu: BareCpu) -> tuple[Program, dict[str, External]]:
    """Return the program of a case, and the names that objects lack; AsmError, AsmErrors, NoCase."""
    if case.settings("fixture"):
        raise NoCase(f"the case asks for a fixture of pytest; {BY_PYTEST}")
    if not case.settings("object"):
        return cpu.programs.text(source, path), {}
    return Unit(source, path, cpu.objects).program(case, no_fixture)


def no_fixture(name: str) -> External:
    """LookupError: there is no pytest."""
    raise LookupError(f"there is no fixture {name}")


def ran(
    case: Case, program: Program, cpu: BareCpu, convention: Convention | None, external: dict[str, External]
) -> tuple[str, str]:
    """Run a case; return its recording, and why it does not hold."""
    failure = ""
    try:
        check_cases(case, program, cpu, convention, external)
    except CaseFailure as error:
        failure = error.reason
    return recording_of_calls(cpu, case.name), failure
