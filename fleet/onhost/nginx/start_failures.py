"""Why a new master did not start, read from the output of the binary or from nginx's log: each cause has a word, some a repair.

nginx logs a failed execve as the child that it had forked for it, a crash and a failure before that as the old master;
the loader writes a line without a time stamp. All of it appears at the default level `error` (docs/nginx-facts.md, section 2).
"""

import re
from enum import Enum
from typing import Collection, Dict, List, NamedTuple, Optional, Tuple

from fleet.onhost.nginx.binary import complaint
from fleet.onhost.nginx.error_log import GRAVE, LINE, NOT_FORKED, NOT_RENAMED
from fleet.onhost.nginx.log.kinds import kind_of
from fleet.onhost.nginx.module_misfit import Misfit, read_misfit
from fleet.onhost.system.machine import Ran

EXECVE = re.compile(r"execve\(\) failed while executing new binary process .*\((\d+): ")
NOT_EXECUTED = re.compile(r"^\[Errno (\d+)\]")
SIGNALLED = re.compile(r"new binary process \d+ exited on signal (\d+)")
BIND = re.compile(r"bind\(\) to (\S+) failed \((98: [^)]*)\)")
FULL = re.compile(r"(?:pwrite|write|open)\(\) \".*\" (?:failed|was incomplete).*\((?:28|122): ")
AT_START = re.compile(r"^\w+: \[(\w+)\] (.*)$")
"""A line before the log is open: nginx writes it to its stderr, without time and pid."""
LOADER = ("error while loading shared librar", "symbol lookup error", "Error loading shared librar")
NOT_RUN = 127


class Repair(Enum):
    """What may remove a cause, so that a second USR2 makes sense."""

    MAKE_EXECUTABLE = "make executable"
    WAIT_FOR_WRITERS = "wait for writers"
    WRITE_PID_FILE = "write pid file"


EXEC: Dict[int, Tuple[str, Optional[Repair]]] = {
    2: ("exec_missing", None),
    8: ("exec_format", None),
    13: ("exec_denied", Repair.MAKE_EXECUTABLE),
    26: ("text_busy", Repair.WAIT_FOR_WRITERS),
}


class Cause(NamedTuple):
    """The word, the facts for it, the repair if there is one, and whether the old master is poisoned now."""

    word: str
    facts: Dict[str, object]
    repair: Optional[Repair] = None
    poisons: bool = False


def why_not_run(ran: Ran, path: str) -> Optional[Cause]:
    """Why the new binary could not even say its version (`-v`); `None` when it could, or when the cause is unknown."""
    line = complaint(ran.output)
    if ran.code < 0:
        return Cause("start_crashed", {"signal": -ran.code, "when": "printed its version"})
    errno = NOT_EXECUTED.match(ran.output)
    if ran.code == NOT_RUN and errno:
        return _not_executed(int(errno.group(1)), path, line)
    return Cause("library_missing", {"line": line}) if ran.code == NOT_RUN else None


def why_not_started(
    lines: Collection[str],
    old: int,
    workers: Collection[int],
    path: str,
    pid_file: str,
    known: Collection[str] = (),
) -> Optional[Cause]:
    """Why the old master did not start a new one, by the log lines since USR2. `None` where they show no cause.

    `workers` are the old master's: their lines are about their own requests. `known` are the kinds of line that the running
    release writes as well: they explain nothing.
    """
    return (
        _before_the_fork(lines, old, pid_file)
        or _at_execution(lines, path)
        or _at_its_start(lines, old, workers, pid_file, known)
    )


def why_it_ended(lines: Collection[str], path: str, pid_file: str) -> Optional[Cause]:
    """Why an nginx ended at its start, by its own lines. `None` where they show no cause."""
    return _at_execution(lines, path) or _at_its_start(lines, None, (), pid_file, ())


def _before_the_fork(lines: Collection[str], old: int, pid_file: str) -> Optional[Cause]:
    """The two failures that leave `ngx_new_binary` at -1 in the old master: from then on its HUP only adds workers."""
    for line in lines:
        if _pid(line) != old:
            continue
        if NOT_RENAMED in line:
            return Cause(
                "poisoned_by_rename",
                {"line": _text(line), "path": pid_file, "pid": old},
                Repair.WRITE_PID_FILE,
                poisons=True,
            )
        if NOT_FORKED in line:
            return Cause("poisoned_by_fork", {"line": _text(line)}, poisons=True)
    return None


def _at_execution(lines: Collection[str], path: str) -> Optional[Cause]:
    for line in lines:
        failed, signalled = EXECVE.search(line), SIGNALLED.search(line)
        if failed:
            return _not_executed(int(failed.group(1)), path, _text(line))
        if signalled:
            return Cause("start_crashed", {"signal": int(signalled.group(1)), "when": "started"})
        if _pid(line) is None and any(word in line for word in LOADER):
            return Cause("library_missing", {"line": line.strip()})
    return None


def _not_executed(errno: int, path: str, line: str) -> Cause:
    word, repair = EXEC.get(errno, ("exec_failed", None))
    return Cause(word, {"path": path, "line": line}, repair)


def _at_its_start(
    lines: Collection[str], old: Optional[int], workers: Collection[int], pid_file: str, known: Collection[str]
) -> Optional[Cause]:
    """What the new master wrote before it gave up: the first line with a reason word of its own, else the last line."""
    grave = [line for line in lines if _level(line) in GRAVE and _pid(line) not in workers and "client:" not in line]
    for line in grave:
        bind = BIND.search(line)
        if bind:
            return Cause("listener_busy", {"listener": bind.group(1), "why": bind.group(2)})
        if FULL.search(line) and pid_file and pid_file in line:
            return Cause("pid_dir_full", {"line": _text(line), "path": pid_file})
        misfit = read_misfit(line, "the new binary")
        if misfit:
            return _misfit(misfit)
    by_new = [line for line in grave if old is None or _pid(line) != old]
    rejected = [line for line in by_new if _level(line) == "emerg"]
    if rejected:
        return Cause("config_rejected", {"binary": "the new binary", "line": _text(rejected[-1])})
    rest = [line for line in by_new if kind_of(line) not in known]
    return Cause("launch_failed", {"line": _text(rest[-1])}) if rest else None


def _misfit(found: Misfit) -> Cause:
    return Cause("module_incompatible", {"module": found.module, "why": found.why, "cure": found.cure})


def is_ignored(lines: Collection[str], old: Optional[int] = None) -> Optional[str]:
    """The log line that says that a master, this one if it is given, ignored USR2; or `None`."""
    found: List[str] = [line for line in lines if "the changing binary signal is ignored" in line]
    found = [line for line in found if old is None or _pid(line) == old]
    return _text(found[-1]) if found else None


def _level(line: str) -> Optional[str]:
    found = LINE.match(line) or AT_START.match(line)
    return found.group(1) if found else None


def _pid(line: str) -> Optional[int]:
    found = LINE.match(line)
    return int(found.group(2)) if found else None


def _text(line: str) -> str:
    found = LINE.match(line) or AT_START.match(line)
    return found.groups()[-1] if found else line.strip()
