"""Which of many pages differ from what was kept of them last, and their new copies: in host code, or in Python.

The pages of a checkpoint are cold, and so is all of Python's that a loop over them touches: 3 µs a page.  In host code
it is what their memory takes to come, 0.5 µs.  A test holds the two against each other.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from array import array
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.memory.page_map import WORDS_OF_RUN, PageMap
from callgate.kernel.machine.memory.page_store import NO_PAGE, PageStore, differ

WORD: Final = 8  # bytes


class Work(ctypes.Structure):
    """What the host code reads and writes.

    `runs` is the address of `count` pairs of addresses, `stride` bytes from one to the next: the beginning and the end
    of pages side by side, all of memory that begins at `base`.  `last` is the address of a word for each page there:
    where the page kept last is.  `free` is the address of `left` words, of which it takes the last ones: addresses of
    room.  At `changed` it writes the numbers of the pages that differ and at `kept` where each is kept now; it returns
    how many they are.
    """

    _fields_ = [
        ("runs", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("base", ctypes.c_uint64),
        ("last", ctypes.c_uint64),
        ("free", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("changed", ctypes.c_uint64),
        ("zeros", ctypes.c_uint64),
        ("stride", ctypes.c_uint64),
        ("kept", ctypes.c_uint64),
    ]


# keep(rdi=address of a Work): rax.  R8 is the work, RBX and RBP the page and the end of its run, R12 its number, R13
# the words of `last`, R11 how many have changed.
KEEP_TEMPLATE: Final = """
    push rbx
    push rbp
    push r12
    push r13
    mov r8, rdi
    mov r9, [r8+{runs}]
    mov r10, [r8+{count}]
    mov r13, [r8+{last}]
    xor r11d, r11d
next_run:
    test r10, r10
    jz finish
    dec r10
    mov rbx, [r9]
    mov rbp, [r9+8]
    add r9, [r8+{stride}]
next_page:
    cmp rbx, rbp
    jae next_run
    mov r12, rbx
    sub r12, [r8+{base}]
    shr r12, {page_shift}
    mov rdx, [r13+r12*8]
    xor ecx, ecx
compare:
    movdqu xmm0, [rbx+rcx]
    movdqu xmm1, [rdx+rcx]
    movdqu xmm2, [rbx+rcx+16]
    movdqu xmm3, [rdx+rcx+16]
    movdqu xmm4, [rbx+rcx+32]
    movdqu xmm5, [rdx+rcx+32]
    movdqu xmm6, [rbx+rcx+48]
    movdqu xmm7, [rdx+rcx+48]
    pcmpeqb xmm0, xmm1
    pcmpeqb xmm2, xmm3
    pcmpeqb xmm4, xmm5
    pcmpeqb xmm6, xmm7
    pand xmm0, xmm2
    pand xmm4, xmm6
    pand xmm0, xmm4
    pmovmskb eax, xmm0
    cmp eax, 0xffff
    jne differs
    add ecx, 64
    cmp ecx, {page_size}
    jb compare
    jmp done
differs:
    xor ecx, ecx
zero:
    mov rax, [rbx+rcx]
    or rax, [rbx+rcx+8]
    jnz copy
    add ecx, 16
    cmp ecx, {page_size}
    jb zero
    mov rax, [r8+{zeros}]
    jmp note
copy:
    mov rcx, [r8+{left}]
    dec rcx
    mov [r8+{left}], rcx
    mov rax, [r8+{free}]
    mov rax, [rax+rcx*8]
    mov rdi, rax
    mov rsi, rbx
    mov ecx, {page_size} / 8
    cld
    rep movsq
note:
    mov [r13+r12*8], rax
    mov rsi, [r8+{changed}]
    mov [rsi+r11*8], r12
    mov rsi, [r8+{kept}]
    mov [rsi+r11*8], rax
    inc r11
done:
    add rbx, {page_size}
    jmp next_page
