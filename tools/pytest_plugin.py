"""The pytest plugin: tests of assembly (docs/testing.md)."""
