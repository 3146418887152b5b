"""Dynamic modules for nginx, made byte by byte: shared objects that say for which nginx they were built, and do nothing.

No compiler is needed, so that nginx's own complaint about a module can be seen wherever the tests run.
"""

import os
import struct
from pathlib import Path

HEADER, SEGMENT, SYMBOL, RELOCATION = 64, 56, 24, 24
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551
READ_WRITE = 6
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_RELAENT, DT_STRSZ, DT_SYMENT = 4, 5, 6, 7, 8, 9, 10, 11
EM_X86_64, EM_AARCH64 = 62, 183
RELATIVE = {EM_X86_64: 8, EM_AARCH64: 1027}
GLOBAL_OBJECT = 0x11
MODULE_WORDS, VERSION, SIGNATURE = 32, 5, 6  # ngx_module_t in words of eight bytes


def make_module(path: Path, version: int, signature: str = "8,4,8,0000", name: str = "ngx_http_lab_module") -> Path:
    """Write a module of this name that says it is for this nginx (`1022001` is 1.22.1) and this build."""
    machine = {"aarch64": EM_AARCH64}.get(os.uname().machine, EM_X86_64)
    names = b"\0ngx_modules\0ngx_module_names\0"
    parts = _Parts(HEADER + 3 * SEGMENT)
    strings = parts.add(names)
    texts = [parts.add(text.encode() + b"\0") for text in (signature, name)]
    module = parts.add(_words(*(version if n == VERSION else 0 for n in range(MODULE_WORDS))))
    arrays = [parts.add(_words(0, 0)) for _ in range(2)]
    pointers = {module + 8 * SIGNATURE: texts[0], arrays[0]: module, arrays[1]: texts[1]}
    places = [names.index(name) for name in (b"ngx_modules", b"ngx_module_names")]
    symbols = b"".join(
        struct.pack("<IBBHQQ", place, GLOBAL_OBJECT, 0, 1, array, 16)
        for place, array in zip(places, arrays, strict=True)
    )
    table = parts.add(bytes(SYMBOL) + symbols)
    hashes = parts.add(struct.pack("<6I", 1, 3, 1, 0, 2, 0))  # one bucket: symbol 1, then symbol 2
    relocations = b"".join(struct.pack("<QQQ", at, RELATIVE[machine], to) for at, to in pointers.items())
    entries = {
        DT_HASH: hashes,
        DT_STRTAB: strings,
        DT_SYMTAB: table,
        DT_STRSZ: len(names),
        DT_SYMENT: SYMBOL,
        DT_RELA: parts.add(relocations),
        DT_RELASZ: len(relocations),
        DT_RELAENT: RELOCATION,
    }
    dynamic = _words(*(word for entry in entries.items() for word in entry), 0, 0)
    at = parts.add(dynamic)
    segments = (
        _segment(PT_LOAD, 0, parts.size, 0x1000)
        + _segment(PT_DYNAMIC, at, len(dynamic), 8)
        + _segment(PT_GNU_STACK, 0, 0, 8)
    )
    path.write_bytes(_header(machine) + segments + parts.content)
    return path


class _Parts:
    """What follows the headers, each part at a multiple of eight bytes."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.content = b""

    @property
    def size(self) -> int:
        return self.start + len(self.content)

    def add(self, data: bytes) -> int:
        """The offset of the data in the file, which is its address as well."""
        offset = self.size
        self.content += data + bytes(-len(data) % 8)
        return offset


def _words(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _header(machine: int) -> bytes:
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    return identity + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, HEADER, 0, 0, HEADER, SEGMENT, 3, 0, 0, 0)


def _segment(kind: int, offset: int, size: int, align: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, READ_WRITE, offset, offset, offset, size, size, align)
