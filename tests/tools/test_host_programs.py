"""The tests pass on a machine that has none of the host programs that they use: those tests skip, with a reason."""

import os
import re
import subprocess
import sys
from pathlib import Path

import host_programs
import pytest

TESTS = Path(__file__).parents[1]
# What starts Python or a shell, which every machine has; all other programs are host_programs' business.
START_OUR_OWN = {
    "support/floats/host_float.py",
    "support/host_programs.py",
    "support/tools/forked.py",
    "tools/test_host_programs.py",
    "tools/cli/test_command_line.py",
    "tools/test_fuzz_images.py",
    "server/test_writing_a_server.py",
    "machine/test_facade.py",
    "machine/engine/test_translated_code.py",
    "machine/engine/test_untranslatable_code.py",
    "asm/test_assembler_cache.py",
    "asm/test_assembler_errors.py",
    "mutants/copies.py",
    "mutants/search.py",
    "units/test_every_manager.py",
    "house/test_layers.py",
    "house/test_repository.py",
    "machine/blocks/test_both_clocks_agree.py",
    "tools/conftest.py",
    "tools/test_forked.py",
    "tools/cli/test_interactive_session.py",
    "tools/test_start.py",
    "tools/cli/test_debug_options.py",
    "debugger/dap/editors/test_vscode_files.py",  # the adapter, as the extension starts it
    "debugger/dap/editors/test_vscode_client.py",  # the adapter, which a node that host_programs has found talks with
    "debugger/gdb/test_gdb_dap.py",  # a gdb that host_programs has found, which it talks with
}
STARTS = re.compile(r"^(import|from) subprocess|os\.(system|exec|spawn|popen)", re.MULTILINE)
ASK_SEVERAL = ("tools/test_fuzz_images.py", "kernel/test_symbols.py", "server/zip_archive/test_zip_archives.py")
KEYWORDS = "tools_of_others or e2fsck or zip_wrote or nm_gives"


def test_programs_of_the_host_are_started_only_where_a_missing_one_is_a_skip() -> None:
    starters = {
        str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py") if STARTS.search(path.read_text(encoding="utf-8"))
    }
    assert starters == START_OUR_OWN


def test_programs_of_the_host_are_not_started_through_a_shell_either() -> None:
    shell = re.compile(r"""(tool|run|attempt)\(["'](ba)?sh["']""")
    assert [path for path in TESTS.rglob("*.py") if shell.search(path.read_text(encoding="utf-8"))] == []


def test_a_program_that_is_missing_is_a_skip_that_names_it() -> None:
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        host_programs.run("no-such-program")


@pytest.mark.thorough(only=True)
def test_no_test_fails_without_any_program_of_the_host() -> None:
    """Some tests of every way in which they ask; the whole suite passes in the same way."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-k", KEYWORDS]
    environment = os.environ | {"CALLGATE_NO_HOST_PROGRAMS": "1"}
    tests = [str(TESTS / name) for name in ASK_SEVERAL]
    done = subprocess.run([*command, *tests], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    summary = done.stdout.splitlines()[-1]
    assert "failed" not in summary
    assert "skipped" in summary
