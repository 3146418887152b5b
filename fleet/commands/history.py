"""`fleet history`: the rollouts in the journal. No host is contacted."""

from fleet.environment import CommandOptions
from fleet.journal.journal import Journal
from fleet.journal.location import journal_location
from fleet.journal.run_summary import RolloutSummary
from fleet.rollout import results
from fleet.runs.engine_run import command_output
from fleet.ui import history_tables


def run(options: CommandOptions, most: int, as_json: bool) -> int:
    """Prints the rollouts, the newest first; returns 0. A journal that does not exist is empty, and is not created."""
    output = command_output(options)
    location = journal_location(options.journal)
    if location.path is not None and not location.path.exists():
        summaries: tuple[RolloutSummary, ...] = ()
    else:
        with Journal.open(options.journal) as journal:
            summaries = journal.rollouts(most)
    if as_json:
        output.document(history_tables.document(summaries))
    elif summaries:
        output.result(history_tables.rollout_list(summaries))
    else:
        output.say(f"The journal {location.display_name} holds no rollout yet.")
    return results.OK
