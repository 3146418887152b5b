"""`fleet status`: the state of every host, as a table and as the JSON document `fleet.status/1`.

Later versions may add keys to the document; they never change the meaning of a key. A host that did not answer has
`phase` null and an `error`.
"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.onhost.protocol import MasterView, Phase, Report
from fleet.onhost.text import listed, safe, sentences
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.host_text import phase_text, version

SCHEMA = "fleet.status/1"
MOST_MASTERS = 8
HINTS = {
    Phase.DOWN: "DOWN; fleet never starts nginx",
    Phase.STRANDED: "STRANDED, no worker accepts; wake the old master now: `fleet rollback`, or kill -HUP its pid there",
    Phase.FOREIGN: "FOREIGN, the masters are not what a rollout left there; a person must look at them and choose "
    "which one stays",
}

UNCONFIRMED = (
    "unconfirmed: the new release serves alone, but no visit has verified this master (the host was booted, or the old "
    "master died). `fleet commit` verifies it first, `fleet rollback` takes it back"
)


def document(status: RolloutStatus) -> dict[str, Any]:
    """The whole document."""
    return {"schema": SCHEMA, "hosts": [host_document(host) for host in status.all]}


def host_document(host: HostStatus) -> dict[str, Any]:
    """One host of it. `error` is what kept it from answering, or null."""
    report = host.report
    record = report.record if report else None
    return {
        "name": host.name,
        "phase": report.phase.value if report else None,
        "running_sha256": report.running_sha256 if report else None,
        "running_version": report.running_version if report else None,
        "path_sha256": report.path_sha256 if report else None,
        "held": bool(report and report.held),
        "masters": [_master(master) for master in report.masters] if report else [],
        "error": None
        if report
        else {"reason": host.last.reason, "message": sentences(host.last.message, host.last.remedy)},
        "path": report.path if report else None,
        "path_version": report.path_version if report else None,
        "pid_file": report.pid_file if report else None,
        "rollout": record.rollout if record else None,
        "operator": record.operator if record else None,
        "state": record.state.value if record else None,
        "undo": report.undo if report else None,
        "drain_pending": bool(report and report.drain_pending),
        "start_command": report.start_command if report else None,
        "orphans": list(report.orphans) if report else [],
        "unconfirmed": bool(report and report.unconfirmed),
        "lease_left_s": round(report.lease_left_s, 1) if report and report.lease_left_s is not None else None,
        "why": (record.why or None) if record else None,
        "claim": dict(report.claim._asdict()) if report and report.claim else None,
    }


def _master(master: MasterView) -> dict[str, Any]:
    return dict(master._asdict())


def table(status: RolloutStatus) -> Group:
    """One row per host, and below what a person may want to know or type."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "phase", "running", "file at the path", "masters", "rollout"):
        found.add_column(name, overflow="fold")
    for host in status.all:
        found.add_row(Text(safe(host.name)), phase_text(host.phase), *(Text(word) for word in _row(host.report)))
    return Group(found, *(Text(safe(f"{host.name}: {note}")) for host in status.all for note in _notes(host)))


def _row(report: Report | None) -> tuple[str, ...]:
    if report is None:
        return ("?", "", "", "")
    running = version(report.running_version, report.running_sha256)
    return running, _path(report), _masters(report), _rollout(report)


def _path(report: Report) -> str:
    if report.path_sha256 == report.running_sha256:
        return "the same"
    return version(report.path_version, report.path_sha256)


def _masters(report: Report) -> str:
    """`812 (old, 0+2 draining) 990 (4)`: workers that accept, and those that finish."""
    words = []
    for master in report.masters[:MOST_MASTERS]:
        inside = ("old, " if master.is_old else "") + str(master.workers)
        words.append(f"{master.pid} ({inside}" + (f"+{master.draining} draining)" if master.draining else ")"))
    more = len(report.masters) - MOST_MASTERS
    return " ".join(words + ([f"and {more} more"] if more > 0 else [])) or "none"


def _rollout(report: Report) -> str:
    record = report.record
    return safe(f"{record.rollout} {record.state.value.replace('_', ' ')}, {record.operator}") if record else ""


def _notes(host: HostStatus) -> list[str]:
    report = host.report
    if report is None:
        return [sentences(host.last.message, host.last.remedy) or host.last.reason or "it did not answer"]
    notes = []
    if report.held and report.undo:
        notes.append(f"held; to undo it there, on the host itself: {report.undo}")
    if report.lease_left_s is not None:
        notes.append(f"goes back by itself in {report.lease_left_s:.0f} s, unless it is committed or visited before")
    if report.record is not None and report.record.why:
        notes.append(report.record.why)
    if report.unconfirmed:
        notes.append(UNCONFIRMED)
    if report.drain_pending:
        notes.append("old connections still drain: `fleet commit` waits for them, `fleet commit --cut` ends them")
    if report.phase in HINTS:
        start = f", the command is: {report.start_command}" if report.start_command else ""
        notes.append(HINTS[report.phase] + (start if report.phase is Phase.DOWN else ""))
    if report.orphans:
        notes.append("workers without a master serve, leave them: " + listed([str(pid) for pid in report.orphans]))
    return notes
