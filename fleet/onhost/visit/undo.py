"""`undo`: a rollback from the host's console, without a controller."""

import os
from contextlib import suppress
from typing import List, Optional

from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Outcome, Reply, ReplyType, Request
from fleet.onhost.state.store import InstanceStore, instance_name
from fleet.onhost.system.machine import Machine
from fleet.onhost.text import safe, sentences
from fleet.onhost.visit.dispatch import serve
from fleet.onhost.visit.end import End, ended
from fleet.onhost.wire import Malformed

IS_BACK = "nginx runs what it ran before the rollout."


def undo(machine: Machine, state_dir: str, words: List[str]) -> int:
    """Take an instance back. Exit code: 0 when it is back, 1 when it is not, 2 when it is unclear which one is meant.

    `words` is empty, where the host has one instance only, or its pid file, or the name of its folder.
    """
    every = [InstanceStore(machine, state_dir, name) for name in machine.names(state_dir + "/instances")]
    own = _meant(machine, every, words)
    if own is None:
        _print(*_usage(state_dir, every))
        return 2
    try:
        end = _taken_back(machine, own)
    except Malformed as error:
        end = ended(Outcome.FAILED, "bad_record", error=error)
    _print("%s: %s" % (end.outcome.value, sentences(end.message or IS_BACK, end.remedy)))
    return 0 if end.outcome is Outcome.DONE else 1


def _meant(machine: Machine, every: List[InstanceStore], words: List[str]) -> Optional[InstanceStore]:
    if not words:
        return every[0] if len(every) == 1 else None
    if len(words) > 1:
        return None
    names = (words[0], instance_name(machine, words[0]))
    return next((own for own in every if own.name in names), None)


def _usage(state_dir: str, every: List[InstanceStore]) -> List[str]:
    if not every:
        return ["fleet has changed no nginx on this host: %s/instances is empty." % state_dir]
    lines = ["usage: %s/undo [PID_FILE]" % state_dir, "The instances on this host:"]
    return lines + ["  " + _pid_file(own) for own in every]


def _pid_file(own: InstanceStore) -> str:
    """The instance's pid file; the name of its folder where that can't be read. `undo` takes either."""
    try:
        layout = own.layout
    except Malformed:
        layout = None
    return layout.pid_file if layout is not None and layout.pid_file is not None else own.name


def _taken_back(machine: Machine, own: InstanceStore) -> End:
    """Raises `Malformed`."""
    record, layout = own.record, own.layout
    if record is None:
        return ended(Outcome.DONE, "nothing_to_undo")
    if layout is None:
        return ended(Outcome.FAILED, "bad_record", error="%s/layout.json is missing" % own.folder)
    operator = "undo by %s on the console" % (os.environ.get("SUDO_USER") or "root")
    request = Request(
        PROTOCOL, Ask.ROLLBACK, record.rollout, 0, operator, None, MAY_DO[Ask.ROLLBACK], layout, take_over=True
    )
    return serve(machine, request, _print_reply, lambda: None)[0]


def _print_reply(reply: Reply) -> None:
    if reply.type is ReplyType.STEP_ENDED and reply.step and reply.outcome:
        _print(("%-8s %s %s" % (reply.step.value, reply.outcome.value, reply.message)).rstrip())
    elif reply.type is ReplyType.FINDING:
        _print("warning: " + sentences(reply.message, reply.remedy))


def _print(*lines: str) -> None:
    """Print it on the operator's console. A console that is gone is no error."""
    with suppress(OSError, ValueError):
        print("\n".join(map(safe, lines)), flush=True)
