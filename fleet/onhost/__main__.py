"""The step script's entry: requests and beats on stdin, replies and end marks on stdout; or `undo` on the console.

SIGHUP and SIGPIPE are ignored and a failed write is no error: a step that has begun is finished whether or not the
controller still listens.
"""

import os
import signal
import sys
from typing import BinaryIO, Callable, List, Optional, Tuple

from fleet.onhost.conversation import Host, converse
from fleet.onhost.protocol import Report, Request, Upload
from fleet.onhost.remembered import Remembered
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.dispatch import Say, serve
from fleet.onhost.visit.end import End


def main(argv: Optional[List[str]] = None, machine: Optional[Machine] = None) -> int:
    """Answer requests. The exit code means nothing: the replies say what happened.

    `machine` is this host, unless a test hands in one that breaks at a chosen moment.
    """
    words = sys.argv[1:] if argv is None else argv
    for signum in (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    os.umask(0o077)
    if words[:1] == ["undo"]:
        from fleet.onhost.visit.undo import undo

        return undo(machine or Machine(), words[1], words[2:])
    if words[:1] == ["watch"]:
        return watch(machine or Machine(), words[1], words[2])
    return converse(sys.stdin.buffer, host(machine))


def host(machine: Optional[Machine] = None) -> Host:
    """This host, which looks afresh for each request. `machine` takes the place of each new one in a test."""

    remembered = Remembered()

    def answer(request: Request, say: Say, go_on: Callable[[], None]) -> Tuple[End, Optional[Report]]:
        return serve(machine or Machine(), request, say, go_on, remembered)

    def take_in(upload: Upload, source: BinaryIO) -> Optional[str]:
        from fleet.onhost.steps.stage import receive_release

        return receive_release(machine or Machine(), upload, source)

    return Host(answer, take_in, lambda: os.path.exists(__file__))


def watch(machine: Machine, state_dir: str, name: str) -> int:
    """Do what this instance owes, to its end."""
    from fleet.onhost.state import watcher
    from fleet.onhost.state.store import InstanceStore
    from fleet.onhost.visit.errands import errands

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own = InstanceStore(machine, state_dir, name)
    watcher.watch(own, errands(own))
    return 0


if __name__ == "__main__":
    sys.exit(main())
