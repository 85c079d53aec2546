"""Programs: ELF files, assembled ones, and the image of the ROM volume, which is built of them.

Rule: bytes in, plain data out; nothing here knows a process.
"""
