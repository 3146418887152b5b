"""`fleet show ROLLOUT`: what happened in a rollout, by the journal. No host is asked."""

from fleet.commands.engine_run import command_output
from fleet.environment import CommandOptions
from fleet.errors import Refused
from fleet.journal.journal import Journal
from fleet.journal.location import journal_location
from fleet.journal.run_summary import RolloutSummary
from fleet.rollout import results
from fleet.rollout.rollout_status import RolloutStatus, fold
from fleet.ui import history_tables
from fleet.ui.output import Mode, Output
from fleet.ui.result_tables import host_errors, summary_table


def run(options: CommandOptions, wanted: str | None, as_json: bool) -> int:
    """What happened in a rollout is on stdout, run after run; 0. Raises `Refused` when no or no single one is meant."""
    output = command_output(options)
    location = journal_location(options.journal)
    if location.path is not None and not location.path.exists():
        raise Refused(f"there is no journal {location.display_name} yet.", "`fleet status` asks the hosts themselves.")
    with Journal.open(options.journal) as journal:
        story = RolloutSummary(journal.runs(journal.find(wanted)))
        told = [(run, journal.events(run.rollout, run.run)) for run in story.runs]
    if as_json:
        output.document(history_tables.show_document(told))
        return results.OK
    if output.mode is Mode.JSONL:
        for _, events in told:
            output.events(events)
        return results.OK
    output.line(f"Rollout {story.rollout}")
    for run, events in told:
        status = RolloutStatus(run.rollout)
        for event in events:
            status = fold(status, event)
        _show_run(output, tuple(history_tables.heading(story, run)), status, tuple(history_tables.lines(events)))
    return results.OK


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
