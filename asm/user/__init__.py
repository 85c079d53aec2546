"""Ring-3 sources: the server runtime and the user programs."""

#: Programs by name, with their main source file.
PROGRAMS = {
    "hosted": "servers/hosted.asm",
    "null_server": "servers/null_server.asm",
    "rom": "servers/rom.asm",
    "shell": "shell/shell.asm",
    "hello": "programs/hello.asm",
    "crash": "programs/crash.asm",
    "bench_batch": "bench/bench_batch.asm",
    "bench_client": "bench/bench_client.asm",
    "bench_gate": "bench/bench_gate.asm",
    "bench_read": "bench/bench_read.asm",
    "bench_threads": "bench/bench_threads.asm",
}

#: What /rom holds.
ROM_PROGRAMS = ("crash", "hello", "shell")
