"""The exact clock by blocks: code that cannot be observed within a block is counted a block at a time."""
