"""`fleet status`: what every host says of itself now."""

from fleet.commands.engine_run import hosts_of, look_at, output_of
from fleet.environment import Asked, World
from fleet.rollout import results
from fleet.ui import status_table as face
from fleet.ui.console import alarms


def run(world: World, asked: Asked, as_json: bool) -> int:
    """The table or the document is on stdout. 0 when every host answered, else 4."""
    output = output_of(asked)
    looked = look_at(world, output, hosts_of(asked), asked)
    if as_json:
        output.document(face.document(looked))
    else:
        output.result(face.table(looked))
    if looked.exit_code != results.OK:
        output.say(looked.message)
    output.shout(alarms(looked))
    return looked.exit_code or results.OK
