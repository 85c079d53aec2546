"""A Unicorn engine with low memory in it."""

from callgate.kernel.machine.memory.ram import Ram
from unicorn import UC_ARCH_X86, UC_MODE_32, UC_PROT_ALL, Uc

TCG_BUFFER = 16 << 20  # bytes of translated code; the default is 1 GiB, and long runs fill it


def new_engine(ram: Ram) -> Uc:
    """Return an engine that finds low memory at its physical addresses; the counter adds high memory."""
    engine = Uc(UC_ARCH_X86, UC_MODE_32)
    engine.ctl_set_tcg_buffer_size(TCG_BUFFER)
    low = ram.regions[0]
    engine.mem_map_ptr(low.base, low.size, UC_PROT_ALL, low.address)
    return engine
