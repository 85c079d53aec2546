"""Devices: registers in memory and ports, DMA, events, exceptions that come through the engine."""

import pytest
from callgate.kernel.machine.memory.bus import DeviceBase, DmaError

BASE = 0xFEBF_0000


class Recorder(DeviceBase):
    """Registers that remember what was done to them, and at which instruction."""

    name = "recorder"
    ports = (range(0x300, 0x308),)
    mmio = ((BASE, 0x1100),)

    def __init__(self):
        self.log = []
        self.machine = None
        self.value = 0x11223344

    def note(self, what, at, size, value):
        self.log.append((what, at, size, value, self.machine.state.last_address))

    def mmio_read(self, address, size):
        self.note("load", address, size, self.value)
        return self.value & (1 << 8 * size) - 1

    def mmio_write(self, address, size, value):
        self.note("store", address, size, value)
        self.value = value

    def port_read(self, port, size):
        self.note("in", port, size, None)
        return 0xA5A5A5A5

    def port_write(self, port, size, value):
        self.note("out", port, size, value)
        if value == 99:
            raise ZeroDivisionError("device")

    def on_event(self, token):
        self.log.append((token, self.host.clock))

    def save(self):
        return {"value": self.value, "log": list(self.log)}

    def load(self, state):
        self.value, self.log = state["value"], list(state["log"])


@pytest.fixture
def recorder(machine):
    device = Recorder()
    device.machine = machine
    machine.attach(device)
    return device


def test_a_device_sees_every_access_once_with_its_size_and_instruction(bare, recorder):
    machine = bare(
        f"nop; nop; mov ebx, {BASE}; mov eax, [ebx + 4]; mov cl, [ebx + 9]; mov [ebx + 8], ecx;"
        "mov word ptr [ebx + 2], 7; add dword ptr [ebx], 1; hlt"
    )
    machine.run()
    accesses = [(what, at - BASE, size) for what, at, size, *_ in recorder.log]
    assert accesses == [
        ("load", 4, 4),
        ("load", 9, 1),
        ("store", 8, 4),
        ("store", 2, 2),
        ("load", 0, 4),
        ("store", 0, 4),
    ]
    addresses = [entry[4] for entry in recorder.log]
    assert addresses == [0x1007, 0x100A, 0x100D, 0x1010, 0x1016, 0x1016]
    assert recorder.value == 8


def test_a_stop_requested_by_a_device_register_comes_after_its_instruction_and_nothing_is_done_twice(bare, recorder):
    recorder.mmio_write = lambda address, size, value: (
        recorder.note("store", address, size, value),
        recorder.machine.request_stop("host", "register"),
    )
    machine = bare(f"mov ebx, {BASE}; inc eax; mov [ebx], eax; inc eax; hlt")
    machine.memory_bus.claim(0xFEC0_0000, 0x1000, recorder.mmio_read, recorder.mmio_write)
    machine.ram.write(0x1001, (0xFEC0_0000).to_bytes(4, "little"))
    machine.code_changed(0x1000, 16)
    stop = machine.run()
    assert (stop.reason, stop.eip, machine.cpu.eax) == ("host", 0x1008, 1)
    assert machine.run().reason == "halt"
    assert len(recorder.log) == 1
    assert machine.cpu.eax == 2


def test_ports_can_be_accessed_with_three_widths(bare, recorder):
    machine = bare(
        "mov dx, 0x302; mov eax, 0x11223344; out dx, al; out dx, ax; out dx, eax; in al, dx; in ax, dx; in eax, dx; hlt"
    )
    machine.run()
    assert [(what, size, value) for what, _, size, value, _ in recorder.log] == [
        ("out", 1, 0x44),
        ("out", 2, 0x3344),
        ("out", 4, 0x11223344),
        ("in", 1, None),
        ("in", 2, None),
        ("in", 4, None),
    ]
    assert machine.cpu.eax == 0xA5A5A5A5


def test_an_exception_of_a_device_is_raised_by_run_and_the_machine_can_continue(bare, recorder):
    machine = bare("mov dx, 0x300; mov al, 99; out dx, al; inc ebx; hlt")
    with pytest.raises(ZeroDivisionError, match="device"):
        machine.run()
    assert machine.cpu.ebx == 0
    assert machine.run().reason == "halt"
    assert machine.cpu.ebx == 1
    assert len(recorder.log) == 1


def test_a_keyboard_interrupt_in_a_host_call_is_raised_by_run(bare, counter):
    machine = bare("out 0x90, eax; inc ebx; hlt")

    def interrupted(value):
        raise KeyboardInterrupt

    machine.host_calls.register(0x90, interrupted, "call")
    with pytest.raises(KeyboardInterrupt):
        machine.run()
    machine.run()
    assert machine.cpu.ebx == 1


def test_timer_events_come_in_order_of_time_then_of_scheduling_and_can_be_cancelled(bare, recorder):
    machine = bare("sti; l: inc eax; jmp l")
    host = recorder.host
    host.schedule(50, "third")
    host.schedule(20, "first")
    gone = host.schedule(30, "cancelled")
    host.schedule(20, ("second", 2))
    host.cancel(gone)
    machine.run(fuel=100)
    assert recorder.log == [("first", 20), (("second", 2), 20), ("third", 50)]


def test_dma_reaches_low_and_high_memory_and_is_refused_elsewhere(machine, recorder):
    recorder.host.memory(0x5000, 4)[:] = b"low "
    recorder.host.memory((1 << 32) + 8, 4)[:] = b"high"
    assert machine.ram.read(0x5000, 4) + machine.ram.read((1 << 32) + 8, 4) == b"low high"
    for physical, length in ((8 << 20, 1), ((8 << 20) - 2, 4), (1 << 33, 1), (-1, 2), ((1 << 32) + (4 << 20) - 1, 2)):
        with pytest.raises(DmaError):
            recorder.host.memory(physical, length)


def test_dma_into_executed_code_takes_effect_at_once(bare, recorder, assemble):
    machine = bare("l: mov eax, 1; out 0x90, eax; cmp eax, 1; je l; hlt")
    calls = []

    def rewrite(value):
        calls.append(value)
        if len(calls) == 3:
            recorder.host.memory(0x1001, 1)[:] = b"\x05"
            recorder.host.dma_done(0x1001, 1, to_memory=True)

    machine.host_calls.register(0x90, rewrite, "rewrite")
    machine.run(fuel=1000)
    assert calls == [1, 1, 1, 5]
    assert machine.ledger.counts().dma_bytes == {"read": 1}


def test_two_devices_cannot_have_one_port(machine, recorder):
    other = Recorder()
    other.name = "other"
    with pytest.raises(ValueError, match="belongs to recorder"):
        machine.attach(other)
