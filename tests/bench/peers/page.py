"""docs/performance.md and its chart, made from results: `python -m tests.bench.peers.page RESULTS DOCS`."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median as middle

from tests.bench.peers.chart import chart
from tests.bench.peers.figures import Figures, median, ratio
from tests.bench.peers.jobs import Job
from tests.bench.peers.results import Probe, Results, Row, find, read

BESIDE = "xargs ssh, pinned"
HEAD = """\
# Performance

fleet beside the tools that do the same work, on the same hosts of `fleet lab`, in one run. `make bench` writes this page
(`make bench-long` measures all of it; both need root). The tools take turns.

- Controller and hosts share the CPUs of one machine, so wall times are compressed: they end where the CPUs do. CPU time is
  what carries over to real hosts. It is that of a control group: all that the tool started here, and all that happened on
  the hosts until half a second after the tool ended.
- `×` is a figure beside that of `xargs -P50 ssh` with the key exchange pinned to curve25519, the median of the ratios of
  runs in one round.
- Memory is the peak of anonymous memory here, sampled every 50 ms. Bytes are what went over the hosts' links, both ways.
- A lab is new at the beginning; each tool has met its hosts once before it is measured. The rows about a host that "has never
  met the tool" are those where fleet must send its step script, too.
- `failed` hosts did not run the right version afterwards, which is asked over HTTP.
- A round trip of 20 ms is made by a relay of packets on this machine, which uses CPU time of the same machine.
"""
MORE = """\
## What fleet does more

The peers run a shell script of 40 lines: `tests/bench/peers/upgrade.sh`. It swaps the binary, tests the configuration,
sends `USR2`, waits for two workers, sends `WINCH`, waits, sends `QUIT` and asks the binary for its version. The way back is
`tests/bench/peers/back.sh`. fleet does this, and in the same time:

| what | fleet | the script, and those who run it |
|---|---|---|
| host keys are checked | yes | OpenSSH, ansible-core, asyncssh and pyinfra; parallel-ssh and plain Fabric as used here don't |
| refuses what would fail, before the first change | preflight on every host | `nginx -t`, after the swap |
| sees that the new workers answer before the old ones go | probes, error log, listeners | counts processes |
| stops when hosts fail, and takes all back | yes | no |
| a host goes back by itself when nobody comes back | the lease and its watcher | no |
| survives a killed controller, a cut link, a second operator | journal, claim, lock, fencing | no |
| knows afterwards what ran where | record on the host, journal here | no |

"rehearsed" rows also try the upgrade on a private copy of each host first ([rehearsal.md](rehearsal.md)).
"""


def page(found: Results) -> str:
    """The text of the page."""
    facts = "".join(f"- {name}: {value}\n" for name, value in found.facts.items())
    parts = [HEAD, f"Measured with:\n\n{facts}", "![CPU time a host](performance.svg)\n", *_sections(found.rows)]
    if found.probes:
        parts.append("## Single figures\n\n" + "".join(_probes(found.probes)))
    return "\n".join([*parts, MORE])


def _sections(rows: Sequence[Row]) -> Iterator[str]:
    for job in Job:
        here = [row for row in rows if row.job is job]
        if here:
            yield f"## {job.value[0].upper()}{job.value[1:]}\n"
        for hosts, delay_ms in sorted({(row.hosts, row.delay_ms) for row in here}, key=lambda each: (each[1], each[0])):
            yield _table([row for row in here if (row.hosts, row.delay_ms) == (hosts, delay_ms)], rows)


def _table(rows: Sequence[Row], every: Sequence[Row]) -> str:
    """One job on so many hosts; the first row says how many runs there were."""
    first = rows[0]
    runs = "one run" if len(first.runs) == 1 else f"medians of {len(first.runs)} runs"
    back = first.job is Job.HELD
    head = ["wall s", "×", "controller CPU ms a host", "×", "host CPU ms a host", "×", "peak MB", "kB a host", "failed"]
    head += ["first host back s", "all back s"] if back else []
    lines = [
        f"{first.hosts} hosts, round trip + {first.delay_ms:g} ms, {runs}:\n",
        "| | " + " | ".join(head) + " |",
        "|---|" + "---:|" * len(head),
        *(_line(row, find(every, row, BESIDE), back) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row, beside: Row | None, back: bool) -> str:
    one = median(row.runs)
    theirs = beside.runs if beside is not None else ()

    def times(name: str) -> str:
        found = ratio(row.runs, theirs, name)
        return "" if found is None else f"{found:.2f}"

    cells = [
        f"{one.wall_s:.1f}",
        times("wall_s"),
        f"{1000 * one.controller_cpu_s / row.hosts:.0f}",
        times("controller_cpu_s"),
        f"{1000 * one.host_cpu_s / row.hosts:.0f}",
        times("host_cpu_s"),
        f"{one.peak_mb:.0f}",
        f"{one.wire_bytes / row.hosts / 1000:.0f}",
        f"{_failed(row.runs):.0f}",
    ]
    if back:
        cells += ["" if each is None else f"{each:.1f}" for each in (one.first_s, one.last_s)]
    return f"| {row.name} | " + " | ".join(cells) + " |"


def _failed(runs: Sequence[Figures]) -> float:
    """All hosts that failed in all runs: a median would hide them."""
    return sum(run.failed for run in runs)


def _probes(probes: Sequence[Probe]) -> Iterator[str]:
    yield "| figure | fleet | beside | × |\n|---|---:|---:|---:|\n"
    for one in probes:
        theirs = f"`{one.against}`: {middle(one.theirs):.1f} {one.unit}" if one.theirs else ""
        times = f"{middle(a / b for a, b in zip(one.ours, one.theirs, strict=True)):.2f}" if one.theirs else ""
        yield f"| {one.what} | {middle(one.ours):.1f} {one.unit} | {theirs} | {times} |\n"


def main() -> None:
    found, docs = read(Path(sys.argv[1])), Path(sys.argv[2])
    (docs / "performance.md").write_text(page(found))
    (docs / "performance.svg").write_text(chart(found.rows))


if __name__ == "__main__":
    main()
