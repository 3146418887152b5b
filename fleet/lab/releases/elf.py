"""Finds functions and library names in an ELF executable, as offsets into the file, so that a few bytes can be changed.

It only reads; `fleet/lab/releases/build.py` changes the bytes. A stripped binary is enough: the functions that nginx
exports to its modules are in `.dynsym`, which stripping keeps.
"""

import io
from dataclasses import dataclass
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf import elffile

from fleet.errors import ReleaseError

MACHINE_OFFSET = 18  # the offset of e_machine, in 32 and 64 bit files alike
READER: Any = elffile.ELFFile  # the annotations of pyelftools are incomplete
DYNAMIC_SYMBOLS = ".dynsym"
DYNAMIC_STRINGS = ".dynstr"


@dataclass(frozen=True, slots=True)
class NeededLibrary:
    """A DT_NEEDED entry: the library's file name, and the offset of that name in the file."""

    name: str
    offset: int


class Executable:
    """An ELF executable, read from its bytes. `label` names it in messages."""

    def __init__(self, content: bytes, label: str) -> None:
        self.label = label
        try:
            self._elf: Any = READER(io.BytesIO(content))
        except ELFError as error:
            raise ReleaseError(
                f"{label} is not an ELF executable ({error}).", "Give the path of an nginx binary."
            ) from error

    @property
    def machine(self) -> str:
        """The architecture by its ELF name, such as `EM_X86_64`."""
        return str(self._elf["e_machine"])

    @property
    def is_little_endian(self) -> bool:
        """True when the numbers in the file are written least byte first."""
        return bool(self._elf.little_endian)

    def function(self, name: str) -> int:
        """The file offset of an exported function's first byte. Raises `ReleaseError` when it is not exported."""
        table = self._elf.get_section_by_name(DYNAMIC_SYMBOLS)
        found = (table.get_symbol_by_name(name) if table is not None else None) or []
        for symbol in found:
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["type"] == "STT_FUNC":
                return self._file_offset(int(symbol["st_value"]), name)
        raise ReleaseError(
            f"{self.label} does not export the function {name}, so its offset in the file is not known.",
            "Use an nginx that is linked for dynamic modules, as Debian's is (configured --with-compat).",
        )

    def needed(self) -> tuple[NeededLibrary, ...]:
        """The shared libraries that it needs, in order; none for a static executable."""
        strings = self._elf.get_section_by_name(DYNAMIC_STRINGS)
        if strings is None:
            return ()
        start = int(strings["sh_offset"])
        return tuple(
            NeededLibrary(str(tag.needed), start + int(tag["d_val"]))
            for segment in self._elf.iter_segments()
            if segment["p_type"] == "PT_DYNAMIC"
            for tag in segment.iter_tags("DT_NEEDED")
        )

    def _file_offset(self, address: int, name: str) -> int:
        for offset in self._elf.address_offsets(address):
            return int(offset)
        raise ReleaseError(f"{self.label}: the function {name} lies in no part of the file.", "Use another nginx.")
