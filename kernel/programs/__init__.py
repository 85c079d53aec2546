"""What can be run: ELF files, assembled images, and the ROM volume that is built of them.

Rule: bytes in, plain data out; nothing here knows a process.
"""
