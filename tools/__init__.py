"""Command line, test plugin and benchmarks; nobody imports the tools."""
