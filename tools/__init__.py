"""Command line, test plugin and benchmarks; no other package imports the tools."""
