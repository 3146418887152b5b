"""The watcher: one process for each instance, which does later what the host owes (its *errands*): the lease's way
back, and the end of a commit that was left to it.

What is owed is read from the disk at each look, so a watcher that was killed loses nothing: the next visit that acts here
starts another. It holds a lock of its own as long as it lives, and touches that lock's file every few seconds, so that
`status` can say whether it lives, and since when it does not. It ends when nothing is owed any more.
"""

import os
import sys
from contextlib import ExitStack, suppress
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from fleet.onhost.bootstrap.own_psutil import loaded
from fleet.onhost.protocol import Finding, Request
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.state import lease, retirement
from fleet.onhost.state.store import InstanceStore
from fleet.onhost.state.watched import WATCH_LOCK, is_owed, is_watched
from fleet.onhost.system.file_lock import Busy
from fleet.onhost.system.left_behind import leave_behind
from fleet.onhost.system.machine import POLL_S
from fleet.onhost.systemd import transient

UP_S = 30.0
PROBED_S = 1.0
"""How long a new watcher waits for its lock: a visit that only asks whether it is held has it for a moment."""
FIRST_POLL_S = 0.001
SLOWEST_LOOK_S = 1.0
BEAT_S = 5.0
LOCK_WAIT_S = 30.0
RETRY_S = 5.0
MOST_TRIES = 6
"""What failed is tried again after 5, 10, 20, 40 and 80 s. Then a person must look, and `status` says so."""
LOCALE = ("LANG", "LC_ALL", "LC_CTYPE")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Unwatched(Exception):
    """The watcher could not be started, so what the host owes would never be done."""


class Errand(NamedTuple):
    """What the watcher does later for the host.

    `due_in_s` is in how many seconds it must be done (0: now), `None` where nothing is owed. `do` does it, if it is due
    under the instance's lock, too; it returns whether to try again. It is told whether this is the last try.
    """

    name: str
    due_in_s: Callable[[], Optional[float]]
    do: Callable[[bool], bool]


def arm(own: InstanceStore, request: Request) -> Tuple[Finding, ...]:
    """Write the lease and have it watched. Comes before any change. Gives warnings. Raises `Unwatched`, OSError.

    The rollout goes on, so a commit that was left to the host no longer is: the rollout's own comes later.
    """
    retirement.end(own)
    lease.renew(own, request)
    return ensure_watched(own)


def ensure_watched(own: InstanceStore) -> Tuple[Finding, ...]:
    """Start a watcher for this instance, if it needs one and none lives. The caller holds the lock.

    Where systemd is PID 1, the watcher is a unit, which no logout ends. Elsewhere, or where systemd does not start it, it is
    a fork of this visit with a session of its own; a finding says if that one ends with the login. Raises `Unwatched`,
    OSError.
    """
    if not is_owed(own) or is_watched(own):
        return ()
    python = (sys.executable, "-I", "-S", "-B")
    words = (os.path.realpath(sys.argv[0]), "watch", own.root, own.name)
    locale = {name: os.environ[name] for name in LOCALE if name in os.environ}
    try:
        if _in_unit(own, python + words, locale):
            return ()
        why = ""
    except transient.NoUnit as error:
        why = str(error)
    _in_session(own, words, " ".join(python + words), locale)
    if why and transient.ends_at_logout(own.machine):
        return (finding("watcher_ends_at_logout", error=why),)
    return ()


def _in_unit(own: InstanceStore, words: Tuple[str, ...], locale: Dict[str, str]) -> bool:
    """Whether the watcher runs as a unit; not where systemd is not PID 1. Raises `NoUnit`."""
    machine = own.machine
    if not transient.can_have_units(machine):
        return False
    unit = "fleet-watch-%s-%d.service" % (own.name, machine.boottime_s() * 1000)
    title = "fleet minds the lease of the nginx in %s" % own.folder
    transient.start(machine, unit, title, words, tuple("%s=%s" % one for one in sorted(locale.items())))
    if not _comes_up(own, lambda: not transient.is_active(machine, unit)):
        raise transient.NoUnit("%s did not come up: see `journalctl -u %s`" % (unit, unit))
    return True


