"""Releases for the lab: good and bad nginx binaries, made from an installed one by changing a few of its bytes.

No compiler is needed: the version is a text in the file, and two or nine bytes at the start of an exported function
decide what happens when nginx calls it. Every change has the length of what it replaces, so that the layout of the file
stays; padding is appended after the end, which the loader ignores.

All kinds except `truncated` also have the new version, as a real bad release would.
"""

import random
import re
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO

from fleet.errors import ReleaseError
from fleet.lab.releases.elf import MACHINE_OFFSET, Executable

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "new": "a good release: the same nginx with another version",
        "truncated": "only the first part of the file",
        "wrong-arch": "built for another architecture",
        "not-executable": "the file is not executable",
        "missing-lib": "needs a shared library that no host has",
        "bad-config": "does not know the directive worker_processes",
        "crash-workers": "workers end with SIGILL as soon as they start",
        "hang-workers": "workers start, accept no connection and handle no signal",
        "crash-on-request": "a worker ends with SIGILL at its first request",
        "hung-master": "the master writes its pid file and hangs: it starts no workers and handles no signal but KILL",
        "errors": "answers 500 instead of 200",
    }
)

MACHINE_CODE_KINDS = frozenset({"crash-workers", "hang-workers", "crash-on-request", "hung-master"})
MACHINE_CODE_OF = "EM_X86_64"

DEFAULT_BASE = Path("/usr/sbin/nginx")
DEFAULT_VERSION = "1.22.9"

# Only workers (and the cache manager) call the first. The master calls the last right after it wrote its pid file.
WORKER_LOOP = "ngx_process_events_and_timers"
REQUEST_START = "ngx_http_process_request"
MASTER_LOOP = "ngx_master_process_cycle"

LANDING_PAD = b"\xf3\x0f\x1e\xfa"  # endbr64: with CET, a function must begin with it
CRASH = b"\x0f\x0b"  # ud2
# mov $34,%eax (pause); syscall; jmp back: hangs like `jmp .`, but uses no CPU.
HANG = b"\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf7"

OK_LINE = b"\x00200 OK\x00"
ERROR_LINE = b"\x00500 NO\x00"
DIRECTIVE = b"\x00worker_processes\x00"
UNKNOWN_DIRECTIVE = b"\x00worker_processez\x00"
EM_AARCH64 = 183
EM_X86_64 = 62
KEPT_WHEN_TRUNCATED_PERCENT = 60
PAD_CHUNK_BYTES = 1 << 20
VERSION_TEXT = re.compile(rb"nginx/([0-9]+\.[0-9]+\.[0-9]+)")


def make_release(
    kind: str,
    out: Path,
    *,
    version: str = DEFAULT_VERSION,
    size_bytes: int | None = None,
    base: Path = DEFAULT_BASE,
) -> Path:
    """Write a release of this kind to `out`, completely or not at all, and return `out`.

    `size_bytes` pads it to exactly that size, with bytes that don't compress and are the same each time.
    Raises `ReleaseError` when the kind is unknown or can't be made from `base`.
    """
    if kind not in KINDS:
        raise ReleaseError(f"There is no kind of release called {kind!r}.", f"Choose one of: {', '.join(KINDS)}.")
    original = _read(base)
    executable = Executable(original, str(base))
    _refuse_foreign_machine_code(kind, executable)
    content = bytearray(original)
    if kind != "truncated":
        _set_version(content, version, str(base))
    CHANGES.get(kind, _leave)(content, executable)
    if bytes(content) == original and size_bytes is None and kind == "new":
        raise ReleaseError(
            f"{base} has the version {version} already, so the release would be the same file.",
            "Give another --version.",
        )
    _write(out, bytes(content), 0o644 if kind == "not-executable" else 0o755, _padding(kind, len(content), size_bytes))
    return out


def _read(base: Path) -> bytes:
    try:
        return base.read_bytes()
    except OSError as error:
        raise ReleaseError(
            f"{base} can't be read: {error.strerror}.", "Install Debian's nginx, or name another binary."
        ) from error


def _refuse_foreign_machine_code(kind: str, executable: Executable) -> None:
    if kind not in MACHINE_CODE_KINDS or executable.machine == MACHINE_CODE_OF:
        return
    possible = ", ".join(name for name in KINDS if name not in MACHINE_CODE_KINDS)
    raise ReleaseError(
        f"A release of kind {kind} needs machine code, which fleet has for x86_64 only; {executable.label} is for "
        f"{executable.machine.removeprefix('EM_').lower()}.",
        f"Kinds that can be made here: {possible}.",
    )


