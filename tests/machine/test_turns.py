"""Instructions by thread: charged by host code at the instruction by which the running thread changes."""

import pytest
from callgate.kernel.machine import Machine

WORDS = 0x30_3000  # selectors of the running thread and of the next one; linear 0x403000
A, B, C = 0x208, 0x210, 0xFFF8  # C: the last selector that there is

# Ring 3 of a test is the kernel here: what counts is the instruction at `turn`, where a turn ends.
PROGRAM = """
    nop; nop
again: mov eax, [0x403004]; mov ecx, 10
spin: loop spin
turn: mov [0x403000], eax; xchg eax, [0x403008]; mov [0x403004], eax; jmp again
"""
ROUND = 16  # instructions of the loop
FIRST = 14  # instructions before the first turn ends
TURN = 0x400000 + 2 + 5 + 5 + 2


@pytest.mark.parametrize("counter", ["native", "python", "blocks"])
def test_instructions_are_charged_to_the_thread_whose_turn_it_was(make_board, counter: str) -> None:
    machine = Machine(memory=8 << 20, high_memory=0, counter=counter)
    board = type(make_board("native"))(machine)
    for selector in (A, B, C):
        machine.ledger.turns.begin(selector)
    machine.ledger.turns.account(B, 1)
    board.boot("", user=PROGRAM)
    machine.ram.write(WORDS, b"".join(word.to_bytes(4, "little") for word in (A, B, C)))
    machine.run(until=0x400000)
    begun = machine.clock.retired
    machine.watch_turns(TURN, WORDS)
    before = machine.ledger.turns.retired(A)
    kinds = []
    for steps in (1, FIRST - 2, 2, ROUND, 40, 100_000, 3):
        machine.run(fuel=steps)
        kinds.append(machine.ledger.user_kind)
    ran = machine.clock.retired - begun
    found = [machine.ledger.turns.retired(selector) for selector in (A, B, C)]
    assert sum(found) - before == ran
    assert found[0] - before == FIRST, "A runs first, then B and C in turn"
    assert abs(found[1] - found[2]) <= ROUND
    assert kinds[:3] == ["client", "client", "server"], "the account is that of the thread whose turn has begun"

    kept, counts = machine.snapshot(), list(found)
    machine.run(fuel=1000)
    machine.restore(kept)
    assert [machine.ledger.turns.retired(selector) for selector in (A, B, C)] == counts
    machine.ledger.turns.begin(B)
    assert machine.ledger.turns.retired(B) < ROUND, "a new thread has retired nothing"
    machine.close()
    assert machine.ledger.turns.retired(B) < ROUND, "the words can be read as long as the ledger holds them"
