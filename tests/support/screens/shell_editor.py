"""An interactive shell on a small terminal, for tests of its line editor."""

import codecs
from collections.abc import Callable
from pathlib import Path

from callgate.disk.media import ImageFile
from callgate.kernel.system import System, SystemOptions
from small_terminal import SmallTerminal

FUEL = 20_000_000
PROMPT = "/d0> "
UP, DOWN, LEFT, RIGHT, HOME, END, DELETE = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C", "\x1b[H", "\x1b[F", "\x1b[3~"
CTRL_R, CTRL_G, TAB, BACKSPACE = "\x12", "\x07", "\t", "\x7f"


class Editor:
    """An interactive shell with a terminal; `listener` is called with the bytes for the terminal."""

    def __init__(
        self, image: Path, width: int, history: bytes | None = None, listener: Callable[[bytes], object] = len
    ) -> None:
        self.terminal = SmallTerminal(width)
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode

        def output(data: bytes) -> None:
            self.terminal.write(decode(data))
            listener(data)

        options = SystemOptions(interactive=True, columns=width, history=history, output=output)
        self.system = System([ImageFile(image)], options)
        self.type("")
        assert self.terminal.text[-1] == f"{PROMPT}|"
        self.top = len(self.terminal.text) - 1

    def type(self, keys: str | bytes) -> None:
        self.system.machine.serial.feed(keys if isinstance(keys, bytes) else keys.encode())
        self.system.run(fuel=FUEL)
        self.system.machine.serial.flush()

    def shown(self, keys: str | bytes) -> str:
        """Type keys; return the text from the prompt on, rows joined, with the cursor as |."""
        self.type(keys)
        return "".join(self.terminal.text[self.top :])

    def again(self) -> str:
        """Have the line shown anew; return what stands from the prompt on."""
        return self.shown(f"\x1b[8;0;{self.terminal.width}t")
