"""`fleet` commands, each in a process of its own that is forked from one which has loaded fleet already.

To load fleet takes a second of CPU, more than most commands need for their work; the lab's tests give hundreds of them.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.support.places import ROOT

START_S = 60.0


class Stuck(AssertionError):
    """A controller did not end in time."""


@dataclass(slots=True)
class Controller:
    """A `fleet` command that runs, or has run. `told` is where its output goes, that of stderr too without a `complained`."""

    words: tuple[str, ...]
    told: Path
    complained: Path | None = None
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


class Forks:
    """The process that is forked. It is started by the first command; as a context, nothing is left of it at the end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._running: dict[int, Controller] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Forks":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.wait(START_S)
        self._reader.join()
        child.stdout.close()

    def begin(self, controller: Controller, environment: Mapping[str, str], *, faulty: bool = False) -> Controller:
        """The same controller, begun in this working folder and with just this environment.

        `faulty`: with the bundle that stops.
        """
        with self._lock:
            child = self._child = self._child or self._start()
            self._count += 1
            self._running[self._count] = controller
            asked = {
                "number": self._count,
                "words": controller.words,
                "faulty": faulty,
                "told": str(controller.told),
                "complained": str(controller.complained or controller.told),
                "folder": str(Path.cwd()),
                "env": dict(environment),
            }
            assert child.stdin is not None
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
        assert controller.begun.wait(START_S), "the controllers' parent does not answer"
        return controller

    def _start(self) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.lab.fleet_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(child,), daemon=True)
        self._reader.start()
        return child

    def _read(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            told = json.loads(line)
            controller = self._running[told["number"]]
            if "pid" in told:
                controller.pid = told["pid"]
                controller.begun.set()
            else:
                controller.code = told["code"]
                controller.ended.set()
                del self._running[told["number"]]
