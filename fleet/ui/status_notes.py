"""The lines below the table of `fleet status`: what the operator must know of a host, and can type."""

from fleet.onhost.protocol import Phase, Report
from fleet.onhost.text import counted, listed, sentences
from fleet.onhost.views import SILENT_S, DrainView, RetirementView, WatcherView
from fleet.rollout.host_status import HostStatus
from fleet.ui.host_text import elapsed
from fleet.ui.path_notes import path_notes
from fleet.ui.unit_notes import unit_notes

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
    if report.watcher is not None and not report.watcher.is_alive:
        notes.append(_dead_watcher(report, report.watcher))
    elif report.lease_left_s is not None:
        notes.append(f"Rolls itself back in {report.lease_left_s:.0f} s, unless fleet renews its lease or commits it.")
    if report.record is not None and report.record.why:
        notes.append(report.record.why)
    notes += unit_notes(report)
    if report.unconfirmed:
        notes.append(UNCONFIRMED)
    notes += path_notes(report)
    notes += _drain_notes(report)
    if report.phase in (Phase.DOWN, Phase.STRANDED, Phase.FOREIGN):
        notes.append(f"{report.phase.value}: {_phase_note(report)}")
    if report.orphans:
        pids = listed(map(str, report.orphans))
        notes.append(f"Workers without a master still serve connections, do not kill them: pid {pids}.")
    return notes


def _drain_notes(report: Report) -> list[str]:
    """What the old of two masters still has to finish, and what to type. A lone master's workers drain after any reload."""
    notes = [drain_text(report.drain)] if report.drain is not None and len(report.masters) == 2 else []
    is_dead = report.watcher is not None and not report.watcher.is_alive
    if report.retirement is not None and not is_dead:
        notes.append(_retirement_text(report.retirement))
    elif report.drain_pending:
        notes.append(
            "Old workers still finish connections: `fleet commit` waits for them, `fleet commit --cut` closes them."
        )
    return [" ".join(notes)] if notes else []


def drain_text(drain: DrainView) -> str:
    """`Draining for 12m03s: 4 connections on 2 old workers. worker_shutdown_timeout 30m00s cuts them in 17m57s.`"""
    since = "Draining, since when is not known" if drain.since_s is None else f"Draining for {elapsed(drain.since_s)}"
    ages = ", ".join(f"{count} for {elapsed(age_s)}" for age_s, count in drain.ages if count)
    parts = [
        ages if len(drain.ages) > 1 else "",
        f"{drain.silent} without data for {elapsed(SILENT_S)}" if drain.silent else "",
    ]
    more = f" ({'; '.join(filter(None, parts))})" if any(parts) else ""
    left = f"{counted(drain.connections, 'connection')} on {counted(drain.workers, 'old worker')}{more}"
    return f"{since}: {left}. {_cut_text(drain)}".rstrip()


def _retirement_text(retirement: RetirementView) -> str:
    """What the host does by itself, by when, and what stops it."""
    then = "are closed" if retirement.cut else "keep it held"
    return (
        "It retires its old master by itself once these have ended, unless `fleet rollback` comes before. Those left in "
        f"{elapsed(retirement.left_s)} {then}."
    )


def _cut_text(drain: DrainView) -> str:
    """When nginx itself closes what is left."""
    if drain.changed:
        return f"When nginx closes them is not known: {drain.changed}."
    if drain.shutdown_timeout_s is None:
        return "nginx never closes them: worker_shutdown_timeout is not set."
    timeout = f"worker_shutdown_timeout {elapsed(drain.shutdown_timeout_s)}"
    return (
        f"{timeout} cuts them in {elapsed(drain.cut_in_s)}." if drain.cut_in_s is not None else f"{timeout} cuts them."
    )


def _dead_watcher(report: Report, watcher: WatcherView) -> str:
    """The host owes a way back, or the end of a commit, and nothing there does it."""
    since = f" since {watcher.seen_at[:19].replace('T', ' ')} UTC" if watcher.seen_at else ""
    if report.lease_left_s is None:
        return f"Retirement: the watcher is dead{since}, it will not fire. Cure: `fleet commit`, which does it itself."
    return (
        f"Lease: the watcher is dead{since}, it will not fire. Cure: `fleet resume` starts it again; or decide now with "
        "`fleet commit` or `fleet rollback`."
    )


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
