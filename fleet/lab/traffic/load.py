"""Steady HTTP clients against every host, and their report: the zero in "zero downtime".

The clients run in a process of their own (`fleet/lab/traffic/client.py`), so that they and fleet don't slow each other.
They stop when their stdin ends, so they can't outlive the process that started them. Trust a count of zero only together
with a control: the same clients, counting more than zero during an outage.
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any

from fleet.errors import FleetError
from fleet.lab.traffic.client import CLIENTS, NEW, Job
from fleet.lab.traffic.exchange import Target, What

__all__ = ["Failure", "Incident", "Mark", "Traffic", "TrafficError", "TrafficReport", "What"]

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 60.0


class TrafficError(FleetError):
    """The clients could not start, or ended without a report: nothing is known about the hosts."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One request without a complete and correct answer in time. `at_s`: when it began, in seconds since 1970."""

    at_s: float
    host: str
    client: str
    what: What
    detail: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Incident:
    """A request that was answered late, or only on a second connection."""

    at_s: float
    host: str
    client: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment, in seconds since 1970."""

    label: str
    at_s: float


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """The requests that began from `from_s` to `until_s`, and their results.

    `keepalive_lost`: the server closed a kept connection while a request was on its way; the request was sent again on
    a new connection. If that failed too, it is also a failure. `closed_idle` and `closed_announced` count the two
    proper ends of a kept connection. `withheld`: requests that were not sent because the clients could not keep pace;
    unless it is 0, the measurement is useless. `worst_lag_s`: how late the latest new connection was begun.
    """

    from_s: float
    until_s: float
    hosts: tuple[str, ...]
    marks: tuple[Mark, ...]
    began_s: Mapping[tuple[str, str], tuple[float, ...]]
    failures: tuple[Failure, ...]
    late: tuple[Incident, ...]
    keepalive_lost: tuple[Incident, ...]
    closed_idle: int
    closed_announced: int
    withheld: int
    worst_lag_s: float
    client_cpu_s: float

    def requests(self, client: str | None = None, host: str | None = None) -> int:
        """How many requests ended, failed ones included: of one kind of client and one host, or of all."""
        return sum(
            len(times)
            for (kind, name), times in self.began_s.items()
            if client in (None, kind) and host in (None, name)
        )

    def failed(self, client: str | None = None, host: str | None = None) -> int:
        """How many of them failed."""
        return sum(client in (None, each.client) and host in (None, each.host) for each in self.failures)

    @property
    def rate(self) -> float:
        """New connections per second, begun and counted, of the host that got the fewest."""
        began = [self.began_s.get((NEW, host), ()) for host in self.hosts]
        fewest = min(sum(at_s >= self.from_s for at_s in times) for times in began)
        return fewest / max(self.until_s - self.from_s, 1e-9)

    def between(self, first: str, second: str) -> "TrafficReport":
        """The report between two marks. `closed_…`, `withheld`, lag and CPU time still cover the whole time."""
        from_s, until_s = self._mark(first), self._mark(second)

        def within(at_s: float) -> bool:
            return from_s <= at_s < until_s

        return replace(
            self,
            from_s=from_s,
            until_s=until_s,
            began_s={key: tuple(filter(within, times)) for key, times in self.began_s.items()},
            failures=tuple(each for each in self.failures if within(each.at_s)),
            late=tuple(each for each in self.late if within(each.at_s)),
            keepalive_lost=tuple(each for each in self.keepalive_lost if within(each.at_s)),
        )

    def _mark(self, label: str) -> float:
        for mark in self.marks:
            if mark.label == label:
                return mark.at_s
        known = ", ".join(mark.label for mark in self.marks) or "none"
        raise KeyError(f"no mark {label!r}; there are: {known}")

    def __str__(self) -> str:
        """One line per kind of client, and the first failures: for the message of a failed assertion."""
        lines = [f"{self.until_s - self.from_s:.1f} s, {len(self.hosts)} hosts, {self.rate:.1f} new connections/s/host"]
        for client in CLIENTS:
            late = sum(each.client == client for each in self.late)
            lines.append(f"{client}: {self.requests(client)} requests, {self.failed(client)} failed, {late} late")
        lines.append(
            f"keep-alive: {len(self.keepalive_lost)} lost and sent again, {self.closed_idle} closed while idle, "
            f"{self.closed_announced} closed as announced; withheld: {self.withheld}, lag: {self.worst_lag_s:.3f} s at most"
        )
        for each in self.failures[:10]:
            lines.append(f"  +{each.at_s - self.from_s:.3f} s {each.host} {each.client} {each.what} {each.detail}")
        return "\n".join(lines)


class Traffic:
    """The clients: `targets` are `address:port` by host name.

    Each host gets `rate_per_s` new connections a second (a little more, never fewer), `keepalive` connections with
    `keepalive_rate_per_s` requests a second each, and, if `slow`, one download at a time that takes `slow_s` seconds.
    An answer must be complete within `deadline_s`; a download must have no longer pause. `expect_body` `None` accepts
    any body. As a context manager it starts the process and always ends it; `stop()` returns the report.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        rate_per_s: float = 50.0,
        keepalive: int = 2,
        keepalive_rate_per_s: float = 10.0,
        slow: bool = True,
        path: str = "/health",
        slow_path: str = "/big.bin",
        slow_s: float = 5.0,
        deadline_s: float = 5.0,
        expect_status: int = 200,
        expect_body: str | None = "ok",
    ) -> None:
        if not targets:
            raise ValueError("traffic needs at least one target")
        for host, text in targets.items():
            Target.parse(host, text)
        self._job = Job(
            targets=dict(targets),
            rate_per_s=rate_per_s,
            keepalive=keepalive,
            keepalive_rate_per_s=keepalive_rate_per_s,
            slow=slow,
            path=path,
            slow_path=slow_path,
            slow_s=slow_s,
            deadline_s=deadline_s,
            expect_status=expect_status,
            expect_body=expect_body,
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._marks: list[Mark] = []
        self._from_s = 0.0
        # Added to the monotonic clock this gives the time of day, without its jumps while the clients run.
        self._epoch_s = time.time() - time.monotonic()

    def __enter__(self) -> "Traffic":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._kill(self._child)

    @property
    def pid(self) -> int | None:
        """The process of the clients while there is one."""
        return self._child.pid if self._child is not None else None

    def start(self) -> "Traffic":
        """Start the clients; returns once every host had a request. Raises `TrafficError` when they can't run."""
        if self._child is not None:
            raise ValueError("this traffic runs already")
        # -I: the caller's environment and folder don't affect the measurement. A session of its own, so that Ctrl-C in
        # a terminal doesn't end the clients before this process has their report.
        child = subprocess.Popen(
            [sys.executable, "-I", "-B", "-m", "fleet.lab.traffic.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._child = child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(asdict(self._job)).encode() + b"\n")
            ready, _, _ = select.select([child.stdout], [], [], START_DEADLINE_S + self._job.slow_s)
            if not ready or not child.stdout.readline():
                raise TrafficError(f"The traffic clients did not start. Their output: {self._kill(child) or 'nothing'}")
        except BaseException:
            self._kill(child)
            raise
        self._from_s = self._now_s()
        return self

    def mark(self, label: str) -> float:
        """Name this moment, for `TrafficReport.between`; returns it, in seconds since 1970."""
        if any(mark.label == label for mark in self._marks):
            raise ValueError(f"there is a mark {label!r} already")
        self._marks.append(Mark(label, self._now_s()))
        return self._marks[-1].at_s

    def stop(self) -> TrafficReport:
        """Begin no further request, wait for those on the wire (their deadlines apply), and return the report."""
        child = self._child
        if child is None:
            raise ValueError("this traffic does not run")
        until_s = self._now_s()
        try:
            out, complaint = child.communicate(timeout=STOP_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            self._kill(child)
            raise TrafficError(f"The traffic clients did not end within {STOP_DEADLINE_S:.0f} s.") from error
        self._child = None
        if child.returncode != 0 or not out:
            raise TrafficError(f"The traffic clients ended with status {child.returncode}: {complaint.decode()[-800:]}")
        return self._report(json.loads(out), until_s)

    def _now_s(self) -> float:
        return self._epoch_s + time.monotonic()

    def _kill(self, child: subprocess.Popen[bytes]) -> str:
        """End the process; returns the end of its stderr."""
        self._child = None
        child.kill()
        return child.communicate()[1].decode()[-800:]

    def _report(self, counted: dict[str, Any], until_s: float) -> TrafficReport:
        epoch_s, counts = self._epoch_s, counted["counts"]

        def incident(entry: dict[str, Any]) -> Incident:
            return Incident(epoch_s + entry["began_s"], entry["host"], entry["client"], entry["took_s"])

        return TrafficReport(
            from_s=self._from_s,
            until_s=until_s,
            hosts=tuple(self._job.targets),
            marks=tuple(self._marks),
            began_s={(client, host): tuple(epoch_s + at for at in times) for client, host, times in counted["began"]},
            failures=tuple(
                Failure(
                    at_s=epoch_s + entry["began_s"],
                    host=entry["host"],
                    client=entry["client"],
                    what=What(entry["what"]),
                    detail=entry["detail"],
                    took_s=entry["took_s"],
                )
                for entry in counted["failures"]
            ),
            late=tuple(map(incident, counted["late"])),
            keepalive_lost=tuple(map(incident, counted["keepalive_lost"])),
            closed_idle=counts.get("closed_idle", 0),
            closed_announced=counts.get("closed_announced", 0),
            withheld=counts.get("withheld", 0),
            worst_lag_s=counted["worst_lag_s"],
            client_cpu_s=counted["cpu_s"],
        )
