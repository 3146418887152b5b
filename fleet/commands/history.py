"""`fleet history`: the rollouts that the journal knows. No host is asked."""

from fleet.commands.engine_run import command_output
from fleet.environment import CommandOptions
from fleet.journal.journal import Journal
from fleet.journal.location import journal_location
from fleet.journal.run_summary import RolloutSummary
from fleet.rollout import results
from fleet.ui import history_tables


def run(options: CommandOptions, most: int, as_json: bool) -> int:
    """The rollouts are on stdout, the newest first; 0. A journal that isn't there yet knows none, and is not made."""
    output = command_output(options)
    location = journal_location(options.journal)
    if location.path is not None and not location.path.exists():
        stories: tuple[RolloutSummary, ...] = ()
    else:
        with Journal.open(options.journal) as journal:
            stories = journal.rollouts(most)
    if as_json:
        output.document(history_tables.document(stories))
    elif stories:
        output.result(history_tables.rollout_list(stories))
    else:
        output.say(f"The journal {location.display_name} holds no rollout yet.")
    return results.OK
