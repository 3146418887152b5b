"""Reads a gzip file so that neither a truncated file nor an endless one passes for a whole one.

Python's own `gzip` raises three kinds of errors for bad input, and others in other versions.
"""

import zlib
from typing import BinaryIO, Iterator

READ_BYTES = 64 << 10
BLOCK_BYTES = 1 << 20
GZIP = 16 + zlib.MAX_WBITS
MAGIC = b"\x1f\x8b"


def content(source: BinaryIO) -> Iterator[bytes]:
    """What the file holds, unpacked if it is a gzip file, as no program is. Raises ValueError as `unpacked` does."""
    is_packed = source.read(len(MAGIC)) == MAGIC
    source.seek(0)
    return unpacked(source) if is_packed else iter(lambda: source.read(BLOCK_BYTES), b"")


def unpacked(source: BinaryIO) -> Iterator[bytes]:
    """The content, in blocks of at most `BLOCK_BYTES`. Raises ValueError when the file is not exactly one whole gzip file."""
    stream = zlib.decompressobj(GZIP)
    try:
        for packed in iter(lambda: source.read(READ_BYTES), b""):
            while packed and not stream.eof:
                yield stream.decompress(packed, BLOCK_BYTES)
                packed = stream.unconsumed_tail
            if packed:
                raise ValueError("something follows the end of the gzip file")
    except zlib.error as error:
        raise ValueError("it is no gzip file (%s)" % error)
    if not stream.eof:
        raise ValueError("it is cut off")
