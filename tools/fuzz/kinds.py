"""Which kinds of volumes can be damaged on demand; apart from making them, which takes more to import."""

from typing import Final, Literal, get_args

Kind = Literal["fat12", "fat16", "fat32", "exfat", "ext2", "ext3", "ext4", "iso9660", "joliet", "rockridge", "zip"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
