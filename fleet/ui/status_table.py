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
UNCONFIRMED = (
    "Only the new release runs, and fleet has not verified this master: the host was rebooted, or the old master died. "
    "Type `fleet commit` to verify and keep it, or `fleet rollback`."
)


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
    }


def _master(master: MasterView) -> dict[str, Any]:
    return dict(master._asdict())


def table(status: RolloutStatus) -> Group:
    """One row per host, and below them a line for each thing that the operator must know or can type."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "phase", "running", "file at path", "masters (workers)", "rollout"):
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


def _notes(host: HostStatus) -> list[str]:
    report = host.report
    if report is None:
        return [sentences(host.last.message, host.last.remedy) or host.last.reason or "no answer"]
    notes = []
    if report.held and report.undo:
        notes.append(f"Held. To roll back on the host: {report.undo}")
    if report.lease_left_s is not None:
        notes.append(f"Rolls itself back in {report.lease_left_s:.0f} s, unless fleet renews its lease or commits it.")
    if report.record is not None and report.record.why:
        notes.append(report.record.why)
    if report.unconfirmed:
        notes.append(UNCONFIRMED)
    if report.drain_pending:
        notes.append(
            "Old workers still finish connections: `fleet commit` waits for them, `fleet commit --cut` closes them."
        )
    if report.phase in (Phase.DOWN, Phase.STRANDED, Phase.FOREIGN):
        notes.append(f"{report.phase.value}: {_phase_note(report)}")
    if report.orphans:
        pids = listed(map(str, report.orphans))
        notes.append(f"Workers without a master still serve connections, do not kill them: pid {pids}.")
    return notes


def _phase_note(report: Report) -> str:
    """What a phase that needs a person means, and what to type."""
    match report.phase:
        case Phase.DOWN:
            start = f" Start it on the host: {report.start_command}" if report.start_command else ""
            return f"no nginx master runs, and fleet never starts one.{start}"
        case Phase.STRANDED:
            old = next((str(master.pid) for master in report.masters if master.is_old), "PID_OF_THE_OLD_MASTER")
            return f"no worker accepts connections. Type `fleet rollback` now, or on the host: kill -HUP {old}"
        case _:
            return (
                "the masters are not the ones that a rollout left. Look at them on the host (ps -fC nginx) and decide "
                "which one stays."
            )
