"""The library that programs include: files, output, text, paths, directories."""