def _set_version(content: bytearray, version: str, label: str) -> None:
    found = VERSION_TEXT.search(content)
    if found is None:
        raise ReleaseError(f"{label} is not nginx: it has no text nginx/VERSION.", "Give the path of an nginx binary.")
    old, new = found.group(1), version.encode()
    if len(old) != len(new) or not VERSION_TEXT.fullmatch(b"nginx/" + new):
        raise ReleaseError(
            f"The version {version!r} can't replace {old.decode()} in {label}: it must be three numbers with dots, "
            f"{len(old)} characters in all.",
            "Give another --version.",
        )
    content[:] = content.replace(b"nginx/" + old, b"nginx/" + new)


def _leave(content: bytearray, executable: Executable) -> None:
    """Change nothing: only the version, the mode or the size differs."""


def _truncate(content: bytearray, executable: Executable) -> None:
    del content[len(content) * KEPT_WHEN_TRUNCATED_PERCENT // 100 :]


def _change_machine(content: bytearray, executable: Executable) -> None:
    other = EM_AARCH64 if executable.machine == MACHINE_CODE_OF else EM_X86_64
    struct.pack_into("<H" if executable.is_little_endian else ">H", content, MACHINE_OFFSET, other)


def _lose_library(content: bytearray, executable: Executable) -> None:
    needed = executable.needed()
    if not needed:
        raise ReleaseError(f"{executable.label} needs no shared library.", "Use a dynamically linked nginx.")
    library = needed[0]
    # The fourth byte: "libcrypt.so.1" becomes "lib-rypt.so.1", a name that no package has.
    content[library.offset + 3 : library.offset + 4] = b"-"


def _forget_directive(content: bytearray, executable: Executable) -> None:
    _replace_once(content, DIRECTIVE, UNKNOWN_DIRECTIVE, executable.label)


def _answer_errors(content: bytearray, executable: Executable) -> None:
    _replace_once(content, OK_LINE, ERROR_LINE, executable.label)


def _replace_once(content: bytearray, old: bytes, new: bytes, label: str) -> None:
    count = content.count(old)
    if count != 1:
        text = old.strip(b"\0").decode()
        raise ReleaseError(f"{label} has the text {text!r} {count} times instead of once.", "Use Debian's nginx.")
    start = content.index(old)
    content[start : start + len(old)] = new


def _code_at(function: str, code: bytes) -> Callable[[bytearray, Executable], None]:
    def patch(content: bytearray, executable: Executable) -> None:
        start = executable.function(function)
        if content.startswith(LANDING_PAD, start):
            start += len(LANDING_PAD)
        content[start : start + len(code)] = code

    return patch


CHANGES: Mapping[str, Callable[[bytearray, Executable], None]] = MappingProxyType(
    {
        "truncated": _truncate,
        "wrong-arch": _change_machine,
        "missing-lib": _lose_library,
        "bad-config": _forget_directive,
        "crash-workers": _code_at(WORKER_LOOP, CRASH),
        "hang-workers": _code_at(WORKER_LOOP, HANG),
        "crash-on-request": _code_at(REQUEST_START, CRASH),
        "hung-master": _code_at(MASTER_LOOP, HANG),
        "errors": _answer_errors,
    }
)


def _padding(kind: str, length: int, size_bytes: int | None) -> int:
    """How many bytes must be appended to make the file `size_bytes` long."""
    if size_bytes is None:
        return 0
    if kind == "truncated":
        raise ReleaseError("A truncated release can't be padded.", "Leave out --size.")
    if size_bytes < length:
        raise ReleaseError(
            f"The binary has {length} bytes, more than the requested size ({size_bytes}).",
            f"Give a --size of at least {length}.",
        )
    return size_bytes - length


def _write(out: Path, content: bytes, mode: int, padding_bytes: int) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                _fill(file, content, padding_bytes)
                part.chmod(mode)
                part.replace(out)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise ReleaseError(f"{out} can't be written: {error.strerror}.", "Choose another file for it.") from error


def _fill(file: IO[bytes], content: bytes, padding_bytes: int) -> None:
    file.write(content)
    noise = random.Random(padding_bytes)
    for start in range(0, padding_bytes, PAD_CHUNK_BYTES):
        file.write(noise.randbytes(min(PAD_CHUNK_BYTES, padding_bytes - start)))
    file.flush()
