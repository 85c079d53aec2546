"""The programs of the benchmarks."""
