"""The x86 half of callgate: machine code sources, and the assembler that builds them."""
