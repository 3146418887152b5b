"""Runs hundreds of `fleet` commands against a lab at once, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from fleet.lab.lab import Lab
from tests.support.lab.operator import environment
from tests.support.places import ROOT

START_S = 60.0


class Stuck(AssertionError):
    """A controller did not end in time."""


@dataclass(slots=True)
class Controller:
    """A `fleet` command that runs, or has run. `told` is where both of its outputs go."""

    words: tuple[str, ...]
    told: Path
    pid: int = 0
    code: int | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def said(self) -> str:
        return self.told.read_text(errors="replace") if self.told.exists() else ""

    @property
    def last(self) -> str:
        """The end of what it said: what matters is there."""
        return " / ".join(self.said.strip().splitlines()[-4:])[-700:]

    @property
    def is_running(self) -> bool:
        return not self.ended.is_set()

    def signal(self, number: int) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    def wait(self, within_s: float) -> int:
        """Its exit code, negative when a signal ended it. Raises `Stuck`, and then it is gone."""
        if not self.ended.wait(within_s):
            self.signal(signal.SIGKILL)
            raise Stuck(f"fleet {' '.join(self.words)} has not ended within {within_s:.0f} s. It said:\n{self.said}")
        assert self.code is not None
        return self.code


class Controllers:
    """Starts controllers against a lab. As a context: at its end none is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[int, Controller] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Controllers":
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lab.fleet_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(START_S)
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()

    @staticmethod
    def clock() -> float:
        return time.monotonic()

    def start(
        self, lab: Lab, *words: str, faulty: bool = False, journal: str = "", env: Mapping[str, str] | None = None
    ) -> Controller:
        """`fleet -i INVENTORY WORDS`, begun. `faulty`: with the bundle that stops; `journal` names the laptop."""
        with self._lock:
            self._count += 1
            number = self._count
            started = Controller(words, self._folder / f"{number:05}-{words[0]}.txt")
            self._running[number] = started
            asked: dict[str, Any] = {
                "number": number,
                "words": [words[0], "-i", str(lab.inventory), *words[1:]],
                "faulty": faulty,
                "told": str(started.told),
                "env": {"FLEET_JOURNAL": f"sqlite:///{self._folder}/{journal or number}.db", **(env or {})},
            }
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(asked).encode() + b"\n")
            self._child.stdin.flush()
        assert started.begun.wait(START_S), "the controllers' parent does not answer"
        return started

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            told = json.loads(line)
            controller = self._running[told["number"]]
            if "pid" in told:
                controller.pid = told["pid"]
                controller.begun.set()
            else:
                controller.code = told["code"]
                controller.ended.set()
