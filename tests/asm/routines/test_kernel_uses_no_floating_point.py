"""The kernel leaves x87, MMX and SSE registers to programs: only asm/kernel/threads/fpu.asm names them."""

from callgate.kernel.programs.images import kernel_image
from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from capstone import x86 as x86_names

GROUPS = {
    getattr(x86_names, f"X86_GRP_{name}")
    for name in ("FPU", "MMX", "SSE1", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42", "3DNOW", "AVX", "AVX2")
}
WITHOUT_A_GROUP = {"fxsave", "fxrstor", "fninit", "ldmxcsr", "stmxcsr", "emms", "wait"}


def test_no_kernel_routine_but_the_handover_uses_floating_point_registers() -> None:
    decoder = Cs(CS_ARCH_X86, CS_MODE_32)
    decoder.detail = True
    image = kernel_image()
    users: dict[str, list[str]] = {}
    for section in image.sections:
        code = list(decoder.disasm(section.data, section.address)) if section.executable else []
        if code:
            assert code[-1].address + code[-1].size == section.address + len(section.data), "all of it is code"
        for instruction in code:
            if GROUPS & set(instruction.groups) or instruction.mnemonic in WITHOUT_A_GROUP:
                routine = image.symbol_at(instruction.address).partition("+")[0].partition(".")[0]
                users.setdefault(routine, []).append(instruction.mnemonic)
    assert users == {"trap_7": ["fxsave", "fninit", "fxrstor"], "fpu_drop": ["fninit", "fxrstor"]}
