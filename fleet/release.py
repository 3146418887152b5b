"""A release: one nginx binary, identified by its SHA-256 and checked on the laptop before fleet connects to a host.

A file that is not an ELF executable is refused here. Whether it runs on a host (loader, libraries, configuration) is
checked there, in preflight. The file is read once, so that hash, size and version belong to the same bytes. `struct`
reads the few ELF fields: pyelftools raises errors of many types on damaged tables.
"""

import hashlib
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ReleaseError

MOST_BYTES = 1 << 30
_SHA_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_PRODUCTS = rb"(nginx|openresty|angie|tengine|freenginx)"
_VERSION = rb"/([0-9]+(?:\.[0-9]+){2,3})"
_PRINTED_VERSION = re.compile(rb"version: " + _PRODUCTS + _VERSION, re.IGNORECASE)
_ANY_VERSION = re.compile(_PRODUCTS + _VERSION, re.IGNORECASE)

_ET_EXEC = 2
_ET_DYN = 3
_PT_INTERP = 3
_EM_PPC64 = 21
_REBUILD = "Build or download the release again, and compare its hash."

# e_machine as `uname -m` prints it on a host.
_MACHINES = {
    62: "x86_64",
    183: "aarch64",
    3: "i686",
    40: "arm",
    _EM_PPC64: "ppc64le",
    22: "s390x",
    243: "riscv64",
    258: "loongarch64",
}


@dataclass(frozen=True, slots=True)
class Release:
    """A file that is an ELF executable. `version` and `product` are `None` if the file does not contain them.

    `interpreter` is the path of the dynamic loader, `None` for a static binary.
    """

    path: str
    sha256: str
    size_bytes: int
    machine: str
    version: str | None
    product: str | None = None
    elf_bits: int = 64
    interpreter: str | None = None


@dataclass(frozen=True, slots=True)
class _Elf:
    """The fields of the ELF header in use; `order` is the byte order for struct, `tables_end` the end of the last table."""

    bits: int
    order: str
    type: int
    machine: int
    entry: int
    phoff: int
    phentsize: int
    phnum: int
    tables_end: int


@dataclass(frozen=True, slots=True)
class KeptRelease:
    """A release that the hosts keep, named by the first digits of its SHA-256; the hosts know the whole hash."""

    prefix: str


def is_sha_prefix(text: str) -> bool:
    """Whether the text may be the start of a SHA-256: 8 to 64 hexadecimal digits."""
    return _SHA_PREFIX.fullmatch(text.lower()) is not None


def find_release(text: str) -> Release | KeptRelease:
    """The release that the argument RELEASE names: a file of that name, else the digits of a hash.

    Raises `ReleaseError`.
    """
    path = Path(text).expanduser()
    if not path.exists() and is_sha_prefix(text):
        return KeptRelease(text.lower())
    return read_release(path)


def read_release(path: Path) -> Release:
    """The release in this file. Raises `ReleaseError` if it is not an ELF executable or has no x bit.

    On the hosts it gets the mode of the file that it replaces. A file without an x bit is refused nevertheless: it is
    probably the wrong file, or not completely copied.
    """
    data = _bytes_of(path)
    elf = _elf_of(path, data)
    _must_be_executable(path)
    product, version = _version_in(data)
    return Release(
        path=str(path.absolute()),
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        machine=_machine(elf),
        version=version,
        product=product,
        elf_bits=elf.bits,
        interpreter=_interpreter(path, data, elf),
    )


