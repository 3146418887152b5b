"""An nginx binary: its ELF header, and its build options.

fleet runs a binary on the host for `-v` and `-V` only, which open no file of nginx's, and in an empty environment: with a
shell's LD_LIBRARY_PATH it could run where USR2 fails (docs/nginx-facts.md, section 2).
"""

import os
import re
import shlex
import struct
from typing import Dict, List, NamedTuple, Optional, Set

from fleet.onhost.nginx.command_line import CommandLine, under
from fleet.onhost.system.machine import Machine, Ran

ASK_TIMEOUT_S = 20.0
MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
}
PT_INTERP = 3

# The defaults of `configure` (nginx's auto/options). At run time nginx takes relative paths from the prefix.
DEFAULTS = {
    "prefix": "/usr/local/nginx",
    "conf-path": "conf/nginx.conf",
    "pid-path": "logs/nginx.pid",
    "error-log-path": "logs/error.log",
    "sbin-path": "sbin/nginx",
    "modules-path": "modules",
    "http-log-path": "logs/access.log",
    "user": "nobody",
}


class Elf(NamedTuple):
    """The header of an ELF file: `kind` is like `x86_64, 64 bit`, `loader` is its PT_INTERP."""

    kind: str
    loader: Optional[str]


class Build(NamedTuple):
    """What `-V` prints: `server` is like `nginx`; `options` are the configure arguments by name, without the dashes."""

    server: str
    version: str
    options: Dict[str, str]
    modules: Set[str]


def read_elf(machine: Machine, path: str) -> Optional[Elf]:
    """The header of an ELF file, or `None` if the file is not ELF or is incomplete."""
    try:
        head = machine.read_from(path, 0, 64)
        if head[:4] != b"\x7fELF":
            return None
        order = "<" if head[5] == 1 else ">"
        wide = head[4] == 2
        number = struct.unpack_from(order + "H", head, 18)[0]
        table = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        loader = _loader(machine, path, order, wide, machine.read_from(path, table, size * count), size)
    except (OSError, struct.error, IndexError, OverflowError):
        return None
    return Elf("%s, %d bit" % (MACHINES.get(number, "machine %d" % number), 64 if wide else 32), loader)


def _loader(machine: Machine, path: str, order: str, wide: bool, table: bytes, size: int) -> Optional[str]:
    for at in range(0, len(table) - size + 1, max(size, 1)):
        if struct.unpack_from(order + "I", table, at)[0] != PT_INTERP:
            continue
        offset = struct.unpack_from(order + ("Q" if wide else "I"), table, at + (8 if wide else 4))[0]
        length = struct.unpack_from(order + ("Q" if wide else "I"), table, at + (32 if wide else 16))[0]
        return machine.read_from(path, offset, min(length, 4096)).rstrip(b"\0").decode("utf-8", "replace")
    return None


def ask_build(machine: Machine, path: str) -> Ran:
    """What the binary prints for `-V`, in an empty environment."""
    return machine.run((path, "-V"), ASK_TIMEOUT_S, env={}, cwd="/")


def read_build(output: str) -> Optional[Build]:
    """The build that `-V` printed, or `None` if the text does not come from nginx."""
    named = re.search(r"^(\S+) version: (\S+)/(\S+)", output, re.MULTILINE)
    given = re.search(r"^configure arguments:(.*)$", output, re.MULTILINE)
    if not named:
        return None
    options: Dict[str, str] = {}
    modules = set()
    for word in _shell_words(given.group(1) if given else ""):
        name, _, value = word[2:].partition("=")
        if name in ("add-module", "add-dynamic-module"):
            modules.add(os.path.basename(value.rstrip("/")))
        elif re.match(r"^with(out)?-.*_module$", name) or name in ("with-mail", "with-stream"):
            modules.add(name + (" (dynamic)" if value == "dynamic" else ""))
        else:
            options[name] = value
    return Build(named.group(2), named.group(3), options, modules)


def _shell_words(text: str) -> List[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def complaint(output: str) -> str:
    """The line of a failed configuration test that gives the cause, without nginx's preamble."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    grave = [line for line in lines if re.search(r"\[(emerg|alert|crit)\]", line)]
    return (grave or [line for line in lines if "test failed" not in line] or lines or ["it printed nothing"])[0]


def effective(build: Build, command: CommandLine, name: str) -> str:
    """The path that a binary of this build uses when it is started with this command line."""
    given = command.config if name == "conf-path" else None
    return under(prefix_of(build, command), given or build.options.get(name) or DEFAULTS[name])


def prefix_of(build: Build, command: CommandLine) -> str:
    """The folder from which a binary of this build takes relative paths."""
    return command.prefix or build.options.get("prefix") or DEFAULTS["prefix"]
