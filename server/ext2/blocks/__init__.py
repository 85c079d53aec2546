"""Where the blocks of a file lie: extents, indirect blocks, runs."""
