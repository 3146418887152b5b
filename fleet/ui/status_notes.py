"""The lines below the table of `fleet status`: what the operator must know of a host, and can type."""

from fleet.onhost.protocol import Phase, Report
from fleet.onhost.text import listed, sentences
from fleet.rollout.host_status import HostStatus

UNCONFIRMED = (
    "Only the new release runs, and fleet has not verified this master: the host was rebooted, or the old master died. "
    "Type `fleet commit` to verify and keep it, or `fleet rollback`."
)


def status_notes(host: HostStatus) -> list[str]:
    """A line for each."""
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
