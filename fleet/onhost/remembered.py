"""What a conversation remembers between two requests: hashes and versions of files, and nothing else.

Each is found under what changes with the bytes. A running image can't be written to (ETXTBSY), so its process and its inode
stand for it. A file stands under its inode, size and times; the kernel gives it a new ctime with every write, but counts
in ticks, so a file that was written a moment ago is hashed again.
"""

from typing import Dict, Optional, Tuple

SETTLED_S = 2.0
"""How old a file's last change must be, in seconds, before its hash is kept: longer than any kernel's tick."""


class Remembered:
    """Hashes by what stands for the bytes, and versions by hash."""

    def __init__(self) -> None:
        self.hashes: Dict[Tuple[object, ...], Optional[str]] = {}
        self.versions: Dict[str, str] = {}
