"""A visit as plain data: what goes to a worker, thread or process, and what comes back.

Nothing here may be a connection, a queue, the bytes of a release or a secret: hashes, names and locators only, so that
any `concurrent.futures.Executor` can carry it (a test pickles it into a spawned process).
"""

from dataclasses import dataclass
from enum import Enum

from fleet.host import Host
from fleet.onhost.protocol import Finding, Outcome, Report, Request


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the controller waits, in seconds. `silence_s` is the longest pause between two lines of a host."""

    connect_s: float = 10.0
    banner_s: float = 15.0
    auth_s: float = 30.0
    channel_s: float = 15.0
    silence_s: float = 300.0
    transfer_idle_s: float = 30.0


class HostKeys(Enum):
    """What becomes of a host key that is not known yet; one that has changed is refused in any case."""

    STRICT = "strict"
    ACCEPT_NEW = "accept-new"


@dataclass(frozen=True, slots=True)
class Connecting:
    """How the operator wants hosts to be connected to, beyond what the inventory says of each.

    `ssh_config` is a path, or `none`; without it OpenSSH's own files are read. `host_keys` `None`: as ssh_config says.
    `ask_password`: a password, which the operator is asked for once, is tried where no key lets us in.
    `ask_become_pass` and `become_password_file`: where the password for sudo comes from, never what it is.
    `limit_rate` is in bytes a second, for all uploads of a process together.
    """

    ssh_config: str | None = None
    host_keys: HostKeys | None = None
    transfer: str = "auto"
    ask_password: bool = False
    ask_become_pass: bool = False
    become_password_file: str | None = None
    limit_rate: float | None = None


PLAIN = Connecting()


@dataclass(frozen=True, slots=True)
class HostTask:
    """One visit to one host. `release_path` is where the worker finds the bytes of the goal's target."""

    host: Host
    request: Request
    batch: int | None = None
    release_path: str | None = None
    connecting: Connecting = PLAIN
    deadlines: Deadlines = Deadlines()


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """What became of a visit. `report` is what the host said of itself at its end, `None` when it could not be asked."""

    host: str
    outcome: Outcome
    reason: str | None = None
    message: str = ""
    remedy: str = ""
    report: Report | None = None
    findings: tuple[Finding, ...] = ()
    took_s: float = 0.0
