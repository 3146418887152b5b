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
    """How long the controller waits, in seconds. `silence_s` is the longest pause between two lines from a host."""

    connect_s: float = 10.0
    banner_s: float = 15.0
    auth_s: float = 30.0
    channel_s: float = 15.0
    silence_s: float = 300.0
    transfer_idle_s: float = 30.0


class HostKeys(Enum):
    """What to do with a host key that is not known yet. A changed key is refused in any case."""

    STRICT = "strict"
    ACCEPT_NEW = "accept-new"


@dataclass(frozen=True, slots=True)
class Connecting:
    """How to connect to hosts, beyond what the inventory says of each.

    `ssh_config` is a path, or `none`; `None` reads OpenSSH's own files. `host_keys` `None` follows ssh_config.
    With `ask_password` fleet asks the operator once for a password and tries it where no key is accepted.
    `ask_become_pass` and `become_password_file` say where the sudo password comes from, never what it is.
    `limit_rate` is in bytes per second, for all uploads of a process together. `keep_open` is how many connections a process
    keeps for later visits.
    """

    ssh_config: str | None = None
    host_keys: HostKeys | None = None
    transfer: str = "auto"
    ask_password: bool = False
    ask_become_pass: bool = False
    become_password_file: str | None = None
    limit_rate: float | None = None
    keep_open: int = 0


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
    """How a visit ended. `report` describes the host at its end; it is `None` if the host gave no answer."""

    host: str
    outcome: Outcome
    reason: str | None = None
    message: str = ""
    remedy: str = ""
    report: Report | None = None
    findings: tuple[Finding, ...] = ()
    took_s: float = 0.0
