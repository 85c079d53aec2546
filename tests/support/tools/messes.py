"""Routines that leave a mess on the bare CPU, and all that a test could see of a machine afterwards."""

from callgate.kernel.abi.memory import PAGE_SIZE

ROUTINES = """
double: add eax, eax
 ret
count: inc dword ptr [0x20000]
 ret
flood: mov ecx, 0x8000
 mov edi, 0x100000
 mov eax, 0xABABABAB
 rep stosd
 ret
pages: mov ecx, 30
1: mov [edi], edi
 add edi, 0x3000
 loop 1b
 ret
patch: mov byte ptr [double], 0x90
 mov byte ptr [double + 1], 0x90
 ret
efer: mov ecx, 0xC0000080
 rdmsr
 xor eax, 0x800
 wrmsr
 ret
tables: lgdt [0x20000]
 lidt [0x20000]
 mov eax, cr4
 or eax, 4
 mov cr4, eax
 mov eax, 0x1000
 mov dr0, eax
 mov cr2, eax
 ret
floats: fldpi
 fld1
 fldcw [0x20010]
 ldmxcsr [0x20014]
 cvtsi2sd xmm3, eax
 std
 ret
ports: mov al, 0x55
 out 0x21, al
 mov dx, 0x3FB
 mov al, 0x1B
 out dx, al
 mov dx, 0x3F8
 mov al, 65
 out dx, al
 mov al, 0x34
 out 0x43, al
 mov al, 9
 out 0x40, al
 out 0x40, al
 ret
"""


def pages_of(region):
    """Return the pages that hold something, by their offsets."""
    pages = {offset: bytes(region.view[offset : offset + PAGE_SIZE]) for offset in region.pages_in_use()}
    return {offset: page for offset, page in pages.items() if any(page)}


def state_of(machine):
    """Return all that a test could see of a machine: memory, CPU, devices, counters, clock."""
    machine.cpu.save()
    return {
        "memory": [pages_of(region) for region in machine.ram.regions],
        "cpu": bytes(machine.cpu.context.view),
        "devices": {name: device.save() for name, device in machine.devices.items()},
        "counts": machine.ledger.counts().as_dict(),
        "position": (machine.position, machine.clock.now, machine.events.save(), machine.cpu.halted),
        "attached": (set(machine.breakpoints), len(machine.stream.listeners), machine.on_interrupt, machine.dma_watch),
        "asked": (machine.control.request, machine.control.error, machine.control.interrupted),
        "code": machine.translations.stale or machine.translations.all_stale,
    }
