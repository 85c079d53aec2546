"""How the kernel is entered and left: boot, gates, traps, interrupts, host calls, copies from and to ring 3."""
