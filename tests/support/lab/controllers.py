"""Runs hundreds of `fleet` commands against a lab at once, each in a process of its own and with a journal of its own."""

import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType

from fleet.lab.lab import Lab
from tests.support.lab.forks import Controller, Forks
from tests.support.lab.operator import environment


class Controllers:
    """Starts controllers against a lab. As a context: at its end none is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._forks = Forks()
        self._numbers = count(1)

    def __enter__(self) -> "Controllers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forks.__exit__(kind, error, trace)

    @staticmethod
    def clock() -> float:
        return time.monotonic()

    def start(
        self, lab: Lab, *words: str, faulty: bool = False, journal: str = "", env: Mapping[str, str] | None = None
    ) -> Controller:
        """`fleet -i INVENTORY WORDS`, begun. `faulty`: with the bundle that stops; `journal` names the laptop."""
        number = next(self._numbers)
        asked = Controller(
            (words[0], "-i", str(lab.inventory), *words[1:]), self._folder / f"{number:05}-{words[0]}.txt"
        )
        own = {"FLEET_JOURNAL": f"sqlite:///{self._folder}/{journal or number}.db"}
        return self._forks.begin(asked, {**environment(), **own, **(env or {})}, faulty=faulty)
