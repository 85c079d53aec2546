"""Writers of file systems: a tree of files becomes the content of a partition."""
