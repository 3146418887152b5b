"""The step script's door: a request and beats on stdin, replies on stdout, an end mark; or `undo` on the console.

SIGHUP and SIGPIPE are ignored and a failed write is no error: a step that has begun is finished whoever listens.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import List, Optional

from fleet.onhost.instance import Instance
from fleet.onhost.protocol import (
    END_MARK,
    MAY_DO,
    PROTOCOL,
    Ask,
    Outcome,
    Reply,
    ReplyType,
    Report,
    Request,
)
from fleet.onhost.state import lease
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.dispatch import go_back_by_lease, serve
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.heartbeat import Control
from fleet.onhost.wire import Malformed, decode, encode

MOST_REQUEST_BYTES = 1 << 20
REQUEST_S = 45
"""Nothing has been done yet, so who hears no request for so long just ends: a link that was cut says nothing at all."""
HOPELESS = ("foreign", "down", "bad_record", "release_lost")
"""What no second try mends: a person must look."""


class Speaker:
    """Writes reply lines; one that nobody reads any more is dropped."""

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
        """The outcome and the end mark: what comes without them is a lost link."""
        self.say(end.outcome_reply(report))
        self.line(END_MARK)


def main(argv: Optional[List[str]] = None, machine: Optional[Machine] = None) -> int:
    """Answer one request. The exit code means nothing: what happened is in the replies.

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
    """Watch the lease of this instance to its end. Whoever started it is told once it watches, and needs it no more."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    own = InstanceStore(machine, state_dir, name)

    def ready() -> None:
        with suppress(OSError):  # who started it may be gone already
            os.write(1, lease.READY + b"\n")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)

    lease.watch(own, ready, lambda found: log_lease(machine, own, found))
    return 0


def log_lease(machine: Machine, own: InstanceStore, found: lease.Lease) -> bool:
    """The host has gone back, as far as it could; syslog says so, too. Whether it should be tried again."""
    end = _gone_back(machine, own, found)
    machine.syslog("the lease of rollout %s ran out: %s %s" % (found.rollout, end.outcome.value, end.message))
    return end.outcome is not Outcome.DONE and end.reason not in HOPELESS


def _gone_back(machine: Machine, own: InstanceStore, found: lease.Lease) -> End:
    layout, record = own.layout, own.record
    if layout is None or record is None:
        return ended(Outcome.FAILED, "bad_record", error="%s is not whole" % own.folder)
    return go_back_by_lease(Instance.at(machine, layout)._replace(kept=own), record, found)


def undo(machine: Machine, state_dir: str, words: List[str]) -> int:
    """Take this host back without a controller. 0 when it is back, 2 when it isn't clear what to take back."""
    names = machine.names(state_dir + "/instances")
    wanted = words[0] if words else (names[0] if len(names) == 1 else None)
    if wanted not in names:
        print("usage: %s/undo INSTANCE, one of: %s" % (state_dir, " ".join(names) or "none here"))
        return 2
    own = InstanceStore(machine, state_dir, str(wanted))
    try:
        record, layout = own.record, own.layout
    except Malformed as error:
        return _tell(ended(Outcome.FAILED, "bad_record", error=error))
    if record is None:
        return _tell(ended(Outcome.DONE, "nothing_to_undo"))
    if layout is None:
        return _tell(ended(Outcome.FAILED, "bad_record", error="%s/layout.json is missing" % own.folder))
    who = "undo by %s on the console" % (os.environ.get("SUDO_USER") or "root")
    request = Request(
        PROTOCOL, Ask.ROLLBACK, record.rollout, 0, who, None, MAY_DO[Ask.ROLLBACK], layout, take_over=True
    )
    return _tell(serve(machine, request, _print, lambda: None)[0])


def _tell(end: End) -> int:
    """The exit code of `undo`, whose end is printed, if anybody is there to read it."""
    said = "%s: %s %s" % (end.outcome.value, end.message or "nginx runs what it ran before the rollout", end.remedy)
    with suppress(OSError, ValueError):
        print(said, flush=True)
    return 0 if end.outcome is Outcome.DONE else 1


def _print(reply: Reply) -> None:
    """For a person on the console. It may be gone by now: that stops nothing."""
    try:
        if reply.type is ReplyType.STEP_ENDED and reply.step and reply.outcome:
            print("%-8s %s %s" % (reply.step.value, reply.outcome.value, reply.message), flush=True)
        elif reply.type is ReplyType.FINDING:
            print("warning: %s %s" % (reply.message, reply.remedy), flush=True)
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
