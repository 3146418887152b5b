"""systemd as the manager of this host's units: what it is asked and told, each time with a deadline.

A visit must never wait long for it: an incident rollback matters more than a unit. So once systemd has left a call without
an answer, this visit does not call it again.
"""

import re
import socket
import struct
from contextlib import closing
from typing import Dict, List, Optional, Set, Tuple

from fleet.onhost.system.host_tools import TOOL_ENV
from fleet.onhost.system.machine import Machine
from fleet.onhost.systemd.by_hand import NOTIFY_SOCKET
from fleet.onhost.systemd.unit import (
    FILE_PROPERTIES,
    PROPERTIES,
    RUNS_SYSTEMD,
    Unit,
    UnitFile,
    read_unit,
    read_unit_files,
)

CAP_SYS_ADMIN = 21  # linux/capability.h; unix(7) asks for it to send in the name of another process.
SHOW_S = 4.0
RELOAD_S = 10.0
MOST_WORDS = 300
POLL_S = 0.02
FOLLOW_SEEN_S = 2.0


class NoAnswer(Exception):
    """systemd did not answer, or did not do what it was asked; the text says why."""


class ServiceManager:
    """systemd on this host. Every method may raise `NoAnswer`."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._given_up: List[str] = []
        self._said: Set[str] = set()
        self._known: Dict[str, Tuple[float, Unit]] = {}

    @property
    def runs(self) -> bool:
        """Whether systemd manages this host (sd_booted(3))."""
        return self.machine.exists(RUNS_SYSTEMD)

    def first_time(self, text: str) -> bool:
        """Whether this visit says this for the first time."""
        is_new = text not in self._said
        self._said.add(text)
        return is_new

    def show(self, name: str, age_s: float = 0.0) -> Unit:
        """The unit, as systemd has it loaded: now, or as this visit has read it at most `age_s` seconds ago."""
        known = self._known.get(name)
        if known is not None and self.machine.monotonic_s() - known[0] < age_s:
            return known[1]
        output = self._systemctl(("show", "--property=" + PROPERTIES, "--", name), SHOW_S)
        unit = read_unit(output)
        if unit is None:
            raise NoAnswer("`systemctl show %s` printed no unit" % name)
        self._known[name] = (self.machine.monotonic_s(), unit)
        return unit

    def of_pid_file(self, pid_file: str) -> Optional[UnitFile]:
        """The service that has this pid file, also one that never started; `None` where no or several ones have it.

        Raises `NoAnswer`.
        """
        words = ("show", "--type=service", "--all", "--property=" + FILE_PROPERTIES, "--", "*", "nginx.service")
        real_path = self.machine.real_path
        every = read_unit_files(self._systemctl(words, SHOW_S))
        found = [one for one in every if real_path(one.pid_file) == real_path(pid_file)]
        return found[0] if len(found) == 1 else None

    def reload_files(self) -> None:
        """Have systemd read the files of all units again. It stops and starts nothing."""
        self._known.clear()
        self._systemctl(("daemon-reload",), RELOAD_S)

    def set_main(self, name: str, pid: int) -> Unit:
        """Have systemd take this process for the main one of the unit, and see that it does. Returns the unit.

        The message is sent in the name of that process, as `systemd-notify --pid=PID` of root does it (sd_pid_notify(3)):
        systemd heeds it only when its sender is in the unit's control group, and the unit has NotifyAccess=all.
        """
        try:
            _notify("MAINPID=%d" % pid, pid)
        except OSError as error:
            raise NoAnswer("%s: %s" % (NOTIFY_SOCKET, error.strerror or error))
        until = self.machine.monotonic_s() + FOLLOW_SEEN_S
        while True:
            unit = self.show(name)
            if unit.main_pid == pid:
                return unit
            if self.machine.monotonic_s() >= until:
                raise NoAnswer("it does not take pid %d for the main process" % pid)
            self.machine.pause(POLL_S)

    def _systemctl(self, words: Tuple[str, ...], timeout_s: float) -> str:
        if self._given_up:
            raise NoAnswer(self._given_up[0])
        ran = self.machine.run(("systemctl",) + words, timeout_s, env=TOOL_ENV)
        if ran.code == 0:
            return ran.output
        why = "`systemctl %s`: %s" % (words[0], ran.output.strip()[:MOST_WORDS] or "code %d" % ran.code)
        if ran.code in (124, 127):
            self._given_up.append(why)
        raise NoAnswer(why)


def _notify(message: str, sender: int) -> None:
    """Send the message to systemd in the name of this process of root's. Raises OSError."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as out:
        out.settimeout(FOLLOW_SEEN_S)
        out.connect(NOTIFY_SOCKET)
        credentials = struct.pack("3i", sender, 0, 0)
        out.sendmsg([message.encode()], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])


def why_unwritable(machine: Machine) -> Optional[str]:
    """Why no unit can be given a drop-in on this host, as far as that is seen without doing it; else `None`."""
    return None if machine.may_write(RUNS_SYSTEMD) else "%s can't be written" % RUNS_SYSTEMD


def why_mute(machine: Machine) -> Optional[str]:
    """Why systemd can't be told of a main process on this host, as far as that is seen without doing it; else `None`."""
    if not machine.exists(NOTIFY_SOCKET):
        return "there is no %s" % NOTIFY_SOCKET
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", machine.read("/proc/self/status") or "", re.MULTILINE)
    if found and not int(found.group(1), 16) >> CAP_SYS_ADMIN & 1:
        return "root lacks CAP_SYS_ADMIN here, as in a container"
    return why_unwritable(machine)
