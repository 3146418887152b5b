"""`fleet status`: the state of every host, as a table and as the JSON document `fleet.status/1`.

Later versions may add keys to the document; they never change the meaning of a key. A host that did not answer has
`phase` null and an `error`.
"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.onhost.protocol import Report
from fleet.onhost.text import listed, safe, sentences
from fleet.onhost.views import DrainView, MasterView, PackageView, RetirementView, UnitView, WatcherView
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.host_text import phase_text, version
from fleet.ui.status_notes import status_notes

View = UnitView | PackageView | WatcherView | DrainView | RetirementView

SCHEMA = "fleet.status/1"
MOST_MASTERS = 8


def document(status: RolloutStatus) -> dict[str, Any]:
    """The document `fleet.status/1`."""
    return {"schema": SCHEMA, "hosts": [host_document(host) for host in status.all]}


def host_document(host: HostStatus) -> dict[str, Any]:
    """One host of the document. `error` says why it did not answer; it is null if it did."""
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
        "unit": _values(report and report.unit),
        "package": _values(report and report.package),
        "watcher": _values(report and report.watcher),
        "drain": _values(report and report.drain),
        "retirement": _values(report and report.retirement),
        "committed_by": (report.committed_by or None) if report else None,
    }


def _values(view: View | None) -> dict[str, Any] | None:
    return dict(view._asdict()) if view is not None else None


def _master(master: MasterView) -> dict[str, Any]:
    return dict(master._asdict())


def table(status: RolloutStatus) -> Group:
    """One row per host, and below them a line for each thing that the operator must know or can type."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "phase", "running", "file at path", "masters (workers)", "rollout"):
        found.add_column(name, overflow="fold")
    for host in status.all:
        found.add_row(Text(safe(host.name)), phase_text(host.phase), *(Text(word) for word in _row(host.report)))
    return Group(found, *(Text(safe(f"{host.name}: {note}")) for host in status.all for note in status_notes(host)))


def _row(report: Report | None) -> tuple[str, ...]:
    if report is None:
        return ("?", "", "", "")
    running = version(report.running_version, report.running_sha256)
    return running, _path(report), _masters(report), _rollout(report)


def _path(report: Report) -> str:
    if report.path_sha256 == report.running_sha256:
        return "same"
    return version(report.path_version, report.path_sha256)


def _masters(report: Report) -> str:
    """`812 (old: 0, 2 draining) 990 (4)`: the workers that accept connections, and those that finish theirs."""
    return listed(map(_master_words, report.masters), MOST_MASTERS, " ") or "none"


def _master_words(master: MasterView) -> str:
    old = "old: " if master.is_old else ""
    draining = f", {master.draining} draining" if master.draining else ""
    return f"{master.pid} ({old}{master.workers}{draining})"


def _rollout(report: Report) -> str:
    record = report.record
    return safe(f"{record.rollout} {record.state.value.replace('_', ' ')}, {record.operator}") if record else ""
