"""The packet layer alone: framing, checksums, escapes, run-length encoding, and bytes that are none of it."""

from random import Random

import pytest
from callgate.tools.debugger.gdb.protocol.packets import MOST, Decoder, Packet, Sign, escape, frame


@pytest.mark.parametrize(
    ("sent", "payload"),
    [
        (b"$OK#9a", b"OK"),  # the examples of GDB's manual, E.1
        (b"$0* #7a", b"0000"),
        (b"$X1,1:}\x03#a0", b"X1,1:#"),
        (b"$#00", b""),
    ],
)
def test_a_packet_of_the_manual_is_read_as_the_manual_says(sent: bytes, payload: bytes) -> None:
    assert Decoder().feed(sent) == [Packet(payload)]


def test_a_packet_is_read_whatever_pieces_it_comes_in() -> None:
    stream = b"+$qSupported:multiprocess+#c6\x03$Hg0#df-"
    expected = [Sign.ACK, Packet(b"qSupported:multiprocess+"), Sign.BREAK, Packet(b"Hg0"), Sign.NAK]
    assert Decoder().feed(stream) == expected
    for size in range(1, len(stream)):
        decoder = Decoder()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [item for piece in pieces for item in decoder.feed(piece)] == expected


@pytest.mark.parametrize("sent", [b"$OK#9b", b"$a*#8b", b"$a}#de", b"$* #4a", b"$abc$OK#9a", b"$OK#zz"])
def test_a_damaged_packet_is_reported_and_the_next_one_is_read(sent: bytes) -> None:
    items = Decoder().feed(sent + b"$Hg0#df")
    assert items[0] is Sign.DAMAGED
    assert items[-1] == Packet(b"Hg0")


def test_bytes_that_need_escapes_arrive_as_they_were_sent() -> None:
    data = bytes(range(256)) * 3
    assert Decoder().feed(frame(escape(data))) == [Packet(data)]


def test_noise_without_an_end_is_dropped_and_uses_bounded_memory() -> None:
    decoder = Decoder()
    assert decoder.feed(b"noise" * 1000) == []
    assert len(decoder.buffer) == 0
    for _ in range(100):
        decoder.feed(b"$" + b"x" * MOST)
        assert len(decoder.buffer) <= 5 * MOST
    assert decoder.feed(b"#00$OK#9a")[-1] == Packet(b"OK")


def test_random_bytes_are_never_an_error() -> None:
    random, decoder = Random(15), Decoder()
    for _ in range(3000):
        decoder.feed(random.randbytes(random.randrange(40)))
        decoder.feed(bytes(random.choices(b"$#}*+-\x030123456789abcdefgmMqvXZ", k=random.randrange(40))))
