"""What a bench has found, as a file of JSON: it can be added to, and the page is made from it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.peers.figures import Figures
from tests.bench.peers.jobs import Job


@dataclass(frozen=True, slots=True)
class Row:
    """All runs of one contender: one job, so many hosts, so long a round trip. The runs are in the order of the rounds."""

    hosts: int
    delay_ms: float
    job: Job
    name: str
    runs: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """A figure of its own, with what it is measured against; in one order of rounds. `unit` is that of both."""

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """A whole bench: `facts` are about the machine and the versions of the programs."""

    facts: dict[str, str]
    rows: tuple[Row, ...] = ()
    probes: tuple[Probe, ...] = field(default=())

    def write(self, path: Path) -> None:
        rows = [{**asdict(row), "job": row.job.name} for row in self.rows]
        plain = {"facts": self.facts, "rows": rows, "probes": [asdict(probe) for probe in self.probes]}
        path.write_text(json.dumps(plain, indent=1) + "\n")


def read(path: Path) -> Results:
    plain = json.loads(path.read_text())
    rows = [
        Row(**{**row, "job": Job[row["job"]], "runs": tuple(Figures(**run) for run in row["runs"])})
        for row in plain["rows"]
    ]
    probes = [
        Probe(**{**probe, "ours": tuple(probe["ours"]), "theirs": tuple(probe["theirs"])}) for probe in plain["probes"]
    ]
    return Results(plain["facts"], tuple(rows), tuple(probes))


def together(several: Sequence[Results]) -> Results:
    """Several benches as one. Where two have the same row, the later one counts."""
    rows = {(row.hosts, row.delay_ms, row.job, row.name): row for each in several for row in each.rows}
    probes = {probe.what: probe for each in several for probe in each.probes}
    facts = {name: value for each in several for name, value in each.facts.items()}
    return Results(facts, tuple(rows.values()), tuple(probes.values()))


def find(rows: Iterable[Row], like: Row, name: str) -> Row | None:
    """The row of another contender beside this one."""
    place = (like.hosts, like.delay_ms, like.job, name)
    return next((row for row in rows if (row.hosts, row.delay_ms, row.job, row.name) == place), None)
