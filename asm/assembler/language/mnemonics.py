"""The instructions of the language: every mnemonic, what it is short for, and which forms it has.

Only names in this table reach Keystone.  32-bit x86 with x87, MMX and SSE to SSE4.2 (Intel SDM vol. 2);
what exists in 64-bit mode only, AVX, and VMX are not in it.
"""

NOTRACK = "notrack"  # a branch that need not go to ENDBR32; other CPUs ignore the prefix

# Condition codes (Intel SDM vol. 1, appendix B): number -> names, the disassembler's first.
CONDITIONS: tuple[tuple[str, ...], ...] = (
    ("o",), ("no",), ("b", "c", "nae"), ("ae", "nb", "nc"), ("e", "z"), ("ne", "nz"), ("be", "na"),
    ("a", "nbe"), ("s",), ("ns",), ("p", "pe"), ("np", "po"), ("l", "nge"), ("ge", "nl"), ("le", "ng"),
    ("g", "nle"),
)  # fmt: skip
JUMPS = {f"j{name}": number for number, names in enumerate(CONDITIONS) for name in names}
SETS = frozenset(f"set{name}" for names in CONDITIONS for name in names)
MOVES = frozenset(f"cmov{name}" for names in CONDITIONS for name in names)

# Other names for the same instruction.  In 32-bit code the unsuffixed names are the 32-bit forms, as every
# assembler but Keystone has it.
ALIASES: dict[str, str] = {
    **{
        prefix + name: prefix + names[0]
        for prefix in ("j", "set", "cmov")
        for names in CONDITIONS
        for name in names[1:]
    },
    "sal": "shl", "retn": "ret", "lret": "retf", "iret": "iretd", "pushf": "pushfd", "popf": "popfd",
    "pusha": "pushad", "popa": "popad", "xlat": "xlatb", "icebp": "int1", "fwait": "wait", "loopz": "loope",
    "loopnz": "loopne", "repz": "repe", "repnz": "repne", "ud2a": "ud2", "ud2b": "ud1", "fcomip": "fcompi",
    "fucomip": "fucompi", "fcmova": "fcmovnbe", "fcmovae": "fcmovnb", "fcmovna": "fcmovbe", "fcmovnae": "fcmovb",
}  # fmt: skip

