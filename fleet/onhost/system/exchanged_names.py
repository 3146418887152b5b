"""Exchanges the files that two names have (renameat2(2)), which Python itself can't."""

import ctypes
import errno
import os
import struct

RENAME_EXCHANGE, AT_FDCWD = 2, -100  # linux/fs.h, linux/fcntl.h
# renameat2(2) by number, for a 64-bit Python whose C library does not have it: glibc before 2.28, musl.
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What a kernel (before 3.15) or a file system (NFS) answers that can't exchange two names (rename(2))."""


def exchanged(one: bytes, other: bytes) -> int:
    """The error number of the exchange; 0 when it was done."""
    library = ctypes.CDLL(None, use_errno=True)
    words = ctypes.c_int(AT_FDCWD), one, ctypes.c_int(AT_FDCWD), other, ctypes.c_uint(RENAME_EXCHANGE)
    number = _RENAMEAT2.get(os.uname().machine) if struct.calcsize("P") == 8 else None
    if hasattr(library, "renameat2"):
        result = library.renameat2(*words)
    elif number is not None:
        result = library.syscall(ctypes.c_long(number), *words)
    else:
        return errno.ENOSYS
    return ctypes.get_errno() if result else 0