def _bytes_of(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ReleaseError(
                f"{path}: this is a directory; fleet does not support releases with modules yet.",
                "Name the nginx binary itself.",
            )
        if not stat.S_ISREG(status.st_mode):
            raise ReleaseError(f"{path}: not a regular file.", "Name an nginx binary.")
        if status.st_size > MOST_BYTES:
            raise ReleaseError(f"{path}: too large for nginx ({status.st_size} bytes).", "Name an nginx binary.")
        return path.read_bytes()
    except FileNotFoundError as error:
        remedy = (
            "Name the path of an nginx binary, or 8 or more digits of the SHA-256 of a release that the hosts keep."
        )
        raise ReleaseError(f"{path}: no such file.", remedy) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ReleaseError(f"{path}: the file can't be read: {reason}.", "Name a file that you can read.") from error


def _must_be_executable(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH):
        raise ReleaseError(f"{path}: not executable (mode {mode:04o}).", f"If it is the right file: chmod +x {path}")


def _elf_of(path: Path, data: bytes) -> _Elf:
    """The ELF headers. Raises `ReleaseError` if they are damaged or the file ends before its last segment or table."""
    if not data:
        raise ReleaseError(f"{path}: the file is empty.", _REBUILD)
    if data.startswith(b"#!"):
        raise ReleaseError(f"{path}: this is a script.", "Name the nginx binary that it starts.")
    if not data.startswith(b"\x7fELF"):
        raise ReleaseError(f"{path}: not an ELF file.", "Name an nginx binary built for Linux.")
    try:
        elf = _header(data)
        if elf.type not in (_ET_EXEC, _ET_DYN) or elf.entry == 0:
            kind = {1: "an object file", 4: "a core dump"}.get(elf.type, "a library or module")
            raise ReleaseError(f"{path}: {kind}, not an executable.", "Name the nginx binary itself.")
        missing = max(elf.tables_end, _segments_end(data, elf)) - len(data)
    except (struct.error, KeyError) as error:
        raise ReleaseError(f"{path}: the ELF headers are damaged or truncated.", _REBUILD) from error
    if missing > 0:
        raise ReleaseError(f"{path}: the file is truncated: at least {missing} bytes are missing at its end.", _REBUILD)
    return elf


def _header(data: bytes) -> _Elf:
    """The file header. Raises `struct.error` or `KeyError` if it is damaged."""
    class_, order_ = struct.unpack_from("BB", data, 4)
    bits = {1: 32, 2: 64}[class_]
    order = {1: "<", 2: ">"}[order_]
    # e_type … e_shnum of Elf64_Ehdr and Elf32_Ehdr: addresses and offsets have 8 or 4 bytes (elf(5)).
    layout = order + ("HHIQQQIHHHHH" if bits == 64 else "HHIIIIIHHHHH")
    fields = struct.unpack_from(layout, data, 16)
    kind, machine, _, entry, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum = fields
    tables_end = max(phoff + phnum * phentsize, shoff + shnum * shentsize)
    return _Elf(bits, order, kind, machine, entry, phoff, phentsize, phnum, tables_end)


def _segments(data: bytes, elf: _Elf) -> Iterator[tuple[int, int, int]]:
    """Type, offset and size in the file of each segment whose program header is in the file."""
    for number in range(elf.phnum):
        start = elf.phoff + number * elf.phentsize
        if start + elf.phentsize > len(data):
            return
        if elf.bits == 64:
            kind, _, offset, _, _, size = struct.unpack_from(elf.order + "IIQQQQ", data, start)
        else:
            kind, offset, _, _, size = struct.unpack_from(elf.order + "IIIII", data, start)
        yield kind, offset, size


def _segments_end(data: bytes, elf: _Elf) -> int:
    return max((offset + size for _, offset, size in _segments(data, elf)), default=0)


def _interpreter(path: Path, data: bytes, elf: _Elf) -> str | None:
    for kind, offset, size in _segments(data, elf):
        if kind != _PT_INTERP:
            continue
        name = data[offset : offset + size].rstrip(b"\0").decode("utf-8", "replace")
        if not name.startswith("/") or not name.isprintable():
            raise ReleaseError(f"{path}: the path of its dynamic loader is damaged.", _REBUILD)
        return name
    return None


def _machine(elf: _Elf) -> str:
    if elf.machine == _EM_PPC64 and elf.order == ">":
        return "ppc64"
    return _MACHINES.get(elf.machine, f"elf-{elf.machine}")


def _version_in(data: bytes) -> tuple[str | None, str | None]:
    """Product and version. The text that `-v` prints comes first: the binary of a fork also contains nginx's version."""
    found = _PRINTED_VERSION.search(data) or _ANY_VERSION.search(data)
    if found is None:
        return None, None
    return found.group(1).decode().lower(), found.group(2).decode()
