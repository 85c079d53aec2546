"""The microkernel: its ABI, the emulated machine under it, and its policy."""
