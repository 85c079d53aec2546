"""The bus master beside the UART: pieces of memory are sent in order, and what is no RAM is refused."""

import struct

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY

DMA, DATA = 0x400, 0x3F8
PIECE, TEXT = 0x2000, 0x3000


@pytest.fixture
def send(machine):
    """Have a piece sent; return how many bytes that is."""

    def send(address, length, *, piece=PIECE, port=DMA, size=4):
        machine.ram.write(PIECE, struct.pack("<QII", address, length, 0))
        machine.ports.bus.write(port, size, piece)
        return machine.ports.bus.read(DMA, 4)

    return send


@pytest.fixture
def sent(machine):
    data = []
    machine.serial.output = data.append
    return data


def test_a_piece_is_sent_after_the_bytes_that_were_written_before_it(machine, send, sent):
    machine.ram.write(TEXT, b"by DMA")
    machine.ports.bus.write(DATA, 1, ord("<"))
    assert send(TEXT, 6) == 6
    machine.ports.bus.write(DATA, 1, ord(">"))
    machine.serial.flush()
    assert b"".join(sent) == b"<by DMA>"
    assert machine.ledger.dma_bytes["write"] == 6


def test_many_bytes_are_handed_on_before_there_are_too_many(machine, send, sent):
    machine.ram.write(TEXT, b"x" * 4096)
    assert (send(TEXT, 4096), sent) == (4096, [b"x" * 4096])


@pytest.mark.parametrize(
    ("address", "length", "how"),
    [
        (TEXT, 4097, {}),
        (HIGH_MEMORY - 4096, 16, {}),
        (1 << 63, 16, {}),
        (TEXT, 16, {"piece": 0xFFFF_FFF0}),
        (TEXT, 16, {"size": 2}),
        (TEXT, 16, {"port": DMA + 2, "size": 2}),
    ],
)
def test_what_is_no_piece_is_not_sent_and_counts_nothing(machine, send, sent, address, length, how):
    assert send(TEXT, 4) == 4
    machine.serial.flush()
    sent.clear()
    assert send(address, length, **how) == 0
    machine.serial.flush()
    assert sent == []


def test_the_count_is_part_of_the_machines_state(machine, send):
    assert send(TEXT, 5) == 5
    kept = machine.snapshot()
    send(TEXT, 9)
    machine.restore(kept)
    assert machine.ports.bus.read(DMA, 4) == 5
    assert machine.ports.bus.read(DMA, 2) == 0xFFFF
    machine.ports.bus.devices[DMA].reset()
    assert machine.ports.bus.read(DMA, 4) == 0
