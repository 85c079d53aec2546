"""What programs include: files, output, text, paths, directories."""