def _in_session(own: InstanceStore, words: Tuple[str, ...], title: str, locale: Dict[str, str]) -> None:
    """Raises `Unwatched`."""
    try:
        started = leave_behind(words, title, dict(locale, PATH=PATH))
    except OSError as error:
        raise Unwatched("%s: %s" % (words[0], error))
    if not _comes_up(own, lambda: started.exit_code() is not None):
        raise Unwatched("the watcher did not come up (exit code %s)" % started.exit_code())


def _comes_up(own: InstanceStore, has_ended: Callable[[], bool]) -> bool:
    """Whether a watcher lives within `UP_S`, and before the one that was started has ended.

    It has imported all it needs before it takes its lock.
    """
    now_s = own.machine.monotonic_s()
    until_s, ask_s = now_s + UP_S, now_s + SLOWEST_LOOK_S
    pause_s = FIRST_POLL_S
    while not is_watched(own):
        now_s = own.machine.monotonic_s()
        if now_s >= ask_s:
            ask_s = now_s + SLOWEST_LOOK_S
            if now_s >= until_s or has_ended():
                return is_watched(own)
        own.machine.pause(pause_s)
        pause_s = min(pause_s * 1.3, POLL_S)
    return True


def watch(own: InstanceStore, errands: Tuple[Errand, ...]) -> None:
    """Do what this instance owes, until nothing is owed. One watcher per instance; another one ends at once.

    Raises ImportError where psutil is missing.
    """
    loaded()
    with ExitStack() as alone:
        try:
            alone.enter_context(own.lock(PROBED_S, WATCH_LOCK))
        except Busy:
            return
        rounds = [_Round(own, errand) for errand in errands]
        beat_s = own.machine.boottime_s()
        while True:
            if own.machine.boottime_s() - beat_s >= BEAT_S:
                beat_s = own.machine.boottime_s()
                with suppress(OSError):
                    own.touch(WATCH_LOCK)
            try:
                if _is_over(own, alone):
                    return
            except Exception as error:  # Any error: if the watcher dies, the host never goes back by itself.
                _say(own, "watcher", error)
            own.machine.pause(min([SLOWEST_LOOK_S] + [one.turn() for one in rounds]))


class _Round:
    """One errand and its tries."""

    def __init__(self, own: InstanceStore, errand: Errand) -> None:
        self._own, self._errand = own, errand
        self._tries, self._not_before_s = 0, 0.0

    def turn(self) -> float:
        """Do the errand if it is due. In how many seconds to look again, 0 or more."""
        now_s = self._own.machine.boottime_s()
        try:
            due_s = self._errand.due_in_s()
            if due_s is None or due_s > 0.0:
                self._tries, self._not_before_s = 0, 0.0
                return SLOWEST_LOOK_S if due_s is None else due_s
            if now_s >= self._not_before_s:
                self._try()
        except Exception as error:  # As above.
            _say(self._own, self._errand.name, error)
            self._not_before_s = max(self._not_before_s, now_s + SLOWEST_LOOK_S)
        return max(0.0, self._not_before_s - self._own.machine.boottime_s())

    def _try(self) -> None:
        now_s = self._own.machine.boottime_s()
        self._not_before_s = now_s + RETRY_S * 2 ** min(self._tries, MOST_TRIES - 1)
        self._tries += 1
        if not self._errand.do(self._tries >= MOST_TRIES):
            self._tries, self._not_before_s = 0, now_s + SLOWEST_LOOK_S


def _is_over(own: InstanceStore, alone: ExitStack) -> bool:
    """Whether nothing is owed. If so, this watcher frees its lock before anything new is owed: a visit writes that under
    the instance's lock, and only then asks whether there is a watcher.
    """
    if is_owed(own):
        return False
    with own.lock(LOCK_WAIT_S):
        if is_owed(own):
            return False
        alone.close()
        return True


def _say(own: InstanceStore, what: str, error: Exception) -> None:
    own.machine.syslog("the watcher (%s): %s: %s" % (what, type(error).__name__, error))
