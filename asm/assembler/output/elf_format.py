"""Layouts and numbers of ELF32 files for i386 (System V gABI chapters 4 and 5), and of our note in them."""

import struct

HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
PROGRAM_HEADER = struct.Struct("<IIIIIIII")
SECTION_HEADER = struct.Struct("<IIIIIIIIII")
SYMBOL = struct.Struct("<IIIBBH")
MAGIC = b"\x7fELF\x01\x01\x01"  # 32-bit, little-endian, version 1
IDENT = MAGIC.ljust(16, b"\0")
ET_EXEC, EM_386, EV_CURRENT = 2, 3, 1
PT_LOAD = 1
PAGE = 4096
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS = 1, 2, 3, 7, 8
SHN_ABS = 0xFFF1
STT_NOTYPE, STT_OBJECT, STT_FUNC = 0, 1, 2
STB_LOCAL, STB_GLOBAL = 0, 1
NOTE_NAME = ".note.callgate"
NOTE_OWNER = b"callgate\0"
NOTE_TYPE = 1
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
PF_X, PF_W, PF_R = 1, 2, 4
