"""Runs `fleet` commands as forks of one process that has loaded it already: a program, started by `forks.py`.

Each fork is a whole controller: a process and a
session of its own, with its own journal, streams and world, that can be killed like any other. A line of JSON on stdin
asks for one; lines on stdout say its pid, and how it ended. When stdin ends, so does everything that was begun.

A controller that is to meet a fault brings the test's bundle instead of the shipped one: the same files, and a
`FaultyMachine` and a `FaultySource` handed to the same `main`.
"""

import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import fleet.commands.check
import fleet.commands.commit
import fleet.commands.history
import fleet.commands.resume
import fleet.commands.rollback
import fleet.commands.show
import fleet.commands.status
import fleet.commands.unlock
import fleet.commands.upgrade  # loaded once, before the forks
import fleet.onhost
from fleet import cli
from fleet.engine import Visits
from fleet.environment import Environment
from fleet.ssh import visit
from fleet.ssh.delivery.bundle import GENERIC, Bundle, bundles, contents, own_tag, pack, psutil_files
from fleet.ui.broken_pipe import tolerant
from tests.support.lab import faulty

ENTRY = "fleet/onhost/__main__.py"
FAULTY_MAIN = """
from fleet.onhost.faulty import FaultyMachine, converse

_shipped_main = main


def main() -> int:
    return _shipped_main(machine=FaultyMachine())
"""
"""Comes behind the shipped entry, which every start of a bundle imports `main` from."""


@cache
def faulty_bundles() -> Mapping[str, Bundle]:
    """As `bundles()`, with the machine that stops and the stdin that ends."""
    package = Path(fleet.onhost.__file__).parent
    more = {
        ENTRY: (package / "__main__.py").read_bytes() + FAULTY_MAIN.encode(),
        "fleet/onhost/faulty.py": Path(faulty.__file__).read_bytes(),
    }
    psutil = dict(psutil_files())
    found = {GENERIC: pack(GENERIC, contents(package) | more)}
    own = own_tag()
    if own is not None and psutil:
        found[own] = pack(own, contents(package, psutil) | more)
    return found


def faulty_visits(available: Mapping[str, Bundle]) -> Visits:
    """The way to the hosts, with that bundle."""
    return Visits(partial(visit.visit, available=available), visit.request_stop, visit.cut_all)


def become(asked: dict[str, Any]) -> int:
    """This process, freshly forked, is the controller that was asked for; its exit code."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    null = os.open(os.devnull, os.O_RDONLY)
    told, complained = (
        os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("told", "complained")
    )
    for number, source in ((0, null), (1, told), (2, complained)):
        os.dup2(source, number)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["folder"])
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)
    environment = Environment(visits=partial(faulty_visits, faulty_bundles())) if asked["faulty"] else Environment()
    code = cli.run(asked["words"], environment)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


class Server:
    """Forks on demand, and tells of each fork's end."""

    def __init__(self) -> None:
        bundles()
        self._forks: dict[int, int] = {}
        self._heard = b""
        woken, wake = os.pipe()
        for descriptor in (woken, wake):
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self._woken = woken

    def serve(self) -> None:
        """Until stdin ends; then no fork is left."""
        while True:
            ready, _, _ = select.select([0, self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if 0 in ready and not self._hear():
                break
        for pid in tuple(self._forks):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _hear(self) -> bool:
        data = os.read(0, 1 << 16)
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._fork(json.loads(line))
        return bool(data)

    def _fork(self, asked: dict[str, Any]) -> None:
        if asked["faulty"]:
            faulty_bundles()  # made once, before the forks
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = become(asked)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                sys.stderr.flush()
            finally:
                os._exit(code)
        self._forks[pid] = asked["number"]
        _say({"number": asked["number"], "pid": pid})

    def _reap(self) -> None:
        while self._forks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            _say({"number": self._forks.pop(pid), "code": os.waitstatus_to_exitcode(status)})


def _say(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


if __name__ == "__main__":
    Server().serve()
