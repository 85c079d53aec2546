"""The stubs of all vectors on a bare CPU: each leaves its vector and an error code, its own or the CPU's."""

import pytest
from callgate.kernel.abi import constants

SOURCE = """
        .include "macros.inc"
        .include "traps.asm"
trap_7:
exit_thread:
ipc_gate:
.leaving:
server_gate:
.leaving:
leave_tested:
leave_end:
yield:
timer_arm:
end_of_interrupt:
run_coroutine:
timer_interrupt:
spurious:
serial_interrupt:
ahci_interrupt:
ide_interrupt:
        ret
        .data
kernel_words: .space sizeof(KernelWords)
"""
WITH_CODE = {8, 10, 11, 12, 13, 14, 17}  # SDM vol. 3, table 6-1
VECTORS = [*(vector for vector in range(20) if vector != 7), *range(32, 48)]


@pytest.fixture
def stubs(bare_cpu):
    bare_cpu.load(SOURCE)
    return bare_cpu


def test_each_stub_pushes_its_vector_and_ends_at_the_common_path(stubs):
    for vector in VECTORS:
        steps = 2 if vector in WITH_CODE else 3
        result = stubs.call(f"trap_{vector}", stack=[0xC0DE], returns=False, fuel=steps)
        pushed = [int.from_bytes(stubs.read(result.esp + at, 4), "little") for at in range(0, 8, 4)]
        cpu_pushed = stubs.before["esp"]
        assert result.eip == stubs.address("interrupt" if vector >= 32 else "trap")
        if vector in WITH_CODE:  # what the CPU pushed last is the error code
            assert (pushed[0], result.esp) == (vector, cpu_pushed - 4)
        else:
            assert (pushed, result.esp) == ([vector, 0], cpu_pushed - 8)


def test_each_gate_of_the_table_leads_to_its_stub(stubs):
    for vector in [*VECTORS, 7]:
        low, selector, access, high = (
            int.from_bytes(stubs.read(stubs.address("idt") + 8 * vector + at, 2), "little") for at in (0, 2, 4, 6)
        )
        assert low | high << 16 == stubs.address(f"trap_{vector}")
        assert selector == constants()["SELECTOR_KERNEL_CODE"]
        assert access == (0xEE00 if vector in (3, 4) else 0x8E00)  # INT3 and INTO may come from ring 3
