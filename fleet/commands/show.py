"""`fleet show ROLLOUT`: what happened in a rollout, from the journal. No host is contacted."""

from dataclasses import replace
from functools import reduce

from fleet.environment import CommandOptions
from fleet.errors import Refused
from fleet.journal.journal import Journal
from fleet.journal.location import journal_location
from fleet.journal.run_summary import RolloutSummary
from fleet.rollout import results
from fleet.rollout.own_hosts import JournaledHosts, hosts_of_run, journaled_hosts
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.runs.engine_run import command_output
from fleet.ui import history_tables
from fleet.ui.output import Mode, Output
from fleet.ui.result_tables import host_errors, summary_table


def run(options: CommandOptions, prefix: str | None, as_json: bool) -> int:
    """Prints the rollout, run after run; returns 0. Raises `Refused` if `prefix` matches none or several."""
    output = command_output(options)
    location = journal_location(options.journal)
    if location.path is not None and not location.path.exists():
        ask = options.typed.other("status").quoted
        raise Refused(f"There is no journal {location.display_name} yet.", f"Ask the hosts instead: {ask}.")
    with Journal.open(options.journal) as journal:
        summary = RolloutSummary(journal.runs(journal.find(prefix)))
        recorded = [(run, journal.events(run.rollout, run.run)) for run in summary.runs]
    journaled = journaled_hosts(summary.rollout, (event for _, events in recorded for event in events))
    runs = [
        (run, _own(reduce(fold, events, RolloutStatus(run.rollout)), journaled), events) for run, events in recorded
    ]
    if as_json:
        names = dict.fromkeys((*journaled.planned, *(name for _, status, _ in runs for name in status.hosts)))
        output.document(history_tables.show_document(recorded, names))
        return results.OK
    if output.mode is Mode.JSONL:
        for _, events in recorded:
            output.events(events)
        return results.OK
    output.line(f"Rollout {summary.rollout}")
    for run, status, events in runs:
        _show_run(output, tuple(history_tables.heading(summary, run)), status, tuple(history_tables.lines(events)))
    return results.OK


def _own(status: RolloutStatus, journaled: JournaledHosts) -> RolloutStatus:
    """The status of a run, of the rollout's own hosts alone."""
    return replace(status, hosts=hosts_of_run(status, journaled))


def _show_run(output: Output, heading: tuple[str, ...], status: RolloutStatus, lines: tuple[str, ...]) -> None:
    output.line("")
    for line in heading:
        output.line(line)
    output.line("")
    output.result(summary_table(status))
    output.result(host_errors(status))
    output.line("")
    for line in lines:
        output.line(line)
