"""Snapshots of a booted system: what policy's records and hosted servers are, kept beside the state of the machine."""
