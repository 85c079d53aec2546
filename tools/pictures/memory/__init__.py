"""The memory of a booted system: physical pages by owner, address spaces by range; as text, SVG and HTML."""
