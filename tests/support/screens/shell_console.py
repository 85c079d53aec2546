"""An interactive shell at a terminal, and the programs that its tests start."""

import re
from pathlib import Path

from callgate.asm.assembler import assemble_text
from callgate.disk.media import ImageFile
from callgate.kernel import abi
from callgate.kernel.programs.images import source
from callgate.kernel.system import System, SystemOptions
from small_terminal import columns_of

CTRL_C, TAB, LEFT, BELL = "\x03", "\t", "\x1b[D", "\a"

FUEL = 100_000_000


PROMPT = "/d0> "


SPIN = "start:  jmp start\n"


READER = """
        .include "system.inc"
start:
        SYSTEM  READ_CHARACTER
        jmp     start
"""


FLOOD = """
        .include "system.inc"
start:  mov     esi, bytes
        mov     ecx, 1 << 20
        SYSTEM  WRITE
        jmp     start
        .bss
bytes:  .space  1 << 20
"""


PARENT = """
        .include "system.inc"
start:  mov     esi, path
        mov     ecx, length
        xor     edi, edi
        SYSTEM  START_PROCESS
        xor     ebx, ebx
        SYSTEM  EXIT
        .data
path:   .ascii  "/d0/sink"
length = $ - path
"""


HOG = """
        .include "system.inc"
start:  mov     ebx, sleep
        mov     ecx, USER_STACK_TOP - 0x800
        SYSTEM  START_THREAD
        jnc     start
open:   mov     esi, path
        mov     ecx, length
        xor     edx, edx
        SYSTEM  OPEN
        jnc     open
memory: mov     ecx, 16 * PAGE_SIZE
        SYSTEM  ALLOCATE
        jnc     memory
sleep:  SYSTEM  READ_CHARACTER
        jmp     sleep
        .data
path:   .ascii  "/d0/big"
length = $ - path
"""


NAMES = 70


class Console:
    """An interactive shell, and the actions of a user at its terminal."""

    def __init__(self, image: Path) -> None:
        self.printed: list[bytes] = []
        self.system = System([ImageFile(image)], SystemOptions(interactive=True, output=self.printed.append))
        self.system.run(fuel=FUEL)
        self.kept = self.system.snapshot()

    def reset(self) -> None:
        """Go back to the first prompt."""
        self.system.restore(self.kept)
        self.screen()

    def screen(self) -> str:
        """Return the output since the last call."""
        self.system.machine.serial.flush()
        text = b"".join(self.printed).decode("utf-8", "replace")
        self.printed.clear()
        return text

    def type(self, keys: str, fuel: int = FUEL) -> str:
        """Type keys, run until the shell waits for more (or for `fuel` instructions), return the screen."""
        self.system.machine.serial.feed(keys.encode())
        self.system.run(fuel=fuel)
        return self.screen()

    def line(self, keys: str) -> str:
        """Type keys, return the line after the prompt then, with the cursor as |."""
        row = render(self.type(keys))[-1]
        return row.removeprefix(PROMPT)

    def press_ctrl_c(self) -> str:
        """Send the break that Ctrl-C is on a terminal; return the screen when the shell waits again."""
        assert self.system.machine.serial.send_break()
        stop = self.system.run(fuel=FUEL)
        assert stop.reason == "halt", stop
        return self.screen()

    def run(self, command: str) -> str:
        """Type a command, return what it prints."""
        screen = self.type(command + "\r")
        assert screen.endswith(PROMPT), screen
        return screen.removeprefix(command + "\n").removesuffix(PROMPT)


def render(text: str) -> list[str]:
    """Return the rows that a terminal shows, the cursor in the last one as |; bells are left out."""
    rows, row, column = [], [], 0
    for part in re.findall(r"\x1b\[\d*[A-Z]|[\s\S]", text.replace(BELL, "")):
        if part == "\n":
            rows.append("".join(row))
            row, column = [], 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            del row[column:]
        elif part.endswith("D") and len(part) > 1:
            column -= int(part[2:-1])
        else:
            columns = columns_of(part)
            row[column : column + columns] = [part, ""][:columns]
            column += columns
    return [*rows, "".join(row[:column]) + "|" + "".join(row[column:])]


def program(text: str) -> bytes:
    """Assemble a user program."""
    folder = source("callgate.asm.include", "system.inc").parent
    return assemble_text(text, origin=abi.memory.USER_PROGRAM, include_dirs=[folder], align=4096).elf(debug=False)
