"""The Remote Serial Protocol of gdb, and what a session of `callgate boot --gdb` is made of."""
