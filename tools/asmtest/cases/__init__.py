"""Cases written in comments of assembly, read and run."""
