"""Programs begin where the shell is: relative paths of every call, the directory after the arguments, children."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler import assemble_text
from callgate.kernel.abi.memory import USER_PROGRAM
from callgate.kernel.files.paths import absolute
from callgate.tools.asmtest.board.programs import shipped_folders

# The first letter of its argument says what to do with the path after it: open and write, list, start, go there (d).
PROGRAM = """
        .include "system.inc"
start:
        mov     edi, USER_ARGUMENTS
        xor     eax, eax
        or      ecx, -1
        repne scasb
        mov     [where], edi            ; after the zero: the current directory
        mov     edi, USER_ARGUMENTS
        xor     eax, eax
        or      ecx, -1
        repne scasb
        not     ecx
        sub     ecx, 2
        mov     esi, USER_ARGUMENTS + 1
        mov     al, [esi - 1]
        cmp     al, 'o'
        je      open
        cmp     al, 'l'
        je      list
        cmp     al, 'd'
        je      go
        cmp     al, 's'
        je      begin
        mov     esi, [where]
        jmp     say
open:
        mov     ebx, file
        call    file_open
        jc      failed
        mov     edi, buffer
        mov     ecx, 100
        call    file_read
        jc      failed
        mov     esi, buffer
        mov     ecx, eax
        SYSTEM  WRITE
        jmp     done
list:
        SYSTEM  LOCK_DIRECTORY
        jc      failed
        mov     ebx, edi
        SYSTEM  EXIT
go:
        SYSTEM  SET_DIRECTORY
        jc      failed
        mov     esi, name
        mov     ecx, 4
begin:
        mov     edi, nothing
        SYSTEM  START_PROCESS
        jc      failed
        mov     ebx, eax
        SYSTEM  WAIT_PROCESS
        mov     ebx, eax
        SYSTEM  EXIT
say:
        xor     ecx, ecx
.length:
        inc     ecx
        cmp     byte ptr [esi + ecx], 0
        jne     .length
        SYSTEM  WRITE
done:
        mov     esi, line_end
        mov     ecx, 1
        SYSTEM  WRITE
        xor     ebx, ebx
        SYSTEM  EXIT
failed:
        lea     ebx, [eax + 100]
        SYSTEM  EXIT
        .include "file.asm"
        .rodata
line_end:
        .byte   10
nothing:
        .byte   0
name:
        .ascii  "here"
        .bss
        .align  4
file:
        .space  sizeof(File)
where:
        .space  4
buffer:
        .space  100
        .text
"""


@pytest.fixture(scope="module")
def program() -> bytes:
    return assemble_text(PROGRAM, origin=USER_PROGRAM, include_dirs=shipped_folders(), align=4096).elf(debug=False)


@pytest.fixture
def image(fat_image: Callable[..., Path], program: bytes) -> Path:
    files = {"here": program, "docs/here": program, "docs/a.txt": b"in docs", "a.txt": b"at the top"}
    return fat_image(files)


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("here", "/d0\n"),
        ("cd docs; here; /d0/here; ../here", "/d0/docs\n/d0/docs\n/d0/docs\n"),
        ("cd /; d0/here", "/\n"),
        ("cd /rom; /d0/here", "/rom\n"),
        ("here oa.txt; here odocs/a.txt; here o./docs/../A.TXT", "at the top\nin docs\nat the top\n"),
        ("cd docs; here oa.txt; here o../a.txt; here o../../d0/a.txt", "in docs\nat the top\nat the top\n"),
        ("cd docs; here o../../../../d0/docs/a.txt; here o/d0/a.txt", "in docs\nat the top\n"),
        ("here odocs; echo $?; here onothing; echo $?", "107\n105\n"),
        ("here ldocs; echo $?; here l.; echo $?; here l..; echo $?", "2\n3\n2\n"),
        ("here shere; here sdocs/here; cd docs; here shere", "/d0\n/d0\n/d0/docs\n"),
        ("here d/d0/docs; here", "/d0/docs\n/d0\n"),
        ("here ddocs/../docs; here ddocs/", "/d0/docs\n/d0/docs/\n"),
        (f"here d/{'x' * 511}; echo $?", "108\n"),
    ],
)
def test_paths_of_programs_begin_at_their_current_directory(
    boot: Callable[..., Any], image: Path, command: str, output: str
) -> None:
    run = boot(command, image)
    assert run.output.decode() == output, run.log
    assert run.leaks() == []


@pytest.mark.parametrize(
    ("directory", "path", "made"),
    [
        (b"/d0", b"a", b"/d0/a"),
        (b"/", b"a", b"/a"),
        (b"/", b"..", b"/"),
        (b"/d0/x", b"../y/./z//", b"/d0/y/z/"),
        (b"/d0/x", b"../../..", b"/"),
        (b"/d0", b"...", b"/d0/..."),
        (b"/d0", b".", b"/d0"),
    ],
)
def test_relative_paths_are_resolved_by_their_spelling(directory: bytes, path: bytes, made: bytes) -> None:
    assert absolute(directory, path) == made


def test_arguments_longer_than_their_page_are_an_error_and_start_no_program(
    boot: Callable[..., Any], fat_image: Callable[..., Path]
) -> None:
    files = {f"a name of many letters, which fills the page of arguments {number:02}.txt": b"" for number in range(70)}
    run = boot("hello *; echo $?; hello *0.txt", fat_image(files))
    assert run.output.startswith(
        b"hello: too many arguments; at most 4095 bytes in all\n1\nhello from ring 3, arguments: a "
    )
    assert run.output.count(b"0.txt") == 7
