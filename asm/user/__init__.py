"""Ring-3 sources: the server runtime and the user programs."""

#: Programs by name, with their main source file.
PROGRAMS = {
    "hosted": "hosted.asm",
    "null_server": "null_server.asm",
    "rom": "rom.asm",
    "shell": "shell.asm",
    "hello": "hello.asm",
    "crash": "crash.asm",
    "bench_client": "bench_client.asm",
    "bench_gate": "bench_gate.asm",
    "bench_read": "bench_read.asm",
}

#: What /rom holds.
ROM_PROGRAMS = ("crash", "hello", "shell")
