"""Extended attributes. `listxattr`, `getxattr` and `setxattr` are as in `os`, whose own are missing on musl.

Without them a release on a musl host (Alpine) would lose the capabilities, ACL and label of the binary it replaces.
"""

import ctypes
import errno
import os
from typing import List

MOST_BYTES = 1 << 16
"""The kernel's limit for a value and for a list of names, in bytes (xattr(7))."""


def listxattr(path: str) -> List[str]:
    """The names of a file's extended attributes. Raises OSError."""
    return [os.fsdecode(name) for name in _read("listxattr", path).split(b"\0") if name]


def getxattr(path: str, attribute: str) -> bytes:
    """The value of one attribute. Raises OSError."""
    return _read("getxattr", path, os.fsencode(attribute))


def setxattr(path: str, attribute: str, value: bytes) -> None:
    """Set the attribute to this value. Raises OSError."""
    _call("setxattr", path, os.fsencode(attribute), value, ctypes.c_size_t(len(value)), 0)


def copy_attributes(source: str, target: str) -> None:
    """Copy the extended attributes (ACL, label, capabilities) that the target's file system can hold. Raises OSError."""
    for name in listxattr(source):
        try:
            setxattr(target, name, getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise


def _read(function: str, path: str, *words: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(MOST_BYTES)
    size = _call(function, path, *words, buffer, ctypes.c_size_t(MOST_BYTES))
    return buffer.raw[:size]


def _call(function: str, path: str, *words: object) -> int:
    call = getattr(ctypes.CDLL(None, use_errno=True), function)
    call.restype = ctypes.c_ssize_t
    result = int(call(os.fsencode(path), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
