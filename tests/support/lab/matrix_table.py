"""The kill matrix as a page: the result of every cell, with the seed and the commit of the run."""

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.support.lab.end_state import Result
from tests.support.lab.matrix import ROWS, Cell, Ending, Fault, impossible, systemd_cells

INTRODUCTION = """\
# The kill matrix

Every cell is two real runs on a lab host of its own. In each run a fault strikes at that moment of a rollout. Then the
operator types `fleet resume` in one run, and `fleet rollback` in the other. A run counts only if the host's own journal
shows, at the moment of the fault, that the step had begun and had no result yet (for `connect`, `upload`, `between` and
`idle`: that no step was open). In `idle` the host bakes, and its step script waits for the next request. *Conversation dies
while idle*: from that moment on every step script ends as soon as it has answered a request; the command must not mind.

A cell reads *failed requests in both runs* · *phase in `fleet status` after the fault* · *phase after resume* · *phase after
rollback*. Requests fail only where the fault took the power or the only serving master away; the cell then says for how
long no worker served. DOWN: no master is left, and its old workers go on serving. Both commands report that (exit code
4) and print the command that starts nginx; after it was typed the next upgrade worked, as after every other cell. The
requests that a killed worker was answering at that moment are lost with it, and are not counted.
"""


SYSTEMD = """\
# The kill matrix on hosts with systemd

The cells of [kill-matrix.md](kill-matrix.md), but those of a full disk, on hosts whose PID 1 is systemd, with Debian's unit.
The reload and the restart are `systemctl reload` and `systemctl restart` there, and a guarded unit refuses the restart. When
the only master is killed, systemd ends its workers too, and the host serves nothing until somebody starts nginx.
"""


def page(results: Mapping[Cell, Result], seed: int, commit: str) -> str:
    """The whole page of the plain hosts, in Markdown."""
    return "\n".join([INTRODUCTION, _made(results, seed, commit), "", *_table(results), "", *_notes(), ""])


def systemd_page(results: Mapping[Cell, Result], seed: int, commit: str) -> str:
    """The whole page of the hosts with systemd."""
    played = [cell for cell in systemd_cells() if cell in results]
    return "\n".join([SYSTEMD, _made(results, seed, commit), "", *_table({cell: results[cell] for cell in played}), ""])


def _made(results: Mapping[Cell, Result], seed: int, commit: str) -> str:
    failed = sum(bool(result.problems) for result in results.values())
    asked = sum(result.requests for result in results.values())
    lost = sum(result.failed for result in results.values())
    return (
        f"Made from commit {commit}, seed {seed}: {len(results)} runs, {failed} failed; "
        f"{asked} requests, {lost} of them failed."
    )


def _table(results: Mapping[Cell, Result]) -> Iterable[str]:
    yield "| | " + " | ".join(row.name for row in ROWS) + " |"
    yield "|---" * (len(ROWS) + 1) + "|"
    for fault in Fault:
        yield f"| **{fault.value}** | " + " | ".join(_cell(results, row.name, fault) for row in ROWS) + " |"


def _cell(results: Mapping[Cell, Result], row: str, fault: Fault) -> str:
    why = impossible(row, fault)
    if why is not None:
        return f"n/a ({_reasons().index(why) + 1})"
    both = [results.get(Cell(row, fault, ending)) for ending in Ending]
    runs = [result for result in both if result is not None]
    if not runs:
        return "not run"
    unserved_s = max(result.unserved_s for result in runs)
    failed = str(sum(result.failed for result in runs)) + (f" ({unserved_s:.2f} s)" if unserved_s else "")
    phases = "/".join(sorted({result.phase for result in runs}))
    ends = [result.ended or "?" if result is not None else "not run" for result in both]
    mark = " **FAILED**" if any(result.problems for result in runs) else ""
    return " · ".join([failed, phases, *ends]) + mark


def _notes() -> Iterable[str]:
    yield "Not possible:"
    yield ""
    yield from (f"{number}. {why}." for number, why in enumerate(_reasons(), 1))


def _reasons() -> list[str]:
    found = (impossible(row.name, fault) for row in ROWS for fault in Fault)
    return sorted({why for why in found if why is not None})


def commit_of(folder: Path) -> str:
    """The commit of the tree, and whether it has been changed since."""
    git = ["git", "-c", "safe.directory=*", "-C", str(folder)]
    name = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True).stdout.strip()
    return (name or "unknown") + (" and changes" if changed else "")
