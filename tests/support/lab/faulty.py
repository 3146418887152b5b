"""Travels to a lab host inside a test's bundle: a `Machine` that stops at a chosen point, so that something can break there,
and a stdin that ends between two requests.

The point is named in PLAN on the host. The step script stops there once, says so in REACHED, and goes on when GO is
there, or after the plan's patience. It knows its step from the lines that it appends to the host's own journal, so a
stop "in a step" always has that step's intent on the disk and not its result. Nothing of this is in the bundle that is
shipped. Written for the Pythons of the step script.
"""

import json
import os
import time
from typing import Any, BinaryIO, Dict, Optional

from fleet.onhost import conversation
from fleet.onhost.protocol import OVER
from fleet.onhost.system.machine import POLL_S, Machine

FOLDER = "/run/fleet-fault"
PLAN = FOLDER + "/plan.json"
REACHED = FOLDER + "/reached"
GO = FOLDER + "/go"
IDLE_DIES = FOLDER + "/idle-dies"
"""While it is there, each step script ends as soon as it has answered a request, and says so in DEAD."""
DEAD = FOLDER + "/dead"
IDLE_S, OVER_S = 40, 15.0
"""How long the step script waits here. A cut link gives it no end, and no test should wait as long as the shipped one does."""
JOURNAL = "/journal.jsonl"


class FaultyMachine(Machine):
    """This host, with one point at which it stops.

    Places: `intent` (written, nothing done), `before` and `effect` (each side of the first act of the step: a signal, a
    rename, an exchange, a removal), `pause` (waiting for what it caused), `after` (the result is written).
    """

    def __init__(self) -> None:
        self._plan = _plan()
        self._step: Optional[str] = None

    def append(self, path: str, line: str, lasting: bool = True) -> None:
        Machine.append(self, path, line, lasting)
        if not path.endswith(JOURNAL):
            return
        entry = json.loads(line)
        if "intent" in entry:
            self._step = entry["intent"]
            self._at("intent")
        elif "result" in entry:
            self._at("after")
            self._step = None

    def signal(self, pid: int, start: int, signum: int) -> None:
        self._at("before")
        Machine.signal(self, pid, start, signum)
        self._at("effect")

    def rename(self, source: str, target: str) -> None:
        acts = "/instances/" not in target and (self._step == "stage" or "/releases/" not in target)
        if acts:
            self._at("before")
        Machine.rename(self, source, target)
        if acts:
            self._at("effect")

    def exchange(self, one: str, other: str) -> bool:
        self._at("before")
        done = Machine.exchange(self, one, other)
        self._at("effect")
        return done

    def unlink(self, path: str) -> None:
        acts = self._step == "sweep" and self.exists(path)
        if acts:
            self._at("before")
        Machine.unlink(self, path)
        if acts:
            self._at("effect")

    def pause(self, seconds: float = POLL_S) -> None:
        self._at("pause")
        Machine.pause(self, seconds)

    def _at(self, place: str) -> None:
        if self._step is not None and (self._plan.get("step"), self._plan.get("place")) == (self._step, place):
            self._stop(place)

    def _stop(self, place: str) -> None:
        own = REACHED + "." + str(os.getpid())
        with open(own, "w") as sink:
            json.dump({"pid": os.getpid(), "step": self._step, "place": place}, sink)
        try:
            os.link(own, REACHED)
        except OSError:
            return  # an earlier script has stopped here: one fault is enough
        finally:
            os.unlink(own)
        until = time.monotonic() + self._plan.get("patience_s", 60.0)
        while not os.path.exists(GO) and time.monotonic() < until:
            time.sleep(POLL_S)


class FaultySource:
    """Stdin, which ends after a request while IDLE_DIES is there."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._is_idle = False

    def readline(self, size: int = -1) -> bytes:
        if self._is_idle and os.path.exists(IDLE_DIES):
            with open(DEAD, "a") as sink:
                sink.write("%d\n" % os.getpid())
            return b""
        line = self._source.readline(size)
        self._is_idle = line.strip() == OVER.encode("ascii")
        return line

    def read1(self, size: int) -> bytes:
        block: bytes = self._source.read1(size)  # type: ignore[attr-defined]
        return block


def converse(source: BinaryIO, host: conversation.Host) -> int:
    """As the shipped one, less patient and over that stdin."""
    conversation.IDLE_S, conversation.OVER_S = IDLE_S, OVER_S
    return conversation.converse(FaultySource(source), host)  # type: ignore[arg-type]  # reads, as a file does


def _plan() -> Dict[str, Any]:
    try:
        with open(PLAN) as source:
            found: Dict[str, Any] = json.load(source)
    except (OSError, ValueError):
        return {}
    return found
