"""Ring-0 sources of the kernel."""