REPEATS = {"rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2}
# These are two instructions: WAIT and the form that does not wait (Intel SDM vol. 2, FINIT and the like).
WAITING = {
    "fclex": "fnclex", "finit": "fninit", "fsave": "fnsave", "fstcw": "fnstcw", "fstenv": "fnstenv", "fstsw": "fnstsw",
}  # fmt: skip
# The comparison that a number selects in CMPPS and its like (SDM vol. 2, table 3-1), and names that have it in them.
COMPARISONS = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord")
COMPARES = {
    f"cmp{name}{kind}": (f"cmp{kind}", number)
    for number, name in enumerate(COMPARISONS)
    for kind in ("ps", "pd", "ss", "sd")
}
# Without operands these are the forms that pop, as MASM and GNU as have it.
POPPING = frozenset(("fadd", "fdiv", "fdivr", "fmul", "fsub", "fsubr"))
# Registers that an instruction uses anyway, and that may be written after its other operands.
IMPLIED = {
    **dict.fromkeys(("blendvpd", "blendvps", "pblendvb"), ("xmm0",)),
    "monitor": ("eax", "ecx", "edx"),
    "mwait": ("eax", "ecx"),
}
# REP before these changes nothing on the CPUs of the table, and is written by compilers: `rep bsf` is TZCNT on later
# ones, with the same result unless the source is zero; `rep ret` was good for the branch prediction of old ones.
REPEATED_BY_COMPILERS = frozenset(("bsf", "ret"))
SHORT_BRANCHES = {
    "loopne": 0xE0, "loopnz": 0xE0, "loope": 0xE1, "loopz": 0xE1, "loop": 0xE2, "jecxz": 0xE3, "jcxz": 0xE3,
}  # fmt: skip
BRANCHES = frozenset((*JUMPS, *SHORT_BRANCHES, "jmp", "call"))

# String instructions: opcode of the byte form, and the operands that the long form must name.
STRINGS: dict[str, tuple[int, tuple[str, ...]]] = {
    "movs": (0xA4, ("edi", "esi")),
    "cmps": (0xA6, ("esi", "edi")),
    "stos": (0xAA, ("edi", "a")),
    "lods": (0xAC, ("a", "esi")),
    "scas": (0xAE, ("a", "edi")),
    "ins": (0x6C, ("edi", "dx")),
    "outs": (0x6E, ("dx", "esi")),
}
STRING_NAMES = {stem + suffix: (stem, bits) for stem in STRINGS for suffix, bits in (("b", 8), ("w", 16), ("d", 32))}

SHIFTS = frozenset(("shl", "shr", "sar", "rol", "ror", "rcl", "rcr"))
DOUBLE_SHIFTS = frozenset(("shld", "shrd"))
BIT_TESTS = frozenset(("bt", "bts", "btr", "btc"))
ARITHMETIC = frozenset(("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"))
LOCKABLE = frozenset("add adc and btc btr bts cmpxchg cmpxchg8b dec inc neg not or sbb sub xor xadd xchg".split())

GENERAL = frozenset(
    """
    aaa aad aam aas adc add and arpl bound bsf bsr bswap bt btc btr bts call cbw cdq clc cld clflush cli clts cmc
    cmp cmpxchg cmpxchg8b cpuid cwd cwde daa das dec div endbr32 enter fxrstor fxsave hlt idiv imul in inc int int1
    int3 into invd invlpg iretd iretw jmp lahf lar lds lea leave les lfence lfs lgdt lgs lidt lldt lmsw lsl lss ltr
    mfence monitor mov movbe movsx movzx mul mwait neg nop not or out pause pop popad popaw popcnt popfd popfw
    prefetchnta prefetcht0 prefetcht1 prefetcht2 prefetchw push pushad pushaw pushfd pushfw rcl rcr rdmsr rdpmc
    rdtsc rdtscp ret retf rol ror rsm sahf salc sar sbb sfence sgdt shl shld shr shrd sidt sldt smsw stc std sti str
    sub sysenter sysexit test ud0 ud1 ud2 verr verw wait wbinvd wrmsr xadd xchg xgetbv xlatb xor xrstor xsave xsetbv
    """.split()
)
FLOAT = frozenset(
    """
    f2xm1 fabs fadd faddp fbld fbstp fchs fcmovb fcmovbe fcmove fcmovnb fcmovnbe fcmovne fcmovnu fcmovu
    fcom fcomi fcomp fcompi fcompp fcos fdecstp fdiv fdivp fdivr fdivrp ffree ffreep fiadd ficom ficomp fidiv fidivr
    fild fimul fincstp fist fistp fisttp fisub fisubr fld fld1 fldcw fldenv fldl2e fldl2t fldlg2 fldln2
    fldpi fldz fmul fmulp fnclex fninit fnop fnsave fnstcw fnstenv fnstsw fpatan fprem fprem1 fptan frndint
    frstor fscale fsin fsincos fsqrt fst fstp fsub fsubp fsubr fsubrp ftst fucom fucomi fucomp fucompi fucompp
    fxam fxch fxtract fyl2x fyl2xp1
    """.split()
)
VECTOR = frozenset(
    """
    addpd addps addsd addss addsubpd addsubps andnpd andnps andpd andps blendpd blendps blendvpd blendvps cmppd
    cmpps cmpsd cmpss comisd comiss crc32 cvtdq2pd cvtdq2ps cvtpd2dq cvtpd2pi cvtpd2ps cvtpi2pd cvtpi2ps cvtps2dq
    cvtps2pd cvtps2pi cvtsd2si cvtsd2ss cvtsi2sd cvtsi2ss cvtss2sd cvtss2si cvttpd2dq cvttpd2pi cvttps2dq cvttps2pi
    cvttsd2si cvttss2si divpd divps divsd divss dppd dpps emms extractps haddpd haddps hsubpd hsubps insertps lddqu
    ldmxcsr maskmovdqu maskmovq maxpd maxps maxsd maxss minpd minps minsd minss movapd movaps movd movddup movdq2q
    movdqa movdqu movhlps movhpd movhps movlhps movlpd movlps movmskpd movmskps movntdq movntdqa movnti movntpd
    movntps movntq movq movq2dq movsd movshdup movsldup movss movupd movups mpsadbw mulpd mulps mulsd mulss orpd
    orps pabsb pabsd pabsw packssdw packsswb packusdw packuswb paddb paddd paddq paddsb paddsw paddusb paddusw paddw
    palignr pand pandn pavgb pavgw pblendvb pblendw pcmpeqb pcmpeqd pcmpeqq pcmpeqw pcmpestri pcmpestrm pcmpgtb
    pcmpgtd pcmpgtq pcmpgtw pcmpistri pcmpistrm pextrb pextrd pextrw phaddd phaddsw phaddw phminposuw phsubd phsubsw
    phsubw pinsrb pinsrd pinsrw pmaddubsw pmaddwd pmaxsb pmaxsd pmaxsw pmaxub pmaxud pmaxuw pminsb pminsd pminsw
    pminub pminud pminuw pmovmskb pmovsxbd pmovsxbq pmovsxbw pmovsxdq pmovsxwd pmovsxwq pmovzxbd pmovzxbq pmovzxbw
    pmovzxdq pmovzxwd pmovzxwq pmuldq pmulhrsw pmulhuw pmulhw pmulld pmullw pmuludq por psadbw pshufb pshufd pshufhw
    pshuflw pshufw psignb psignd psignw pslld pslldq psllq psllw psrad psraw psrld psrldq psrlq psrlw psubb psubd
    psubq psubsb psubsw psubusb psubusw psubw ptest punpckhbw punpckhdq punpckhqdq punpckhwd punpcklbw punpckldq
    punpcklqdq punpcklwd pxor rcpps rcpss roundpd roundps roundsd roundss rsqrtps rsqrtss shufpd shufps sqrtpd
    sqrtps sqrtsd sqrtss stmxcsr subpd subps subsd subss ucomisd ucomiss unpckhpd unpckhps unpcklpd unpcklps xorpd
    xorps
    """.split()
)
MNEMONICS = (
    frozenset((*GENERAL, *FLOAT, *VECTOR, *BRANCHES, *SETS, *MOVES, *STRINGS, *STRING_NAMES, "lcall", "ljmp"))
    | ALIASES.keys()
    | WAITING.keys()
    | COMPARES.keys()
) - REPEATS.keys()

# Size in bits of a memory operand that needs none written; 0 = the form has no size word.
MEMORY_SIZES: dict[str, int] = {
    **dict.fromkeys(SETS, 8),
    **dict.fromkeys(("lgdt", "lidt", "sgdt", "sidt", "lds", "les", "lfs", "lgs", "lss"), 0),
    **dict.fromkeys(("invlpg", "clflush", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2", "prefetchw"), 8),
    **dict.fromkeys(("lldt", "ltr", "sldt", "str", "verr", "verw", "lmsw", "smsw", "arpl"), 16),
    **dict.fromkeys(("fldcw", "fnstcw", "fnstsw", "fstcw", "fstsw"), 16),
    **dict.fromkeys(("ldmxcsr", "stmxcsr", "jmp", "call"), 32),
    **dict.fromkeys(
        ("fldenv", "fnstenv", "fnsave", "fstenv", "fsave", "frstor", "fxsave", "fxrstor", "lea", "bound"), 0
    ),
    **dict.fromkeys(("fbld", "fbstp"), 80),
    **dict.fromkeys(("cvtsd2si", "cvttsd2si"), 64),
    **dict.fromkeys(("cvtsi2sd", "cvtsi2ss"), 32),
    **dict.fromkeys(("xsave", "xrstor"), 0),
    **dict.fromkeys(("lar", "lsl"), 16),
    "cmpxchg8b": 64,
}
# Sizes that are right, but that Keystone or Capstone have otherwise: they are left out for these.
UNSAID_SIZES = frozenset((("comisd", 64), ("punpcklbw", 32), ("punpckldq", 32), ("punpcklwd", 32)))
# Here a register operand says nothing about the memory operand.
UNRELATED_SIZES = frozenset(("movzx", "movsx", "in", "out", "crc32", *SHIFTS))

# Width in bits of the immediate where it is not that of the first operand.
IMMEDIATE_BITS: dict[str, int] = {
    **dict.fromkeys((*SHIFTS, *DOUBLE_SHIFTS, *BIT_TESTS, *VECTOR, "in", "out", "int", "aam", "aad"), 8),
    **dict.fromkeys(("ret", "retf", "enter"), 16),
    "push": 32,
}
UNSIGNED_IMMEDIATES = frozenset(
    (*SHIFTS, *DOUBLE_SHIFTS, *BIT_TESTS, *VECTOR, "in", "out", "int", "ret", "retf", "enter")
)

# Instructions whose 0x66 prefix is part of the opcode although no operand has 16 bits.
WORD_FORMS = frozenset("cbw cwd iretw pushfw popfw pushaw popaw".split())
