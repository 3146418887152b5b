"""The results of a rollout or a check as tables: the summary of all hosts, their errors, the findings of preflight.

Pure functions of status. A host's words are data: rich reads none of them as markup, and `safe` takes out control characters.
"""

from collections.abc import Iterable

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.text import safe, sentences
from fleet.rollout.host_status import FaultKind, HostStatus, Progress
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.host_text import not_begun, outcome_text, phase_text, rehearsal_text, version


def summary_table(status: RolloutStatus) -> Table:
    """One row per host: what it ran before and runs now, and what became of it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "before", "now", "phase", "outcome", "seconds"):
        table.add_column(name, overflow="fold", justify="right" if name == "seconds" else "left")
    for host in status.all:
        before, now = host.first_report, None if host.last.unanswered else host.report
        table.add_row(
            Text(safe(host.name)),
            Text(version(before.running_version, before.running_sha256) if before else "?"),
            Text(version(now.running_version, now.running_sha256) if now else "?"),
            phase_text(now.phase if now else None),
            Text(outcome_text(host), style="red" if host.fault or host.needs_person else ""),
            f"{host.past.moving_s:.1f}",
        )
    return table


def host_errors(status: RolloutStatus) -> Group:
    """For every host with something wrong: its name, what is wrong, what to do."""
    return Group(*(Text(line) for host in status.all for line in _error_lines(host)))


def _error_lines(host: HostStatus) -> list[str]:
    refusals = [found for found in host.findings if found.severity is Severity.REFUSAL]
    if refusals and host.fault and host.fault.kind is FaultKind.REFUSED:
        return [f"{safe(host.name)}: {finding_line(found)}" for found in refusals]
    lines = []
    if host.fault is not None:
        why = host.fault.message or host.fault.reason or "no reason given"
        lines.append(safe(f"{host.name}: {sentences(why, host.fault.remedy)}"))
    is_left = host.progress is Progress.LEFT_ALONE and not not_begun(host)
    last = host.last
    if (is_left or host.needs_person) and last.message and (host.fault is None or last.message != host.fault.message):
        lines.append(safe(f"{host.name}: {sentences(last.message, last.remedy)}"))
    return lines


def finding_line(found: Finding) -> str:
    """A finding in one line: severity, reason, message, remedy."""
    return safe(f"{found.severity.value} {found.reason}: {sentences(found.message, found.remedy)}")


def findings_table(hosts: Iterable[HostStatus], is_staged: bool = True) -> Table:
    """What preflight found, host by host; a host without findings has a row, too. The last row of a host: its rehearsal."""
    passed = "can be upgraded" if is_staged else "passed (release not staged)"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("host", "finding", "message"):
        table.add_column(name, overflow="fold")
    for host in hosts:
        if host.fault is not None and not host.findings:
            why = Text(safe(sentences(host.last.message, host.last.remedy)))
            table.add_row(
                Text(safe(host.name)), Text(safe(host.last.reason or host.fault.kind.value), style="red"), why
            )
        elif not host.findings:
            so = "runs this release already" if host.progress is Progress.RAN_ALREADY else passed
            table.add_row(Text(safe(host.name)), Text("ok", style="green"), Text(so))
        for found in host.findings:
            is_refusal = found.severity is Severity.REFUSAL
            table.add_row(
                Text(safe(host.name)),
                Text(f"{found.severity.value}: {safe(found.reason)}", style="red" if is_refusal else "yellow"),
                Text(safe(sentences(found.message, found.remedy))),
            )
        rehearsal = host.report.rehearsal if host.report else None
        if rehearsal is not None:
            word = "rehearsed" if rehearsal.why_not is None else "not rehearsed"
            table.add_row(
                Text(safe(host.name)), *(Text(each, style="dim") for each in (word, rehearsal_text(rehearsal)))
            )
    return table
