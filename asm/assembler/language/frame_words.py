"""The names of directives about call frames."""

from typing import Final

#: Directives with what is written after them.
FRAME_WORDS: Final = {
    ".cfi_startproc": ".cfi_startproc [simple]",
    ".cfi_endproc": ".cfi_endproc",
    ".cfi_def_cfa": ".cfi_def_cfa register, offset",
    ".cfi_def_cfa_register": ".cfi_def_cfa_register register",
    ".cfi_def_cfa_offset": ".cfi_def_cfa_offset offset",
    ".cfi_adjust_cfa_offset": ".cfi_adjust_cfa_offset difference",
    ".cfi_offset": ".cfi_offset register, offset",
    ".cfi_rel_offset": ".cfi_rel_offset register, offset",
    ".cfi_val_offset": ".cfi_val_offset register, offset",
    ".cfi_register": ".cfi_register register, register",
    ".cfi_restore": ".cfi_restore register, …",
    ".cfi_undefined": ".cfi_undefined register, …",
    ".cfi_same_value": ".cfi_same_value register, …",
    ".cfi_remember_state": ".cfi_remember_state",
    ".cfi_restore_state": ".cfi_restore_state",
    ".cfi_return_column": ".cfi_return_column register",
    ".cfi_signal_frame": ".cfi_signal_frame",
    ".cfi_escape": ".cfi_escape byte, …",
    ".frame": ".frame kind, bytes",
    ".frame_bias": ".frame_bias bytes",
}
#: What the operands are: r register, n number, * any number of them.
CFI_OPERANDS: Final = {
    **dict.fromkeys((".cfi_startproc", ".cfi_endproc", ".cfi_remember_state", ".cfi_restore_state"), ""),
    **dict.fromkeys((".cfi_def_cfa", ".cfi_offset", ".cfi_rel_offset", ".cfi_val_offset"), "rn"),
    **dict.fromkeys((".cfi_def_cfa_offset", ".cfi_adjust_cfa_offset"), "n"),
    **dict.fromkeys((".cfi_def_cfa_register", ".cfi_return_column"), "r"),
    **dict.fromkeys((".cfi_restore", ".cfi_undefined", ".cfi_same_value"), "r*"),
    ".cfi_register": "rr",
    ".cfi_signal_frame": "",
    ".cfi_escape": "n*",
}
#: Kinds of frames, by what lies at ESP where `.frame` stands.
FRAME_KINDS: Final = ("call", "gate", "interrupt", "none", "like")
#: For exceptions of C++, and for the choice of section: without effect here.
FRAME_IGNORED: Final = frozenset((".cfi_sections", ".cfi_personality", ".cfi_lsda"))
