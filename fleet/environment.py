"""What a command needs of the world outside: the way to the hosts, the clock, names, and whether somebody is there to ask.

A test hands a command another one (as click's `obj`); nothing else is patched anywhere.
"""

import getpass
import random
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.engine import Clock, Visits, steady_clock
from fleet.errors import Refused
from fleet.host import Host
from fleet.task import PLAIN, Connecting

Prepare = Callable[[Sequence[Host], Connecting], tuple[str, ...]]
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def ssh_visits() -> Visits:
    """Visits over SSH. Imported here, because fabric takes longer to load than `--help` may."""
    from fleet.ssh import visit
    from fleet.ssh.transport import bastion

    return Visits(visit.visit, visit.request_stop, visit.cut_all, bastion.close_bastions)


def ssh_prepare(hosts: Sequence[Host], connecting: Connecting) -> tuple[str, ...]:
    """What a person must be asked for before the first visit was asked for; what a person should know is returned."""
    from fleet.ssh.auth.prompts import prepare

    return prepare(hosts, connecting, ask_secret)


def ssh_prepare_survey(hosts: Sequence[Host], connecting: Connecting) -> tuple[str, ...]:
    """The same before host keys are looked at."""
    from fleet.ssh.auth.prompts import prepare_survey

    return prepare_survey(hosts, connecting, ask_secret)


def ask_secret(prompt: str) -> str:
    """What the person at the terminal types, unseen. Raises `Refused` when there is none."""
    if not is_terminal():
        raise Refused(
            f"there is no terminal to ask for this on: {prompt.strip(' :')}.", "Give it in a file, or use an agent."
        )
    return getpass.getpass(prompt, sys.stderr)


def rollout_id(at: datetime) -> str:
    """`20261123-1012-k7qd`: sorts by time, and no two are the same by chance."""
    return f"{at:%Y%m%d-%H%M}-" + "".join(random.SystemRandom().choices(LETTERS, k=4))


def operator() -> str:
    """`user@laptop`: who asks, as the hosts will remember it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass(frozen=True, slots=True)
class Environment:
    """The outside, each part replaceable."""

    visits: Callable[[], Visits] = ssh_visits
    prepare: Prepare = ssh_prepare
    prepare_survey: Prepare = ssh_prepare_survey
    clock: Callable[[], Clock] = steady_clock
    rollout_id: Callable[[datetime], str] = rollout_id
    operator: Callable[[], str] = operator
    is_terminal: Callable[[], bool] = is_terminal


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """What every command was given."""

    inventories: tuple[Path, ...] = ()
    limits: tuple[str, ...] = ()
    verbose: int = 0
    yes: bool = False
    output: str = "auto"
    log_file: Path | None = None
    parallel: int = 50
    journal: str | None = None
    lock_wait_s: float = 0.0
    force: bool = False
    connecting: Connecting = PLAIN
