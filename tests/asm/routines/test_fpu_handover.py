"""The routines of asm/kernel/threads/fpu.asm alone: the registers' owner, their save areas, the cost of each step."""

import pytest
from callgate.kernel.abi.fpu import FloatingPointArea
from callgate.kernel.abi.thread import KernelWords, ThreadControlBlock
from callgate.kernel.machine.cpu.fpu import from_area

SOURCES = """
CR0_TS = 8
        .include "macros.inc"
        .include "fpu.asm"

; trap_return: what IRETD would go back to lies on the stack as CALL has left it.
trap_return:
        LEAVE_KERNEL
        popad
        add     esp, TRAP_CODES_SIZE
        ret

; trap_policy: the same, and EAX tells that it was reached.
trap_policy:
        LEAVE_KERNEL
        popad
        mov     eax, 0xdead
        add     esp, TRAP_CODES_SIZE
        ret

use:    fld1
        movd    xmm0, eax
        ret

        .bss
        .align 16
kernel_words:
        .space  sizeof(KernelWords)
"""
ME, OTHER = 0x38, 0x40  # selectors of FS and GS
MY_BLOCK, OTHER_BLOCK = 0x20000, 0x21000
USER_CODE, KERNEL_CODE = 0x1B, 0x08
CR0_TS, CR0_NE, CR4_OSFXSR = 8, 0x20, 0x600


def area(mark: int) -> FloatingPointArea:
    made = FloatingPointArea(control=0x37F, mxcsr=0x1F80, tags=0xFF)
    made.stack[:] = [mark] * 10 + [0] * 6 + [0] * 112
    made.xmm[:] = [mark] * 128
    return made


class Handover:
    """A bare CPU between two threads."""

    def __init__(self, cpu) -> None:
        self.cpu = cpu
        cpu.load(SOURCES)
        cpu.machine.cpu.cr0 |= CR0_TS | CR0_NE
        cpu.machine.cpu.cr4 |= CR4_OSFXSR
        cpu.segment("fs", MY_BLOCK)
        cpu.segment("gs", OTHER_BLOCK)
        cpu.place(ThreadControlBlock, MY_BLOCK, selector=ME)
        self.words = cpu.program.address("kernel_words")
        self.put(current=ME, next=OTHER)
        for block, mark in ((MY_BLOCK, 0x11), (OTHER_BLOCK, 0x22)):
            cpu.write(block + ThreadControlBlock.fpu.offset, bytes(area(mark)))

    def put(self, **fields: int) -> None:
        self.cpu.place(KernelWords, self.words, **fields)

    def word(self, name: str) -> int:
        return int(self.cpu.field(KernelWords, self.words, name))

    def trap(self, code_selector: int = USER_CODE):
        """Call trap_7 as the CPU would enter it: EIP, as CALL pushes it, and CS above it."""
        return self.cpu.call("trap_7", stack=(code_selector,), eax=5, ecx=6)

    def kept(self, block: int):
        return from_area(self.cpu.read(block + ThreadControlBlock.fpu.offset, 512))

    @property
    def locked(self) -> bool:
        return bool(self.cpu.machine.cpu.cr0 & CR0_TS)


@pytest.fixture
def handover(bare_cpu):
    return Handover(bare_cpu)


def test_the_first_use_loads_the_threads_own_registers(handover):
    result = handover.trap()
    assert handover.cpu.machine.fpu == from_area(bytes(area(0x11)))
    assert (handover.word("fpu_owner"), handover.word("fpu_live"), handover.locked) == (ME, 1, False)
    assert (result.eax, result.ecx) == (5, 6)
    assert result.instructions <= 34


def test_registers_of_another_thread_are_kept_in_its_block_first(handover):
    handover.put(fpu_owner=OTHER)
    handover.cpu.machine.cpu.cr0 &= ~CR0_TS
    handover.cpu.call("use", eax=0x77)
    before = handover.cpu.machine.fpu
    handover.cpu.machine.cpu.cr0 |= CR0_TS
    handover.trap()
    assert handover.kept(OTHER_BLOCK) == before
    assert handover.cpu.machine.fpu == from_area(bytes(area(0x11)))
    assert handover.word("fpu_owner") == ME


def test_the_owner_gets_back_what_it_left_without_a_load_or_a_store(handover):
    handover.put(fpu_owner=ME)
    before = handover.cpu.machine.fpu
    result = handover.trap()
    assert handover.cpu.machine.fpu == before
    assert handover.kept(MY_BLOCK) == from_area(bytes(area(0x11)))
    assert (handover.word("fpu_live"), handover.locked) == (1, False)
    assert result.instructions <= 30


def test_a_use_of_the_registers_by_the_kernel_itself_is_reported_to_policy_which_panics(handover):
    assert handover.trap(KERNEL_CODE).eax == 0xDEAD
    assert (handover.word("fpu_owner"), handover.word("fpu_live"), handover.locked) == (0, 0, True)


def test_a_thread_that_leaves_the_cpu_locks_the_registers_and_stays_their_owner(handover):
    handover.trap()
    result = handover.cpu.call("fpu_leave")
    assert (handover.word("fpu_owner"), handover.word("fpu_live"), handover.locked) == (ME, 0, True)
    assert result.instructions <= 8


def test_a_thread_that_runs_on_itself_keeps_the_registers_unlocked(handover):
    handover.trap()
    handover.put(next=ME)
    handover.cpu.call("fpu_leave")
    assert (handover.word("fpu_live"), handover.locked) == (1, False)


def test_handing_over_the_registers_leaves_the_word_beside_the_flag_alone(handover):
    handover.put(arm_timer=0x1234)
    handover.trap()
    handover.cpu.call("fpu_leave")
    assert handover.word("arm_timer") == 0x1234


def test_the_end_of_the_owner_empties_the_registers(handover):
    handover.trap()
    handover.cpu.call("fpu_drop")
    clean = from_area(bytes(FloatingPointArea(control=0x37F, mxcsr=0x1F80)))
    assert handover.cpu.machine.fpu == clean
    assert (handover.word("fpu_owner"), handover.word("fpu_live"), handover.locked) == (0, 0, True)


def test_the_end_of_another_thread_leaves_the_owners_registers_alone(handover):
    handover.put(fpu_owner=OTHER)
    before = handover.cpu.machine.fpu
    result = handover.cpu.call("fpu_drop")
    assert handover.cpu.machine.fpu == before
    assert (handover.word("fpu_owner"), handover.locked) == (OTHER, True)
    assert result.instructions <= 4