finish:
    mov rax, r11
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"""


def source_of(template: str) -> str:
    """Return the assembly source of a routine with offsets in place of names."""
    offsets = {name: getattr(Work, name).offset for name, *_ in Work._fields_}
    return template.format(**offsets, page_shift=PAGE_SHIFT, page_size=PAGE_SIZE)


# What GNU as and Keystone make of the source above; a test assembles it again.
KEEP_CODE: Final = bytes.fromhex(
    "5355415441554989f84d8b084d8b50084d8b68184531db4d85d20f84eb00000049ffca498b19498b69084d0348404839"
    "eb73e44989dc4d2b601049c1ec0c4b8b54e50031c9f30f6f040bf30f6f0c0af30f6f540b10f30f6f5c0a10f30f6f640b"
    "20f30f6f6c0a20f30f6f740b30f30f6f7c0a30660f74c1660f74d3660f74e5660f74f7660fdbc2660fdbe6660fdbc466"
    "0fd7c03dffff0000750d83c14081f90010000072a0eb5831c9488b040b480b440b08751183c11081f90010000072ea49"
    "8b4038eb22498b482848ffc949894828498b4020488b04c84889c74889deb900020000fcf348a54b8944e500498b7030"
    "4e8924de498b70484a8904de49ffc34881c300100000e923ffffff4c89d8415d415c5d5bc3"
)
Routine = ctypes.PYFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)


@cache
def routine() -> ctypes._FuncPointer | None:
    """Return the host code; None where there can be none: on another processor, or without executable memory."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    page[: len(KEEP_CODE)] = KEEP_CODE
    function = Routine(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    function.page = page  # type: ignore[attr-defined]  # for as long as it can be called
    return function


class Found(NamedTuple):
    """Pages that differ from what was kept of them last."""

    numbers: array[int]
    kept: array[int]  # where each is kept now


class LastPages:
    """What was kept last of each page of some memory."""

    def __init__(self, store: PageStore, address: int, size: int) -> None:
        """Take where pages are kept, and the memory; all of it was zeros."""
        self.store = store
        self.address = address
        pages = size >> PAGE_SHIFT
        self.kept = array("Q", [NO_PAGE]) * pages
        self.changed, self.kept_now = (array("Q", bytes(WORD * pages)) for _ in range(2))
        self.work = Work(base=address, zeros=NO_PAGE)
        self.work.last, self.work.changed = address_of(self.kept), address_of(self.changed)
        self.work.kept = address_of(self.kept_now)

    def forget(self) -> None:
        """Take all for zeros again."""
        self.kept[:] = array("Q", [NO_PAGE]) * len(self.kept)

    def keep(self, runs: list[tuple[int, int]]) -> Found:
        """Keep the pages of (start, end) offsets that differ from the ones kept last, and return them."""
        if routine() is None:
            return self._keep(runs)
        places = array("Q", [self.address + place for place in chain.from_iterable(runs)])
        pages = (sum(places[1::2]) - sum(places[::2])) // PAGE_SIZE
        return self._keep_found(address_of(places), len(runs), 2 * WORD, pages)

    def keep_copies(self, page_map: PageMap) -> tuple[Found, int] | None:
        """Do the same with the pages that the host has copies of; return how many they are, too.

        None, and nothing is done, where that takes more than one question to the host.
        """
        if routine() is None:
            return None
        try:
            count = page_map.scan_copies()
        except OSError:
            return None
        words = page_map.words[: WORDS_OF_RUN * count].tolist()
        pages = (sum(words[1::WORDS_OF_RUN]) - sum(words[::WORDS_OF_RUN])) // PAGE_SIZE
        return self._keep_found(ctypes.addressof(page_map.runs), count, WORDS_OF_RUN * WORD, pages), pages

    def _keep_found(self, runs: int, count: int, stride: int, pages: int) -> Found:
        host, store, work = routine(), self.store, self.work
        assert host is not None
        store.make_room(pages)
        work.runs, work.count, work.stride = runs, count, stride
        work.free, work.left = address_of(store.free), len(store.free)
        changed = host(ctypes.addressof(work))
        del store.free[work.left :]
        return Found(self.changed[:changed], self.kept_now[:changed])

    def _keep(self, runs: list[tuple[int, int]]) -> Found:
        """Do the same in Python."""
        found = Found(array("Q"), array("Q"))
        for start, end in runs:
            for offset in range(start, end, PAGE_SIZE):
                number = offset >> PAGE_SHIFT
                if differ(self.address + offset, self.kept[number], PAGE_SIZE):
                    page = self.kept[number] = self.store.put(self.address + offset)
                    found.numbers.append(number)
                    found.kept.append(page)
        return found


def address_of(words: array[int]) -> int:
    """Return where the words of an array are, as long as none is added."""
    return words.buffer_info()[0]
