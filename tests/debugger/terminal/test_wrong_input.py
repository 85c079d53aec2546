"""Lines that mean nothing, or ask for what cannot be: each is answered by an error that says what to do."""

import io
from collections.abc import Iterator

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import open_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench


@pytest.fixture(scope="module")
def prompt() -> Iterator[Prompt]:
    """A debugger whose system stands at the first request: no line of this file moves it."""
    with System([open_image(demo_image(cache_directory()))], SystemOptions(commands="df")) as system:
        bench = Workbench(system, History(system))
        found = Prompt(bench, io.StringIO())
        found.line("until ipc.take")
        yield found
        bench.close()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("back", "back needs another word: back step, "),
        ("step phas", "no command 'step phas'; did you mean step phase?"),
        ("list request", "no command 'list request'; did you mean list requests?"),
        ("info", "info needs another word: info break, "),
        ("when", "when FIELD == VALUE "),
        ("who writes [esp] between 5", "between A and B: two moments, "),
        ("who writes [esp] between 5 and 1", "from instruction 5 to instruction 1 is no stretch of the history: "),
        ("list requests where", "'where': list requests where CONDITION"),
        ("list requests where nonsense", "no field 'nonsense' of a request; "),
        ("list requests where count / 2", "operators are "),
        ("list requests where [0x1000] == 1", "[4096]: a condition on requests has fields of a request"),
        ("why -c", "why what? "),
        ("watch [esp] length 99999999999", "99,999,999,999 bytes: a watchpoint has at most 1,048,576"),
        ("watch [0x100000000]", "0x100000000 is no address of 32 bits"),
        ("watch request.state", "request.state is no field in memory; "),
        ("watch thread", "thread is a number, and no place in memory; [thread] is the memory at it"),
        ("watch thread.state", "thread.state is no field in memory; message, slot[N] and endpoint[N] have some"),
        ("watch endpoint[1].state[32]", "no endpoint[1].state[32]; there is 0 to 31"),
        ("print endpoint[1].foo", "endpoint[1].foo: Endpoint has no field 'foo'; there is slots, unused, free, "),
        ("print kernel_wrds", "no register, field or number 'kernel_wrds'; there is kernel_words"),
        ("set gs = 0xfff8", "gs: 0xfff8: entry 8191 lies beyond the table's limit"),
        ("set cpl = 3", "cpl cannot be changed by hand"),
        ("set eflags = 0xffffffff", "eflags: the machine has no virtual-8086 mode: "),
        ("set eax = 0x100000000", "0x100000000 does not fit: eax has 32 bits"),
        ("set ebx = -0x80000001", "-0x80000001 does not fit: ebx has 32 bits"),
        ("set byte[esp] = 256", "0x100 does not fit: byte[esp] has 8 bits"),
        ("break take_slot if", "take_slot if what? a condition: take_slot if thread == 12"),
        ("until ipc.reply if ", "ipc.reply if what? "),
        ("print mesage.error", "no register, field or number 'mesage'; there is message"),
        ("why eex", "no register, field or number 'eex'; there is eax, ebx, ecx"),
        ("break slot.asm:1", "no file 'slot.asm' in a program that runs; there is slots.asm"),
        ("break ipc.rply", "no symbol 'ipc.rply'; there is ipc.reply"),
        ("watch endpoint[9].free", "no endpoint 9; there is "),
        ("x/4q esp", "show what? [/NF] ADDRESS, as x/16b esp: N is a number, F b, h, w or g for 1, 2, 4 or 8 bytes"),
        ("x/0w esp", "0 numbers of 4 bytes: 1 to 16384 are shown at once"),
        ('print byte["a"]', "'a' is no number"),
        ('watch byte["a"]', "'a' is no number"),
        ("print [request]", "request is no number"),
        ("set eax = request", "request is no number"),
        ("set byte[request] = 3", "request is no number"),
        ("set slot[0].__class__ = 3", "__class__: not a field"),
        ("print " + 10_000_000 * "a", "no register, field or number 'aaa"),
        ("py machine.cpu.eflags = 1 << 17", "ValueError: eflags: the machine has no virtual-8086 mode: "),
        ("py machine.close()", "RuntimeError: the system is closed when you leave the debugger: quit"),
        ("py system.close()", "RuntimeError: the system is closed when you leave the debugger: quit"),
    ],
)
def test_a_line_that_cannot_be_carried_out_says_why_and_leaves_the_system_as_it_was(
    prompt: Prompt, line: str, told: str
) -> None:
    where = prompt.desk.bench.history.moment
    with pytest.raises(CommandError) as error:
        prompt.line(line)
    assert str(error.value).startswith(told)
    prompt.line("where")
    assert prompt.desk.bench.history.moment == where
