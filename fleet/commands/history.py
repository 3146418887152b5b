"""`fleet history`: the rollouts that the journal knows. No host is asked."""

from fleet.commands.engine_run import command_output
from fleet.environment import CommandOptions
from fleet.journal.journal import Journal
from fleet.journal.location import place_of
from fleet.journal.run_summary import Story
from fleet.rollout import results
from fleet.ui import history_tables


def run(options: CommandOptions, most: int, as_json: bool) -> int:
    """The rollouts are on stdout, the newest first; 0. A journal that isn't there yet knows none, and is not made."""
    output = command_output(options)
    place = place_of(options.journal)
    if place.path is not None and not place.path.exists():
        stories: tuple[Story, ...] = ()
    else:
        with Journal.open(options.journal) as journal:
            stories = journal.rollouts(most)
    if as_json:
        output.document(history_tables.document(stories))
    elif stories:
        output.result(history_tables.listing(stories))
    else:
        output.say(f"The journal {place.shown} knows no rollout yet.")
    return results.OK
