"""`fleet history` and `fleet show ROLLOUT`: what the journal knows. No host is asked."""

from fleet import history as face
from fleet.commands.run import output_of
from fleet.console import summary, troubles
from fleet.errors import Refused
from fleet.journal.store import Journal
from fleet.journal.story import Story
from fleet.journal.where import place_of
from fleet.output import Mode, Output
from fleet.rollout import ending
from fleet.rollout.status import RolloutStatus, fold
from fleet.world import Asked


def run(asked: Asked, most: int, as_json: bool) -> int:
    """The rollouts are on stdout, the newest first; 0. A journal that isn't there yet knows none, and is not made."""
    output = output_of(asked)
    place = place_of(asked.journal)
    if place.path is not None and not place.path.exists():
        stories: tuple[Story, ...] = ()
    else:
        with Journal.open(asked.journal) as journal:
            stories = journal.rollouts(most)
    if as_json:
        output.document(face.document(stories))
    elif stories:
        output.result(face.listing(stories))
    else:
        output.say(f"The journal {place.shown} knows no rollout yet.")
    return ending.OK


def show(asked: Asked, wanted: str | None, as_json: bool) -> int:
    """What happened in a rollout is on stdout, run after run; 0. Raises `Refused` when no or no single one is meant."""
    output = output_of(asked)
    place = place_of(asked.journal)
    if place.path is not None and not place.path.exists():
        raise Refused(f"there is no journal {place.shown} yet.", "`fleet status` asks the hosts themselves.")
    with Journal.open(asked.journal) as journal:
        story = Story(journal.runs(journal.find(wanted)))
        told = [(run, journal.events(run.rollout, run.run)) for run in story.runs]
    if as_json:
        output.document(face.show_document(told))
        return ending.OK
    if output.mode is Mode.JSONL:
        for _, events in told:
            output.events(events)
        return ending.OK
    output.line(f"Rollout {story.rollout}")
    for run, events in told:
        status = RolloutStatus(run.rollout)
        for event in events:
            status = fold(status, event)
        _show_run(output, tuple(face.heading(story, run)), status, tuple(face.lines(events)))
    return ending.OK


def _show_run(output: Output, heading: tuple[str, ...], status: RolloutStatus, lines: tuple[str, ...]) -> None:
    output.line("")
    for line in heading:
        output.line(line)
    output.line("")
    output.result(summary(status))
    output.result(troubles(status))
    output.line("")
    for line in lines:
        output.line(line)
