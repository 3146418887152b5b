"""The command line with pretend hosts behind it: what an operator types, and what scripts read."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import cli
from fleet.engine import Visits
from fleet.environment import Environment
from fleet.journal.journal import Journal
from fleet.journal.process_identity import Process
from tests.support.pretend.visits import Fleet, PretendClock

ROLLOUT = "20261123-1000-test"
QUICK = ("--bake", "0", "--parallel", "1")
HOSTS = """\
all:
  hosts:
"""


class Shell:
    """A command line in which `fleet` reaches pretend hosts. `answer` is what the operator types, `None` without a terminal."""

    def __init__(self, fleet: Fleet, inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.fleet = fleet
        self.inventory = inventory
        self.capsys = capsys
        self.journal = inventory.with_name("journal.db")
        self.terminal = False
        self.out = ""
        self.err = ""
        self.ids = iter([ROLLOUT, "20261123-1100-next", "20261123-1200-last"])
        self.environment = Environment(
            visits=lambda: Visits(self.fleet.visit, self.fleet.request_stop, self.fleet.cut_all),
            prepare=lambda hosts, connecting: (),
            clock=PretendClock,
            rollout_id=lambda at: next(self.ids),
            operator=lambda: "alice@desk",
            is_terminal=lambda: self.terminal,
        )

    def __call__(self, *words: str) -> int:
        """The exit code of `fleet WORDS`; what it wrote is in `out` and `err`."""
        code = cli.run(("-i", str(self.inventory), *words), self.environment)
        self.out, self.err = self.capsys.readouterr()
        return code

    @property
    def lines(self) -> list[str]:
        """The complete commands that the last command printed to be typed next, each once, in order."""
        return list(dict.fromkeys(re.findall(r"`(fleet [^`]+)`", self.out + self.err)))

    def type(self, line: str) -> int:
        """The exit code of a line that was printed, typed as it is."""
        words = shlex.split(line)
        assert words[0] == "fleet"
        code = cli.run(words[1:], self.environment)
        self.out, self.err = self.capsys.readouterr()
        return code


def an_inventory(path: Path, hosts: int = 4) -> Path:
    """The file, naming so many hosts."""
    lines = [f"    web-{number:02}: {{ansible_host: 192.0.2.{number}, zone: eu-1}}" for number in range(1, hosts + 1)]
    path.write_text(HOSTS + "\n".join(lines) + "\n")
    return path


class Elsewhere:
    """Another run, on another machine, that has the lock of the shell's journal."""

    def __init__(self, shell: Shell, rollout: str = "20261123-0900-else") -> None:
        self.journal = Journal.open(str(shell.journal))
        self.lock = self.journal.lock("bob@couch", "upgrade", rollout)
        self.lock._me = replace(self.lock._me, process=Process("couch", 4711))
        self.lock.acquire()

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self.journal.__exit__(None, None, None)

    def owner(self) -> str | None:
        holder = self.lock.holder()
        return holder.operator if holder else None
