"""Programs of /rom besides the shell."""
