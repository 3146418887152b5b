"""The step script's entry: a request and beats on stdin, replies and an end mark on stdout; or `undo` on the console.

SIGHUP and SIGPIPE are ignored and a failed write is no error: a step that has begun is finished whether or not the
controller still listens.
"""

import os
import signal
import sys
import threading
from typing import List, Optional

from fleet.onhost.protocol import END_MARK, PROTOCOL, Outcome, Reply, ReplyType, Report, Request
from fleet.onhost.state import watcher
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.dispatch import serve
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.errands import errands
from fleet.onhost.visit.heartbeat import Control
from fleet.onhost.visit.undo import undo
from fleet.onhost.wire import Malformed, decode, encode

MOST_REQUEST_BYTES = 1 << 20
REQUEST_S = 45
"""How long to wait for the request. Nothing has been done yet, and a cut connection gives no error."""


class Speaker:
    """Writes reply lines. A line that can't be written is dropped: the controller is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        with self._lock:
            try:
                sys.stdout.write(text + "\n")
                sys.stdout.flush()
            except (OSError, ValueError):
                return

    def say(self, reply: Reply) -> None:
        self.line(encode(reply))

    def end(self, end: End, report: Optional[Report]) -> None:
        """The outcome and the end mark. A conversation without an end mark is a lost link."""
        self.say(end.outcome_reply(report))
        self.line(END_MARK)


def main(argv: Optional[List[str]] = None, machine: Optional[Machine] = None) -> int:
    """Answer one request. The exit code means nothing: the replies say what happened.

    `machine` is this host, unless a test hands in one that breaks at a chosen moment.
    """
    words = sys.argv[1:] if argv is None else argv
    machine = machine or Machine()
    for signum in (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)
    os.umask(0o077)
    if words[:1] == ["undo"]:
        return undo(machine, words[1], words[2:])
    if words[:1] == ["watch"]:
        return watch(machine, words[1], words[2])
    speaker = Speaker()
    speaker.say(Reply(ReplyType.HELLO))
    signal.alarm(REQUEST_S)
    try:
        request: Request = decode(Request, sys.stdin.readline(MOST_REQUEST_BYTES))
    except Malformed as error:
        speaker.end(ended(Outcome.REFUSED, "bad_request", error=error), None)
        return 2
    finally:
        signal.alarm(0)
    if request.protocol != PROTOCOL:
        speaker.end(ended(Outcome.REFUSED, "protocol", theirs=request.protocol, ours=PROTOCOL), None)
        return 2
    control = Control(sys.stdin)
    control.listen()
    end, report = serve(machine, request, speaker.say, control.go_on)
    speaker.end(end, report)
    return 0


def watch(machine: Machine, state_dir: str, name: str) -> int:
    """Do what this instance owes, to its end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own = InstanceStore(machine, state_dir, name)
    watcher.watch(own, errands(own))
    return 0


if __name__ == "__main__":
    sys.exit(main())
