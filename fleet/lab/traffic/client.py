"""The HTTP clients of the lab, as a program that `load.py` starts.

It reads a job (one line of JSON) from stdin, prints one line once every host had a request, runs until stdin ends, and
prints the report as one line of JSON. It is one asyncio loop in one thread: 6 hosts at 50 new connections a second each
take about a quarter of a core.

`new`        a new connection per request, begun at fixed times whatever the answers do (an open loop), no retries
`keepalive`  a few connections with many requests each; one that was closed while idle is replaced, as any client does
`slow`       one download at a time that takes seconds, so that every signal meets a worker that is still sending

Times are seconds on the machine's monotonic clock, which the parent process shares.
"""

import asyncio
import json
import math
import os
import resource
import sys
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from fleet.lab.traffic.exchange import Answer, BadAnswer, Connection, NoAnswer, Target, What

NEW, KEEPALIVE, SLOW = "new", "keepalive", "slow"
CLIENTS = (NEW, KEEPALIVE, SLOW)

LATE_S = 1.0
PACE_MARGIN = 1.02  # for 50 a second it begins 51, so that the count between two marks is never 49.9 a second
SLOW_PARTS_PER_S = 10
SLOW_BUFFER_BYTES = 64 * 1024  # small, or the kernel would buffer the whole file and the worker would be done


@dataclass(frozen=True, slots=True)
class Job:
    """What to do, as `load.py` sends it. `targets` are `address:port` by host name."""

    targets: dict[str, str]
    rate_per_s: float
    keepalive: int
    keepalive_rate_per_s: float
    slow: bool
    path: str
    slow_path: str
    slow_s: float
    deadline_s: float
    expect_status: int
    expect_body: str | None


class Ledger:
    """The record of all requests. A request is counted when it has ended, at the time at which it began."""

    def __init__(self) -> None:
        self.began_s: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self.failures: list[dict[str, Any]] = []
        self.late: list[dict[str, Any]] = []
        self.keepalive_lost: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.worst_lag_s = 0.0

    def answered(self, client: str, host: str, began_s: float, took_s: float) -> None:
        self.began_s[client, host].append(round(began_s, 4))
        if client != SLOW and took_s > LATE_S:
            self.late.append(self._entry(client, host, began_s, took_s))

    def failed(self, client: str, host: str, began_s: float, took_s: float, bad: BadAnswer) -> None:
        self.began_s[client, host].append(round(began_s, 4))
        entry = self._entry(client, host, began_s, took_s)
        self.failures.append({**entry, "what": bad.what.value, "detail": bad.detail})

    def lost(self, host: str, began_s: float, took_s: float) -> None:
        self.keepalive_lost.append(self._entry(KEEPALIVE, host, began_s, took_s))

    @staticmethod
    def _entry(client: str, host: str, began_s: float, took_s: float) -> dict[str, Any]:
        return {"client": client, "host": host, "began_s": began_s, "took_s": round(took_s, 4)}

    def to_json(self) -> str:
        began = [[client, host, times] for (client, host), times in self.began_s.items()]
        return json.dumps(
            {
                "began": began,
                "failures": self.failures,
                "late": self.late,
                "keepalive_lost": self.keepalive_lost,
                "counts": dict(self.counts),
                "worst_lag_s": round(self.worst_lag_s, 4),
                "cpu_s": sum(os.times()[:2]),
            }
        )


