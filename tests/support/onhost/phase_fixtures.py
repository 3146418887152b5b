"""What real nginx looks like in each phase, as a lab host recorded it, with its numbers made comparable.

Written by `python -m tests.lab.record_phases`; read by the unit tests; recorded again and compared by the lab tests.
"""

import json
import re
from typing import Any

from fleet.onhost.observation import Observation
from fleet.onhost.wire import from_plain
from tests.support.places import ROOT

FOLDER = ROOT / "tests" / "onhost" / "phases"


def comparable(observation: str, sha256: dict[str, str]) -> dict[str, Any]:
    """An observation as JSON data in which pids, start times, inodes and hashes are names that every run gives alike."""
    text = observation
    for name, value in sha256.items():
        text = text.replace(value, name)
    data: dict[str, Any] = json.loads(text)
    pids: dict[int, int] = {}
    for master in data["masters"]:
        master["pid"] = _named(pids, master["pid"], 100)
        master["ppid"] = 1 if master["ppid"] == 1 else _named(pids, master["ppid"], 100)
        master["listeners"] = list(range(len(master["listeners"])))
        master["start"] = master["pid"]
        master["workers"] = [_worker(master["pid"] * 10 + n, one) for n, one in enumerate(_sorted(master["workers"]))]
    data["orphans"] = [900 + n for n in range(len(data["orphans"]))]
    for key in ("pid_file_pid", "oldbin_pid"):
        data[key] = pids.get(data[key], None if data[key] is None else 999)
    return data


def _sorted(workers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(workers, key=lambda one: (one["draining"], one["ready"]))


def _worker(pid: int, worker: dict[str, Any]) -> dict[str, Any]:
    return {**worker, "pid": pid, "start": pid}


def _named(known: dict[int, int], number: int, first: int) -> int:
    return known.setdefault(number, first + len(known))


def load(name: str) -> tuple[Observation, str]:
    """The recorded observation and the phase it is, seen from the release `new`."""
    data = json.loads((FOLDER / f"{name}.json").read_text())
    observation: Observation = from_plain(Observation, data["observation"])
    return observation, data["phase"]


def names() -> list[str]:
    """All that are recorded."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def save(name: str, phase: str, data: dict[str, Any]) -> None:
    """The fixture is as recorded now."""
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"phase": phase, "observation": data}, indent=1, sort_keys=True)
    (FOLDER / f"{name}.json").write_text(re.sub(r"\s*$", "\n", text))
