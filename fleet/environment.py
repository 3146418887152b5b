"""What a command needs from outside: the way to the hosts, the clock, rollout ids, the operator, a terminal.

A test passes a command an `Environment` of its own, as click's `obj`, so that the command contacts no real host.
"""

import getpass
import random
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleet.clock import Clock, SteadyClock
from fleet.engine import Visits
from fleet.errors import Refused
from fleet.host import Host
from fleet.task import PLAIN, Connecting
from fleet.typed_command import UNTYPED, TypedCommand

Prepare = Callable[[Sequence[Host], Connecting], tuple[str, ...]]
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def ssh_visits() -> Visits:
    """Visits over SSH. The import is here because fabric is too slow to load for `--help`."""
    from fleet.ssh import visit

    return Visits(visit.visit, visit.request_stop, visit.cut_all, visit.close_kept)


def ssh_prepare(hosts: Sequence[Host], connecting: Connecting) -> tuple[str, ...]:
    """Asks for the passwords that visits will need; returns notes for the operator."""
    from fleet.ssh.auth.prompts import prepare

    return prepare(hosts, connecting, ask_secret)


def ssh_prepare_scan(hosts: Sequence[Host], connecting: Connecting) -> tuple[str, ...]:
    """Asks for the passwords that a scan of host keys needs; returns notes for the operator."""
    from fleet.ssh.auth.prompts import prepare_scan

    return prepare_scan(hosts, connecting, ask_secret)


def ask_secret(prompt: str) -> str:
    """What the operator types at the terminal, without echo. Raises `Refused` if there is no terminal."""
    if not is_terminal():
        raise Refused(
            f"There is no terminal to ask for this: {prompt.strip(' :')}.", "Give it in a file, or use an ssh-agent."
        )
    return getpass.getpass(prompt, sys.stderr)


def rollout_id(at: datetime) -> str:
    """An id such as `20261123-1012-k7qd`: sorts by time, ends in four random characters."""
    return f"{at:%Y%m%d-%H%M}-" + "".join(random.SystemRandom().choices(LETTERS, k=4))


def operator() -> str:
    """`user@laptop`, as the hosts record it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def is_terminal() -> bool:
    """Whether there is a terminal to ask the operator on."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@dataclass(frozen=True, slots=True)
class Environment:
    """The parts of the outside, each replaceable by a test."""

    visits: Callable[[], Visits] = ssh_visits
    prepare: Prepare = ssh_prepare
    prepare_scan: Prepare = ssh_prepare_scan
    clock: Callable[[], Clock] = SteadyClock
    rollout_id: Callable[[datetime], str] = rollout_id
    operator: Callable[[], str] = operator
    is_terminal: Callable[[], bool] = is_terminal


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """The options that commands share, as the operator gave them. `typed` is the whole command, for messages."""

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
    typed: TypedCommand = UNTYPED
