"""Travels to a lab host inside a test's bundle: a `Machine` that stops at a chosen point, so that something can break there.

The point is named in PLAN on the host. The step script stops there once, says so in REACHED, and goes on when GO is
there, or after the plan's patience. It knows its step from the lines that it appends to the host's own journal, so a
stop "in a step" always has that step's intent on the disk and not its result. Nothing of this is in the bundle that is
shipped. Written for the Pythons of the step script.
"""

import json
import os
import time
from typing import Any, Dict, Optional

from fleet.onhost.system.machine import POLL_S, Machine

FOLDER = "/run/fleet-fault"
PLAN = FOLDER + "/plan.json"
REACHED = FOLDER + "/reached"
GO = FOLDER + "/go"
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


def _plan() -> Dict[str, Any]:
    try:
        with open(PLAN) as source:
            found: Dict[str, Any] = json.load(source)
    except (OSError, ValueError):
        return {}
    return found
