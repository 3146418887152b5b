"""The ExecReload= of a unit, rewritten to reach the master that the pid file names.

`kill -HUP $MAINPID` reaches the old master of a held nginx, because systemd follows it until it ends: its workers come back
beside the new ones, and the release that serves is not reloaded. The pid file names the master that serves.
"""

import re
from typing import List, Optional, Tuple

from fleet.onhost.system.machine import Machine

MAIN = re.compile(r"\$(?:MAINPID\b|\{MAINPID\})")
PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._@+-]+")
SHELL = re.compile(r"(?:/usr)?/bin/(?:sh|bash|dash) +-\w*c ")
QUOTED = re.compile(r"""["'\\;]""")
PREFIX = re.compile(r"[-@:+!]*")


def reload_lines(machine: Machine, files: Tuple[str, ...]) -> List[str]:
    """The commands of ExecReload= in these files of a unit, in systemd's order; an empty value forgets those before it."""
    found: List[str] = []
    for path in files:
        for section, key, value in _assignments(machine.read(path) or ""):
            if section == "Service" and key == "ExecReload":
                found = found + [value] if value else []
    return found


def by_pid_file(lines: List[str], pid_file: str, confined: bool = False) -> Optional[List[str]]:
    """The commands with the pid file's content in place of `$MAINPID`; `None` where nothing is to be replaced.

    A command that can't be rewritten as it is becomes a plain HUP to that master: to nginx, that is a reload. In a unit that
    is `confined` to some programs (NoExecPaths=) a shell may be forbidden: there it runs outside of that (`+`).
    """
    if not any(MAIN.search(line) for line in lines) or not PLAIN_PATH.fullmatch(pid_file):
        return None
    plus = "+" if confined else ""
    return [plus + _rewritten(line, pid_file) if MAIN.search(line) else line for line in lines]


def _rewritten(line: str, pid_file: str) -> str:
    prefix = PREFIX.match(line)
    kept = prefix.group(0) if prefix else ""
    command, names = line[len(kept) :].strip(), "$$(cat %s)" % pid_file
    if SHELL.match(command) and "@" not in kept:
        return kept + MAIN.sub(lambda _: names, command)
    if QUOTED.search(command) or "@" in kept:
        command, kept = "kill -HUP $MAINPID", kept.replace("@", "")
    return "%s/bin/sh -c '%s'" % (kept, MAIN.sub(lambda _: names, command))


def _assignments(text: str) -> List[Tuple[str, str, str]]:
    """The assignments of a unit file as (section, key, value), with continued lines joined (systemd.syntax(7))."""
    found, section, begun = [], "", ""
    for line in text.splitlines():
        if line.lstrip()[:1] in ("#", ";") and line.strip():
            continue
        line = begun + line
        begun = ""
        if line.endswith("\\"):
            begun = line[:-1] + " "
            continue
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line:
            key, _, value = line.partition("=")
            found.append((section, key.strip(), value.strip()))
    return found