class Clients:
    """All clients of all hosts, until `stop` is called."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._targets = [Target.parse(host, text) for host, text in job.targets.items()]
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._stopped_at_s = math.inf
        self._in_flight: set[asyncio.Task[None]] = set()
        self.ledger = Ledger()
        # As many as wait for their deadline at once when all hosts are silent; more would be the client's own fault.
        self._most_in_flight = math.ceil(job.rate_per_s * PACE_MARGIN * (job.deadline_s + 1)) * len(self._targets)

    def stop(self) -> None:
        """Begin no further request. Those on the wire are finished, downloads at full speed."""
        self._stopping = True
        self._stopped_at_s = self._loop.time()

    async def run(self) -> None:
        """Return when the clients were stopped and every request has ended."""
        await asyncio.gather(*self._flows())
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def every_host_was_asked(self) -> None:
        """Return when each host has had an answer or a failure."""
        hosts = {target.host for target in self._targets}
        while not self._stopping and not hosts <= {host for _, host in self.ledger.began_s}:
            await asyncio.sleep(0.02)

    def _flows(self) -> list[Coroutine[Any, Any, None]]:
        job, flows = self._job, []
        for index, target in enumerate(self._targets):
            share = index / len(self._targets)
            if job.rate_per_s > 0:
                flows.append(self._new_connections(target, share))
            flows += [self._kept_alive(target, (share + lane) / job.keepalive) for lane in range(job.keepalive)]
            if job.slow:
                flows.append(self._slow_downloads(target))
        return flows

    async def _until(self, at_s: float) -> None:
        """Return at that time, or soon after the clients were stopped."""
        while not self._stopping and (pause_s := at_s - self._loop.time()) > 0:
            await asyncio.sleep(min(pause_s, 0.25))

    async def _new_connections(self, target: Target, share: float) -> None:
        every_s = 1 / (self._job.rate_per_s * PACE_MARGIN)
        request = _request(target, self._job.path, "close")
        at_s = self._loop.time() + share * every_s
        while True:
            await self._until(at_s)
            if at_s > self._stopped_at_s:
                return
            self.ledger.worst_lag_s = max(self.ledger.worst_lag_s, self._loop.time() - at_s)
            at_s += every_s
            if len(self._in_flight) >= self._most_in_flight:
                self.ledger.counts["withheld"] += 1
                continue
            task = self._loop.create_task(self._one_new(target, request))
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _one_new(self, target: Target, request: bytes) -> None:
        began_s = self._loop.time()
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._job.deadline_s):
                connection = Connection(target)
                await connection.open()
                self._judge(await connection.ask(request))
        except (BadAnswer, TimeoutError) as problem:
            self.ledger.failed(NEW, target.host, began_s, self._since(began_s), _as_bad(problem, connection))
        else:
            self.ledger.answered(NEW, target.host, began_s, self._since(began_s))
        finally:
            if connection is not None:
                connection.close()

    async def _kept_alive(self, target: Target, share: float) -> None:
        every_s = 1 / self._job.keepalive_rate_per_s
        request = _request(target, self._job.path, "keep-alive")
        connection: Connection | None = None
        at_s = self._loop.time() + share * every_s
        while True:
            await self._until(at_s)
            if self._stopping:
                break
            connection = await self._one_kept_alive(target, request, connection)
            # Closed loop: a late answer delays the next request, and what was missed is not sent in a burst.
            at_s = max(at_s + every_s, self._loop.time())
        if connection is not None:
            connection.close()

    async def _one_kept_alive(self, target: Target, request: bytes, last: Connection | None) -> Connection | None:
        """One request, on the last connection if it lives; the connection that the next request may use."""
        began_s = self._loop.time()
        connection = self._still_open(last)
        if connection is not None:
            try:
                return await self._exchange(target, request, connection, began_s)
            except NoAnswer:
                # The server closed it while the request was on its way: RFC 9112 9.3.1 lets a client ask again.
                self.ledger.lost(target.host, began_s, self._since(began_s))
        fresh: Connection | None = None
        try:
            fresh = Connection(target)
            return await self._exchange(target, request, fresh, began_s)
        except BadAnswer as bad:
            self.ledger.failed(KEEPALIVE, target.host, began_s, self._since(began_s), bad)
            return None

    def _still_open(self, last: Connection | None) -> Connection | None:
        if last is None or not last.ended_while_idle():
            return last
        self.ledger.counts["closed_idle"] += 1
        last.close()
        return None

    async def _exchange(
        self, target: Target, request: bytes, connection: Connection, began_s: float
    ) -> Connection | None:
        """A request and its answer, counted; raises `NoAnswer`, uncounted, when the connection ended without one."""
        is_kept = False
        try:
            async with asyncio.timeout(self._job.deadline_s):
                if not connection.answers:
                    await connection.open()
                answer = await connection.ask(request)
            self._judge(answer)
            is_kept = not answer.closes
        except NoAnswer:
            raise
        except (BadAnswer, TimeoutError) as problem:
            self.ledger.failed(KEEPALIVE, target.host, began_s, self._since(began_s), _as_bad(problem, connection))
            return None
        finally:
            if not is_kept:
                connection.close()
        self.ledger.answered(KEEPALIVE, target.host, began_s, self._since(began_s))
        self.ledger.counts["closed_announced"] += answer.closes
        return connection if is_kept else None

    async def _slow_downloads(self, target: Target) -> None:
        request = _request(target, self._job.slow_path, "close")
        while not self._stopping:
            began_s = self._loop.time()
            connection: Connection | None = None
            try:
                connection = Connection(target, receive_buffer_bytes=SLOW_BUFFER_BYTES)
                await self._download(connection, request)
            except (BadAnswer, TimeoutError) as problem:
                self.ledger.failed(SLOW, target.host, began_s, self._since(began_s), _as_bad(problem, connection))
                await self._until(self._loop.time() + LATE_S)
            else:
                self.ledger.answered(SLOW, target.host, began_s, self._since(began_s))
            finally:
                if connection is not None:
                    connection.close()

    async def _download(self, connection: Connection, request: bytes) -> None:
        """Read a file in about `slow_s` seconds. The deadline applies to each pause without data."""
        async with asyncio.timeout(self._job.deadline_s):
            await connection.open()
            status, length, _, first = await connection.head(request)
        if status != 200:
            raise BadAnswer(What.WRONG, f"status {status}")
        began_s, came = self._loop.time(), len(first)
        while came < length:
            await self._until(began_s + self._job.slow_s * came / length)
            part_bytes = max(1, int(length / (self._job.slow_s * SLOW_PARTS_PER_S)))
            async with asyncio.timeout(self._job.deadline_s):
                part = await connection.receive(min(part_bytes, length - came))
            if not part:
                raise BadAnswer(What.SHORT, f"{came} of {length} bytes")
            came += len(part)

    def _judge(self, answer: Answer) -> None:
        if answer.status != self._job.expect_status:
            raise BadAnswer(What.WRONG, f"status {answer.status}")
        expected = self._job.expect_body
        if expected is not None and answer.body.strip() != expected.encode():
            raise BadAnswer(What.WRONG, f"body {answer.body[:40]!r}")

    def _since(self, began_s: float) -> float:
        return self._loop.time() - began_s


def _request(target: Target, path: str, connection: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\nConnection: {connection}\r\n\r\n".encode()


def _as_bad(problem: BadAnswer | TimeoutError, connection: Connection | None) -> BadAnswer:
    if isinstance(problem, BadAnswer):
        return problem
    return BadAnswer(What.TIMED_OUT, connection.stage if connection is not None else "")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def work(job: Job) -> Ledger:
    """Run the clients until stdin ends; returns the report."""
    clients = Clients(job)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(sys.stdin.fileno())
        clients.stop()

    loop.add_reader(sys.stdin.fileno(), stop)
    running = loop.create_task(clients.run())
    await clients.every_host_was_asked()
    _say("started")
    await running
    return clients.ledger


def main() -> None:
    # For a silent host, each request holds a file descriptor until its deadline.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    job = Job(**json.loads(sys.stdin.readline()))
    _say(asyncio.run(work(job)).to_json())


if __name__ == "__main__":
    main()
