"""The log lines of a rehearsal that can speak against a release."""

import os
import re
from typing import Collection, Dict, List, Optional, Tuple

from fleet.onhost.nginx.error_log import GRAVE, LINE, speaks_against
from fleet.onhost.nginx.log_files import written_by
from fleet.onhost.system.machine import Machine

MOST_LOG_BYTES = 1 << 20
MOST_LINES = 50
NO_NETWORK = re.compile(r"\b(connect|send|sendto|recv)\(\) (to .* )?failed \((2|13|99|101|110|111|113): ")
"""A connection that fails, such as one to a syslog server: the copy has no network, and covers other programs' sockets.
Whether a generation writes such a line depends on how many requests one of its workers happens to get."""
AT_START = re.compile(r"^nginx: \[(\w+)\]")


class Reader:
    """Reads the logs of the rehearsal, each line once."""

    def __init__(self, machine: Machine, words: int) -> None:
        self._machine = machine
        self._words = words
        self._read: Dict[str, int] = {}

    def lines(self, pids: Collection[int]) -> Tuple[str, ...]:
        """The lines since the last call: those that count, and in the main log those that are not nginx's own."""
        found: List[str] = []
        main = {error_log(self._machine, pid) for pid in pids}
        for path in sorted({path for pid in pids for path in written_by(self._machine, pid)} | set(self._read) - {""}):
            found += [line for line in self._new(path).splitlines() if counts(line, path in main)]
        os.lseek(self._words, self._read.get("", 0), os.SEEK_SET)
        data = os.read(self._words, MOST_LOG_BYTES)
        self._read[""] = self._read.get("", 0) + len(data)
        found += [line for line in data.decode("utf-8", "replace").splitlines() if counts(line, is_main=True)]
        return tuple(dict.fromkeys(found))[:MOST_LINES]

    def _new(self, path: str) -> str:
        try:
            data = self._machine.read_from(path, self._read.get(path, 0), MOST_LOG_BYTES)
        except OSError:
            return ""
        self._read[path] = self._read.get(path, 0) + len(data)
        return data.decode("utf-8", "replace")


def counts(line: str, is_main: bool) -> bool:
    """Whether the line can speak against a release; lines of the loader and of libraries have no date."""
    if NO_NETWORK.search(line):
        return False
    found = LINE.match(line)
    if found is None:
        words = AT_START.match(line)
        return is_main and bool(line.strip()) and (words is None or words.group(1) in GRAVE)
    return speaks_against(line)


def by_others(lines: Collection[str], pids: Collection[int]) -> Tuple[str, ...]:
    """The lines that none of these processes wrote. Workers that drain may complain of what they leave open, say."""
    writers = [(line, LINE.match(line)) for line in lines]
    return tuple(line for line, found in writers if found is None or int(found.group(2)) not in pids)


def error_log(machine: Machine, pid: int) -> Optional[str]:
    """The file that takes the error log of this master: its descriptor 2, unless that is the one it was started with."""
    path = machine.real_path("/proc/%d/fd/2" % pid)
    return path if path in written_by(machine, pid) else None
