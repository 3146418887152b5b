"""A visit as plain data: what goes to a worker, thread or process, and what comes back.

Nothing here may be a connection, a queue, the bytes of a release or a secret: hashes, names and locators only, so that
any `concurrent.futures.Executor` can carry it (a test pickles it into a spawned process).
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class HostTask:
    """One visit to one host. `release_path` is where the worker finds the bytes of the goal's target."""

    host: Host
    request: Request
    batch: int | None = None
    release_path: str | None = None
    transfer: str = "auto"
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
