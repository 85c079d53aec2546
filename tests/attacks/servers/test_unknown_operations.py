"""What a native server answers to an operation that it does not know."""

import pytest
from callgate.kernel.abi.calls import OPERATION_SERVER_DEFINED, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.programs.images import program_image
from callgate.tools.bench.ipc import Bench

CARRY = 1
SENT = {"ebx": 0x1111, "ecx": 0x2222, "edx": 0x3333, "esi": 0x4444, "edi": 0x5555}


@pytest.mark.parametrize("operation", [Operation.VOLUME, OPERATION_SERVER_DEFINED, 0xFFFF])
@pytest.mark.parametrize("fast_path", [True, False])
def test_an_unknown_operation_is_answered_by_bad_call_and_the_registers_that_were_sent(
    operation: int, *, fast_path: bool
) -> None:
    """Neither where its page lies in the server, nor what the server has answered before."""
    bench = Bench(1, fast_path=fast_path)
    image, machine = program_image("bench_client"), bench.system.machine
    for _ in range(2):
        bench.system.run(until=image.address("after"))
        bench.system.run(until=image.address("before"))
    for name, value in SENT.items():
        setattr(machine.cpu, name, value)
    machine.cpu.ebp = bench.endpoint.number << 16 | operation
    bench.system.run(until=image.address("after"))
    assert (machine.cpu.eax, machine.cpu.eflags & CARRY) == (ErrorCode.BAD_CALL, CARRY)
    assert {name: getattr(machine.cpu, name) for name in SENT} == SENT
    bench.close()
