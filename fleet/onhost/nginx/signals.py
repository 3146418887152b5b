"""Whether a master hears the signals of an upgrade: its signal masks in /proc/PID/status (proc(5)).

A library in nginx can block, ignore or take over a signal. A blocked USR2 stays pending and can't be taken back; one that
nginx does not handle ends the master. nginx itself blocks all of them while it works and opens its mask only in
sigsuspend(), so a look counts only there (docs/nginx-facts.md, section 2).
"""

import re
import signal
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from fleet.onhost.system.machine import Machine

NEEDED = (
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGWINCH,
)
PATIENCE_S = 3.0
"""Seconds until a mask that never opens counts, where the kernel does not tell what a process waits in. A reload of a
large configuration takes that long."""
WAITS = "sigsuspend"
LINE = re.compile(r"^(SigPnd|ShdPnd|SigBlk|SigIgn|SigCgt):\s+([0-9a-f]+)$", re.MULTILINE)


class Masks(NamedTuple):
    """Sets of signals, as bits: signal N is bit N-1."""

    pending: int
    blocked: int
    ignored: int
    caught: int


class Hearing(NamedTuple):
    """What a master does not hear: each signal with the reason. `pending` are signals that wait to be acted on."""

    unheard: Dict[str, str]
    pending: Tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join("%s (%s)" % one for one in sorted(self.unheard.items()))


def hearing(machine: Machine, pid: int, signums: Sequence[signal.Signals] = NEEDED) -> Hearing:
    """What this master does not hear of these signals. A process that can't be looked at hears everything."""
    until = machine.monotonic_s() + PATIENCE_S
    while True:
        was_waiting = _waits(machine, pid)
        seen = _masks(machine, pid)
        if seen is None:
            return Hearing({}, ())
        mask_is_open = was_waiting and _waits(machine, pid)
        passing = seen.pending & ~seen.blocked if mask_is_open else seen.pending | seen.blocked
        if not passing & _bits(signums) or machine.monotonic_s() >= until:
            return _judged(seen, signums)
        machine.pause()


def is_pending(machine: Machine, pid: int, signum: signal.Signals) -> bool:
    """Whether the signal was sent to the process and waits to be acted on."""
    masks = _masks(machine, pid)
    return masks is not None and bool(masks.pending & _bits([signum]))


def _masks(machine: Machine, pid: int) -> Optional[Masks]:
    lines = dict(LINE.findall(machine.read("/proc/%d/status" % pid) or ""))
    if len(lines) < 5:
        return None
    bits = {name: int(text, 16) for name, text in lines.items()}
    return Masks(bits["SigPnd"] | bits["ShdPnd"], bits["SigBlk"], bits["SigIgn"], bits["SigCgt"])


def _judged(masks: Masks, signums: Sequence[signal.Signals]) -> Hearing:
    unheard = {}
    for signum in signums:
        if masks.ignored & _bits([signum]):
            unheard[_name(signum)] = "ignored"
        elif not masks.caught & _bits([signum]):
            unheard[_name(signum)] = "not handled"
        elif masks.blocked & _bits([signum]):
            unheard[_name(signum)] = "blocked"
    return Hearing(unheard, tuple(_name(signum) for signum in signums if masks.pending & _bits([signum])))


def _waits(machine: Machine, pid: int) -> bool:
    """Whether the process waits for a signal, with the mask that it has then."""
    return WAITS in (machine.read("/proc/%d/wchan" % pid) or "")


def _bits(signums: Sequence[signal.Signals]) -> int:
    return sum(1 << (signum - 1) for signum in signums)


def _name(signum: signal.Signals) -> str:
    return signum.name[len("SIG") :]
