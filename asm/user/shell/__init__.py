"""The shell: its loop, its table of commands, programs in the foreground and background."""
